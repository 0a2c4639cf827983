//! What is done to a cluster while clients write: a schedule by lot, from a seed. After each fault everything is healed, and
//! a write has to be accepted.

mod members;

use std::time::Duration;

use anyhow::Context as _;
use goat_testcluster::cluster::Condition;
use goat_testcluster::{Client, Cluster, tracer};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use tokio::time::Instant;

use crate::collected::Collected;
use crate::op::Book;

/// After healing, until a write is accepted; and for a change of members.
const WITHIN: Duration = Duration::from_secs(20);
const ENDS_WITHIN: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

/// Whom it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Leader,
    Follower,
    Majority,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Kill(Who),
    Freeze(Who),
    /// From all other managers, both ways.
    Isolate(Who),
    /// Hears the others and is not heard.
    Mute(Who),
    /// Is heard and hears nothing.
    Deaf(Who),
    /// Two sides that cannot reach each other.
    Halves,
    /// Clients do not reach it, or not back.
    NoClients(Who),
    /// Its disk reports that it could not write.
    SyncFails(Who),
    Transfer,
    /// A vote less, and back.
    Demote,
    /// Removed, and a new manager of its name joins.
    Replace(Who),
    /// One manager more, or that one less.
    Resize,
}

/// More often in the list is more often in the schedule.
pub const FAULTS: &[Fault] = &[
    Fault::Kill(Who::Leader),
    Fault::Kill(Who::Leader),
    Fault::Kill(Who::Follower),
    Fault::Kill(Who::Majority),
    Fault::Kill(Who::All),
    Fault::Freeze(Who::Leader),
    Fault::Freeze(Who::Leader),
    Fault::Freeze(Who::Follower),
    Fault::Freeze(Who::Majority),
    Fault::Isolate(Who::Leader),
    Fault::Isolate(Who::Leader),
    Fault::Isolate(Who::Follower),
    Fault::Mute(Who::Leader),
    Fault::Mute(Who::Follower),
    Fault::Deaf(Who::Leader),
    Fault::Deaf(Who::Follower),
    Fault::Halves,
    Fault::NoClients(Who::Leader),
    Fault::SyncFails(Who::Leader),
    Fault::SyncFails(Who::Follower),
    Fault::Transfer,
    Fault::Transfer,
    Fault::Demote,
    Fault::Replace(Who::Follower),
    Fault::Replace(Who::Leader),
    Fault::Resize,
];

/// A cluster that faults are played on.
#[derive(Debug)]
pub struct Field<'a> {
    pub cluster: &'a Cluster,
    pub client: Client,
    pub book: Book,
    pub rng: StdRng,
    /// Managers that take part; the others are spare.
    pub members: Vec<String>,
    pub collected: Collected,
    /// When a log was last collected: what snapshots purge must have been seen before.
    pub collected_at: Instant,
    /// What was done.
    pub told: Vec<String>,
}

impl Field<'_> {
    pub fn tell(&mut self, text: impl Into<String>) {
        self.told.push(format!("+{:.3} {}", self.book.now_us() as f64 / 1e6, text.into()));
    }

    /// One fault by lot, from its beginning until the cluster writes again.
    pub async fn play(&mut self) -> anyhow::Result<()> {
        let fault = *FAULTS.choose(&mut self.rng).expect("there are faults");
        let hold = Duration::from_millis(self.rng.random_range(150..2_500));
        if matches!(fault, Fault::Demote | Fault::Replace(_) | Fault::Resize) {
            self.whole().await?;
        }
        self.inflict(fault, hold).await.with_context(|| format!("{fault:?}"))?;
        let since_us = self.book.now_us();
        self.recovered(since_us).await.with_context(|| format!("after {fault:?} was over"))?;
        let rest = Duration::from_millis(self.rng.random_range(100..1_500));
        tokio::time::sleep(rest).await;
        Ok(())
    }

    async fn inflict(&mut self, fault: Fault, hold: Duration) -> anyhow::Result<()> {
        let hit = match fault {
            Fault::Kill(who)
            | Fault::Freeze(who)
            | Fault::Isolate(who)
            | Fault::Mute(who)
            | Fault::Deaf(who)
            | Fault::NoClients(who)
            | Fault::SyncFails(who)
            | Fault::Replace(who) => self.pick(who).await?,
            Fault::Demote => self.pick(Who::Follower).await?,
            Fault::Halves => {
                let from = self.rng.random_range(1..self.members.len());
                self.shuffled()[from..].to_vec()
            }
            Fault::Transfer | Fault::Resize => Vec::new(),
        };
        self.tell(format!("{fault:?} {} for {} ms", hit.join(" "), hold.as_millis()));
        match fault {
            Fault::Kill(_) => self.kill(&hit, hold).await,
            Fault::Freeze(_) => self.freeze(&hit, hold).await,
            Fault::SyncFails(_) => self.fail_syncs(&hit[0], hold).await,
            Fault::Transfer => self.transfer().await,
            Fault::Demote => self.demote(&hit[0]).await,
            Fault::Replace(_) => self.replace(&hit[0]).await,
            Fault::Resize => self.resize().await,
            _ => self.cut(fault, &hit, hold).await,
        }
    }

    fn shuffled(&mut self) -> Vec<String> {
        let mut names = self.members.clone();
        names.shuffle(&mut self.rng);
        names
    }

    /// Names of managers, the leader first where it is meant.
    pub async fn pick(&mut self, who: Who) -> anyhow::Result<Vec<String>> {
        let leader = self.leader().await?;
        let order = self.shuffled();
        Ok(match who {
            Who::Leader => vec![leader],
            Who::Follower => order.into_iter().filter(|name| *name != leader).take(1).collect(),
            Who::Majority => order.into_iter().take(self.members.len() / 2 + 1).collect(),
            Who::All => order,
        })
    }

    async fn leader(&self) -> anyhow::Result<String> {
        let deadline = Instant::now() + WITHIN;
        loop {
            // One that has just lost it may not know the next.
            let leader = self.client.status().await?.leader;
            if !leader.is_empty() {
                return Ok(leader);
            }
            anyhow::ensure!(Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn kill(&mut self, names: &[String], hold: Duration) -> anyhow::Result<()> {
        for name in names {
            self.cluster.kill(name, false).await?;
        }
        for name in names {
            self.collect(name)?;
        }
        tokio::time::sleep(hold).await;
        for name in names {
            self.cluster.start(name).await?;
        }
        Ok(())
    }

    /// Takes the log from a manager that does not run.
    pub fn collect(&mut self, name: &str) -> anyhow::Result<()> {
        let layout = self.cluster.layout();
        self.collected.add(name, &layout.data_dir(layout.find(name)?))?;
        self.collected_at = Instant::now();
        Ok(())
    }

    async fn freeze(&mut self, names: &[String], hold: Duration) -> anyhow::Result<()> {
        for name in names {
            self.cluster.freeze(name).await?;
        }
        tokio::time::sleep(hold).await;
        for name in names {
            self.cluster.thaw(name).await?;
        }
        Ok(())
    }

    async fn cut(&mut self, fault: Fault, hit: &[String], hold: Duration) -> anyhow::Result<()> {
        let one_way = self.rng.random_bool(0.5);
        for name in hit {
            if matches!(fault, Fault::NoClients(_)) {
                self.cluster.cut(name, "client", one_way)?;
                continue;
            }
            for other in self.members.iter().filter(|other| !hit.contains(other)) {
                match fault {
                    Fault::Mute(_) => self.cluster.cut(name, other, true)?,
                    Fault::Deaf(_) => self.cluster.cut(other, name, true)?,
                    _ => self.cluster.cut(name, other, false)?,
                }
            }
        }
        tokio::time::sleep(hold).await;
        self.cluster.heal()?;
        Ok(())
    }

    async fn fail_syncs(&mut self, name: &str, hold: Duration) -> anyhow::Result<()> {
        let status = self.cluster.status().await;
        let pid = status.iter().find(|member| member.name == name).and_then(|member| member.pid);
        let mut strace = match tracer::attach(pid.with_context(|| format!("{name} does not run"))?).await {
            Ok(strace) => strace,
            Err(error) => {
                self.tell(format!("its syncs were not made to fail: {error}"));
                return Ok(());
            }
        };
        tokio::time::sleep(hold).await;
        tracer::detach(&mut strace).await?;
        // It ends by itself, if it had anything to write.
        let deadline = Instant::now() + ENDS_WITHIN;
        while Instant::now() < deadline {
            let status = self.cluster.status().await;
            if status.iter().any(|member| member.name == name && matches!(member.condition, Condition::Ended(_))) {
                return Ok(self.cluster.start(name).await?);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn transfer(&mut self) -> anyhow::Result<()> {
        // It may fail for good reasons, under load for one; what matters is what clients see meanwhile.
        match self.client.transfer_leader("").await {
            Ok(reply) => self.tell(format!("{} leads now, term {}", reply.leader, reply.term)),
            Err(error) => self.tell(format!("not handed over: {error}")),
        }
        Ok(())
    }

    /// All managers run, and a write is accepted that was asked for since then.
    pub async fn recovered(&mut self, since_us: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + WITHIN;
        while !self.book.has_written_since(since_us) {
            anyhow::ensure!(Instant::now() < deadline, "no write was accepted within {} s", WITHIN.as_secs());
            tokio::time::sleep(POLL).await;
        }
        self.all_run().await
    }

    /// None has ended that was not made to.
    pub async fn all_run(&self) -> anyhow::Result<()> {
        for member in self.cluster.status().await {
            let is_member = self.members.contains(&member.name);
            if let Condition::Ended(how) = member.condition
                && is_member
            {
                let log = self.cluster.layout().log_path(&member.name);
                anyhow::bail!("{} has ended by itself ({how}); see {}", member.name, log.display());
            }
        }
        Ok(())
    }
}
