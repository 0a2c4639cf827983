//! After a storm: everything is undone that any fault may have left, and who manages is set right.

use std::time::Duration;

use anyhow::Context as _;
use goat_testcluster::cluster::Condition;
use goat_testcluster::{daemons, volumes};
use tokio::time::Instant;

use super::ground::Ground;

/// For the membership to be what it should.
const MEMBERS_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);
/// Managers that there have to be at the end.
const VOTERS: usize = 3;

impl Ground<'_> {
    /// Nothing is broken any more when this returns; what follows from what was is the cluster's to mend.
    ///
    /// # Errors
    /// Where something cannot be started, or the managers do not come to be whom they should.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.cluster.heal()?;
        self.note_ended(false).await;
        let layout = self.cluster.layout();
        for n in 1..=layout.workers {
            let worker = layout.data_dir(layout.find(&format!("w{n}"))?);
            for dir in [daemons::data_root(layout, n), worker] {
                // Mostly there is nothing to be given back.
                let _ = volumes::empty(&dir);
            }
        }
        for manager in self.members() {
            let _ = volumes::empty(&layout.data_dir(layout.find(&manager)?));
        }
        for member in self.cluster.status().await {
            let is_spare = member.name.starts_with('m') && !self.notes().members.contains(&member.name);
            match member.condition {
                Condition::Frozen => self.cluster.thaw(&member.name).await?,
                Condition::Stopped | Condition::Ended(_) if !is_spare => self.cluster.start(&member.name).await?,
                _ => {}
            }
        }
        let deadline = Instant::now() + MEMBERS_WITHIN;
        loop {
            let Err(why) = self.set_members_right().await else { break };
            if Instant::now() >= deadline {
                return Err(why.context("the managers are not whom they should be after everything was healed"));
            }
            tokio::time::sleep(POLL).await;
        }
        for n in 1..=layout.workers {
            self.client.set_availability(&format!("w{n}"), "active").await?;
        }
        Ok(())
    }

    /// One step towards it; an error says what is not right yet.
    async fn set_members_right(&self) -> anyhow::Result<()> {
        let peers = self.client.peers().await?;
        let status = self.cluster.status().await;
        let runs =
            |name: &str| status.iter().any(|member| member.name == name && member.condition == Condition::Running);
        for peer in &peers {
            if peer.standing == "removed" {
                anyhow::bail!("{} is removed, and still a member", peer.name);
            }
            if !runs(&peer.name) {
                // It was let in, and its process was never started, or not again.
                if let Err(error) = self.cluster.start(&peer.name).await {
                    self.tell(format!("{}: {error}", peer.name));
                }
                anyhow::bail!("{} is a member and does not run", peer.name);
            }
            if peer.standing == "learner" {
                self.client.set_manager(&peer.name, "voter").await?;
                anyhow::bail!("{} did not vote", peer.name);
            }
        }
        let names: std::collections::BTreeSet<String> = peers.iter().map(|peer| peer.name.clone()).collect();
        for member in status.iter().filter(|member| member.name.starts_with('m') && !names.contains(&member.name)) {
            if member.condition == Condition::Running {
                let _ = self.cluster.kill(&member.name, false).await;
            }
        }
        self.notes().members.clone_from(&names);
        if names.len() < VOTERS {
            let layout = self.cluster.layout();
            let spare = (1..=layout.managers).map(|n| format!("m{n}")).find(|name| !names.contains(name));
            self.add(&spare.context("there is nobody to join")?).await?;
        }
        let (votes, all) = (|role: &str| role == "leader" || role == "follower", peers.iter());
        let other = all.filter(|peer| !votes(&peer.role)).map(|peer| format!("{} is {}", peer.name, peer.role)).next();
        other.map_or(Ok(()), |other| Err(anyhow::anyhow!(other)))
    }
}
