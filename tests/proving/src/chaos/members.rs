//! Changes of who manages, in the middle of everything else: what cannot be decided then is left, and seen to when all is
//! healed. A manager's disk is emptied only when all others know that it is none any more.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::causes::Kind;
use super::fault::Fault;
use super::ground::Ground;

const WITHIN: Duration = Duration::from_secs(15);
const ASK: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(100);

impl Ground<'_> {
    pub(super) async fn change_members(&self, fault: &Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Transfer => {
                // It may fail for good reasons.
                match self.client.transfer_leader("").await {
                    Ok(reply) => self.tell(format!("{} leads now, term {}", reply.leader, reply.term)),
                    Err(error) => self.tell(format!("not handed over: {error}")),
                }
                Ok(())
            }
            Fault::Demote(name) => {
                self.client.set_manager(name, "learner").await?;
                let shown = self.shows(name, &["learner"]).await;
                self.client.set_manager(name, "voter").await?;
                shown
            }
            Fault::Replace(name) => {
                self.remove(name).await?;
                self.add(name).await
            }
            _ => {
                let members = self.members();
                let layout = self.cluster.layout();
                let spare = (1..=layout.managers).map(|n| format!("m{n}")).find(|name| !members.contains(name));
                match spare {
                    Some(name) => self.add(&name).await,
                    None => self.remove(members.last().context("there are managers")?).await,
                }
            }
        }
    }

    pub(super) async fn add(&self, name: &str) -> anyhow::Result<()> {
        // A directory that anybody counts on is not emptied.
        self.forgotten(name).await?;
        self.cluster.join(name).await?;
        self.notes().members.insert(name.to_owned());
        self.shows(name, &["follower", "leader"]).await?;
        self.tell(format!("{name} has joined"));
        Ok(())
    }

    pub(super) async fn remove(&self, name: &str) -> anyhow::Result<()> {
        let cause = self.causes.begin(Kind::Manager, name);
        self.client.set_manager(name, "removed").await?;
        self.forgotten(name).await?;
        self.notes().members.remove(name);
        // It may have ended by itself.
        let _ = self.cluster.kill(name, false).await;
        self.causes.end(cause);
        self.tell(format!("{name} is removed"));
        Ok(())
    }

    async fn forgotten(&self, name: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + WITHIN;
        while !self.is_forgotten(name).await? {
            anyhow::ensure!(Instant::now() < deadline, "not all managers know yet that {name} is none");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Whether every other manager knows a group without it: then nobody counts on what it has on its disk.
    async fn is_forgotten(&self, name: &str) -> anyhow::Result<bool> {
        let client = self.client.with_limits(ASK, ASK);
        for member in self.members().iter().filter(|member| *member != name) {
            let Ok(peers) = client.peers_of(place(member)?).await else { return Ok(false) };
            if peers.iter().any(|peer| peer.name == name) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until the leader shows it in one of those roles.
    async fn shows(&self, name: &str, roles: &[&str]) -> anyhow::Result<()> {
        let deadline = Instant::now() + WITHIN;
        let client = self.client.with_limits(ASK, ASK);
        loop {
            let peers = client.peers().await.unwrap_or_default();
            if peers.iter().any(|peer| peer.name == name && roles.contains(&peer.role.as_str())) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "{name} is no {} yet", roles.join(" or "));
            tokio::time::sleep(POLL).await;
        }
    }
}

/// A manager's place among the clients' managers.
pub(super) fn place(manager: &str) -> anyhow::Result<usize> {
    let number: usize = manager[1..].parse().with_context(|| format!("{manager} has no number"))?;
    Ok(number.saturating_sub(1))
}
