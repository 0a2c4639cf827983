//! Changes of who takes part, while clients write: a vote less and back, one replaced, one more, one less.

use tokio::time::Instant;

use super::{Field, POLL, WITHIN, Who};

impl Field<'_> {
    /// Every member votes and is reached: a change of members is refused before.
    pub(crate) async fn whole(&self) -> anyhow::Result<()> {
        for name in &self.members {
            self.settled(name, &["follower", "leader"]).await?;
        }
        Ok(())
    }

    pub(super) async fn demote(&mut self, name: &str) -> anyhow::Result<()> {
        self.client.set_manager(name, "learner").await?;
        self.settled(name, &["learner"]).await?;
        self.client.set_manager(name, "voter").await?;
        self.settled(name, &["follower", "leader"]).await
    }

    pub(super) async fn replace(&mut self, name: &str) -> anyhow::Result<()> {
        self.remove(name).await?;
        self.collect(name)?;
        self.rejoin(name).await
    }

    /// Of one whose directory cannot be read any more.
    pub(crate) async fn replace_damaged(&mut self, name: &str) -> anyhow::Result<()> {
        self.remove(name).await?;
        self.rejoin(name).await
    }

    async fn rejoin(&mut self, name: &str) -> anyhow::Result<()> {
        self.cluster.join(name).await?;
        self.settled(name, &["follower", "leader"]).await?;
        self.members.push(name.to_owned());
        Ok(())
    }

    pub(super) async fn resize(&mut self) -> anyhow::Result<()> {
        let layout = self.cluster.layout();
        let spare = (1..=layout.managers).map(|n| format!("m{n}")).find(|name| !self.members.contains(name));
        match spare {
            Some(name) => {
                self.cluster.join(&name).await?;
                self.settled(&name, &["follower", "leader"]).await?;
                self.tell(format!("{name} has joined"));
                self.members.push(name);
            }
            None => {
                let name = self.pick(Who::Follower).await?.remove(0);
                self.remove(&name).await?;
                self.collect(&name)?;
            }
        }
        Ok(())
    }

    async fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        self.client.set_manager(name, "removed").await?;
        let deadline = Instant::now() + WITHIN;
        while self.client.peers().await?.iter().any(|peer| peer.name == name) {
            anyhow::ensure!(Instant::now() < deadline, "{name} is still a member");
            tokio::time::sleep(POLL).await;
        }
        self.members.retain(|member| member != name);
        // It may have ended by itself.
        let _ = self.cluster.kill(name, false).await;
        self.tell(format!("{name} is removed"));
        Ok(())
    }

    async fn settled(&self, name: &str, roles: &[&str]) -> anyhow::Result<()> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let peers = self.client.peers().await?;
            if peers.iter().any(|peer| peer.name == name && peer.reachable && roles.contains(&peer.role.as_str())) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "{name} is no {}", roles.join(" or "));
            tokio::time::sleep(POLL).await;
        }
    }
}
