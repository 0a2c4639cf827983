//! Names that people give: a member's own, or what it is at the moment.

use crate::control::Remote;
use crate::error::Error;
use crate::layout::Part;

impl Remote {
    /// The member that `leader`, `follower`, `worker` or `random` means now; any other name is a member's own.
    pub async fn resolve(&self, name: &str) -> Result<String, Error> {
        let running = async || -> Result<Vec<String>, Error> {
            let members = self.status().await?.members.into_iter();
            Ok(members.filter(|member| member.pid.is_some()).map(|member| member.name).collect())
        };
        let leader = async || -> Result<String, Error> {
            let leader = self.client()?.status().await?.leader;
            if leader.is_empty() {
                Err(Error::failed("no manager leads at present; repeat in a second"))
            } else {
                Ok(leader)
            }
        };
        let first = |mut names: Vec<String>, what: &str| {
            names.sort();
            names.into_iter().next().ok_or_else(|| Error::failed(format!("no {what} runs")))
        };
        match name {
            "leader" => leader().await,
            "follower" => {
                let leader = leader().await?;
                let names = running().await?.into_iter().filter(|name| name.starts_with('m') && *name != leader);
                first(names.collect(), "follower")
            }
            "worker" => first(running().await?.into_iter().filter(|name| name.starts_with('w')).collect(), "worker"),
            "random" => {
                let running = running().await?;
                let none = || Error::failed("no member runs");
                running.get(rand::random_range(0..running.len().max(1))).cloned().ok_or_else(none)
            }
            name => self.layout().part(name).map(Part::name),
        }
    }
}
