//! Handing leadership over, on request and before a planned stop.

use std::time::Duration;

use openraft::type_config::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;

use super::proposer::Error;
use super::{Group, Leader};

impl Group {
    /// The voter that has most of the log among those that answer, this manager excepted. `None` if none answers: a leader
    /// that hands over to a manager that is gone loses the time until the others notice.
    pub fn best_successor(&self) -> Option<u64> {
        let reach = &self.inner.network.reach;
        self.with_metrics(|metrics| {
            let replication = metrics.replication.as_ref();
            let matched = |id: &u64| {
                replication.and_then(|progress| progress.get(id).copied().flatten()).map(|log_id| log_id.index)
            };
            let voters = metrics.membership_config.membership().voter_ids();
            voters.filter(|id| *id != self.inner.id && reach.figures(*id).is_reached).max_by_key(matched)
        })
    }

    /// Makes `to` the leader; this manager must lead. Returns the leader that came of it, `to` as a rule.
    pub async fn hand_over(&self, to: u64, timeout: Duration) -> Result<Leader, Error> {
        let deadline = Instant::now() + timeout;
        let mut metrics = self.metrics();
        if to != self.id() {
            let trigger = self.raft().trigger();
            trigger.transfer_leader(to).await.map_err(|fatal| Error::Stopped(fatal.to_string()))?;
        }
        loop {
            if let Some(leader) = self.leader().filter(|leader| leader.id == to || !leader.is_here) {
                return Ok(leader);
            }
            match tokio::time::timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(closed)) => return Err(Error::Stopped(format!("{closed:?}"))),
                Err(_) => return Err(Error::NoLeader),
            }
        }
    }
}
