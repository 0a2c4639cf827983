//! What is done to single members: killed, frozen, without room, cut off, drained. Each is undone when its time is over.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use goat_testcluster::cluster::Condition;
use goat_testcluster::links::Rule;
use goat_testcluster::witness::now_ms;
use goat_testcluster::{daemons, tracer, volumes};
use tokio::time::Instant;

use super::causes::Kind;
use super::fault::{Fault, Way};
use super::ground::{Ended, Ground};
use super::weather::{Front, between, both_ways, slow};

/// What a disk that was full may cost a program after it has room again.
const ENDS_WITHIN: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);
/// Where nothing works without Docker, for it to answer.
const GRACE: Duration = Duration::from_secs(5);

impl Ground<'_> {
    pub(super) async fn kill_managers(&self, names: &[String], until: Instant) -> anyhow::Result<()> {
        let causes: Vec<_> = names.iter().map(|name| self.causes.begin(Kind::Manager, name)).collect();
        for name in names {
            if let Err(error) = self.cluster.kill(name, false).await {
                self.tell(format!("{name}: {error}"));
            }
        }
        self.hold(until).await;
        for name in names.iter().filter(|name| self.notes().members.contains(*name)) {
            if let Err(error) = self.cluster.start(name).await {
                self.tell(format!("{name}: {error}"));
            }
        }
        causes.into_iter().for_each(|cause| self.causes.end(cause));
        Ok(())
    }

    pub(super) async fn freeze(&self, name: &str, kind: Kind, until: Instant) -> anyhow::Result<()> {
        let cause = self.causes.begin(kind, name);
        self.cluster.freeze(name).await?;
        self.hold(until).await;
        self.cluster.thaw(name).await?;
        self.causes.end(cause);
        Ok(())
    }

    pub(super) async fn fail_syncs(&self, name: &str, until: Instant) -> anyhow::Result<()> {
        let status = self.cluster.status().await;
        let pid = status.iter().find(|member| member.name == name).and_then(|member| member.pid);
        let cause = self.causes.begin(Kind::Disk, name);
        let mut strace = tracer::attach(pid.with_context(|| format!("{name} does not run"))?).await?;
        self.hold(until).await;
        tracer::detach(&mut strace).await?;
        self.revived(name).await?;
        self.causes.end(cause);
        Ok(())
    }

    pub(super) async fn fill_manager(&self, name: &str, until: Instant) -> anyhow::Result<()> {
        let layout = self.cluster.layout();
        let dir = layout.data_dir(layout.find(name)?);
        self.fill(&dir, (Kind::Disk, name), until).await?;
        self.revived(name).await
    }

    pub(super) async fn fill_agent(&self, name: &str, until: Instant) -> anyhow::Result<()> {
        let layout = self.cluster.layout();
        let dir = layout.data_dir(layout.find(name)?);
        let cause = self.causes.begin(Kind::Disk, name);
        self.fill(&dir, (Kind::Agent, name), until).await?;
        self.revived(name).await?;
        self.causes.end(cause);
        Ok(())
    }

    pub(super) async fn fill_daemon(&self, worker: &str, until: Instant) -> anyhow::Result<()> {
        let dir = daemons::data_root(self.cluster.layout(), number(worker)?);
        self.fill(&dir, (Kind::Hang, worker), until).await
    }

    async fn fill(&self, dir: &Path, (kind, who): (Kind, &str), until: Instant) -> anyhow::Result<()> {
        let cause = self.causes.begin(kind, who);
        volumes::fill(dir, 0)?;
        self.hold(until).await;
        volumes::empty(dir)?;
        self.causes.end(cause);
        Ok(())
    }

    /// One whose disk failed it may have ended, which is as good as going on.
    async fn revived(&self, name: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + ENDS_WITHIN;
        while Instant::now() < deadline {
            for member in self.cluster.status().await.into_iter().filter(|member| member.name == name) {
                if let Condition::Ended(how) = member.condition {
                    self.tell(format!("{name} had ended by itself ({how}), and is started again"));
                    self.notes().ended.push(Ended { name: name.to_owned(), how, at_ms: now_ms() });
                    return Ok(self.cluster.start(name).await?);
                }
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    pub(super) async fn kill_agent(&self, name: &str, until: Instant) -> anyhow::Result<()> {
        let cause = self.causes.begin(Kind::Agent, name);
        self.cluster.kill(name, false).await?;
        self.hold(until).await;
        self.cluster.start(name).await?;
        self.causes.end(cause);
        Ok(())
    }

    /// The agent, its watchdog, every container and the daemon, as a machine's power goes.
    pub(super) async fn kill_machine(&self, name: &str, until: Instant) -> anyhow::Result<()> {
        let daemon = daemon_of(name);
        let cause = self.causes.begin(Kind::Machine, name);
        let killed = self.cluster.kill(name, true).await;
        self.cluster.kill(&daemon, false).await?;
        daemons::power_off(self.cluster.layout(), number(name)?).await;
        killed?;
        self.hold(until).await;
        self.cluster.start(&daemon).await?;
        self.cluster.start(name).await?;
        self.causes.end(cause);
        Ok(())
    }

    pub(super) async fn end_daemon(&self, worker: &str, is_asked: bool, until: Instant) -> anyhow::Result<()> {
        let daemon = daemon_of(worker);
        let kind = if self.is_live_restore { Kind::Hang } else { Kind::Daemon };
        let cause = self.causes.begin(kind, worker);
        let ended = match is_asked {
            true => self.cluster.stop(&daemon).await,
            false => self.cluster.kill(&daemon, false).await,
        };
        if let Err(error) = ended {
            self.tell(format!("{daemon}: {error}"));
        }
        self.hold(until).await;
        self.cluster.start(&daemon).await?;
        // Without live-restore it ends as it starts what it had left.
        self.answers(worker).await?;
        self.causes.end(cause);
        Ok(())
    }

    pub(super) async fn freeze_daemon(&self, worker: &str, until: Instant) -> anyhow::Result<()> {
        let daemon = daemon_of(worker);
        let cause = self.causes.begin(Kind::Hang, worker);
        self.cluster.freeze(&daemon).await?;
        self.hold(until).await;
        self.cluster.thaw(&daemon).await?;
        self.answers(worker).await?;
        self.causes.end(cause);
        Ok(())
    }

    async fn answers(&self, worker: &str) -> anyhow::Result<()> {
        Ok(daemons::ready(self.cluster.layout(), number(worker)?).await?)
    }

    pub(super) async fn bad_weather(&self, nth: usize, fault: &Fault, until: Instant) -> anyhow::Result<()> {
        let front = front(fault);
        let mut touched: Vec<&String> = front.iter().flat_map(|((from, to), _)| [from, to]).collect();
        touched.sort();
        touched.dedup();
        let causes: Vec<_> = touched.into_iter().map(|name| self.causes.begin(Kind::Links, name)).collect();
        self.weather.change(self.cluster.links(), nth, front);
        self.hold(until).await;
        self.weather.change(self.cluster.links(), nth, Vec::new());
        causes.into_iter().for_each(|cause| self.causes.end(cause));
        Ok(())
    }

    pub(super) async fn drain(&self, worker: &str, until: Instant) -> anyhow::Result<()> {
        let cause = self.causes.begin(Kind::Drain, worker);
        if let Err(error) = self.client.set_availability(worker, "drain").await {
            // Whether it is drained is not known; whatever is, it is made active again.
            self.tell(format!("{worker} is not known to be drained: {error}"));
        }
        self.hold(until).await;
        let deadline = Instant::now() + GRACE;
        loop {
            match self.client.set_availability(worker, "active").await {
                Ok(_) => break,
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
        self.causes.end(cause);
        Ok(())
    }
}

pub(super) fn front(fault: &Fault) -> Front {
    match fault {
        Fault::Cut(sides, Way::Both) | Fault::Bridge(sides) => both_ways(&sides.ones, &sides.others, Rule::Cut),
        Fault::Cut(sides, Way::Forth) => between(&sides.ones, &sides.others, Rule::Cut),
        Fault::Cut(sides, Way::Back) => between(&sides.others, &sides.ones, Rule::Cut),
        Fault::Delay(sides, ms) => both_ways(&sides.ones, &sides.others, slow(*ms)),
        _ => Front::new(),
    }
}

pub(super) fn daemon_of(worker: &str) -> String {
    worker.replacen('w', "d", 1)
}

pub(super) fn number(worker: &str) -> anyhow::Result<u8> {
    worker[1..].parse().with_context(|| format!("{worker} has no number"))
}
