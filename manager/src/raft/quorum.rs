//! Whether a majority of the managers still answers this leader, so that a write does not wait for one that is gone.

use std::time::Duration;

use openraft::Instant as _;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;

use super::Group;
use super::proposer::Error;
use super::timing::HEARTBEAT_TIMEOUT;

/// A majority that has not answered heartbeats for this long is lost: a heartbeat may take [`HEARTBEAT_TIMEOUT`].
const QUORUM_LOST_AFTER: Duration = HEARTBEAT_TIMEOUT.saturating_add(Duration::from_millis(500));
/// If the majority was lost before, a write waits this long for it to come back.
const QUORUM_RETURN_WAIT: Duration = Duration::from_secs(1);

impl Group {
    /// Time since a majority, this manager included, last answered; at most since this manager leads, or since `from`.
    fn quorum_silence(&self, from: Instant) -> Duration {
        self.with_metrics(|metrics| {
            if metrics.membership_config.membership().voter_ids().count() <= 1 {
                return Duration::ZERO;
            }
            metrics.last_quorum_acked.map_or(from.elapsed(), |acked| acked.elapsed())
        })
    }

    /// Returns once a majority has been silent for too long.
    pub(super) async fn quorum_lost(&self) {
        let from = Instant::now();
        loop {
            let left = QUORUM_LOST_AFTER.saturating_sub(self.quorum_silence(from));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Refuses before anything is written if a majority was lost and does not come back soon: what is appended meanwhile
    /// could only be repeated.
    pub(super) async fn await_quorum(&self) -> Result<(), Error> {
        let from = Instant::now();
        let is_lost = || self.quorum_silence(from) >= QUORUM_LOST_AFTER;
        if !is_lost() {
            return Ok(());
        }
        let mut metrics = self.metrics();
        let returns = async { while is_lost() && metrics.changed().await.is_ok() {} };
        tokio::time::timeout(QUORUM_RETURN_WAIT, returns).await.map_err(|_| Error::NoQuorum)
    }
}
