//! How the leader's sessions and leases propose: in their own term only, and with how much patience.

use std::time::Duration;

use goat_core::state::command::{Action, Command};
use tokio::time::Instant;

use super::Active;
use crate::clock;
use crate::raft::proposer::{Accepted, Error};

/// A new leader may not be able to propose for a moment.
const PROPOSE_PATIENCE: Duration = Duration::from_secs(2);
const PROPOSE_AGAIN: Duration = Duration::from_millis(20);
/// Between two proposals of the same, at the most.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A proposal of what a worker has said is waited for so long before it is repeated; each time twice as long, up to
/// [`LONGEST_PATIENCE`]. Far longer than a commit takes on the slowest disk and link that a manager is meant for (two round
/// trips of 300 ms, three syncs of 200 ms), since each repetition is one more entry for a log that is slow already.
const DECIDED_WITHIN: Duration = Duration::from_secs(10);
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);

impl Active {
    /// Proposes as this term's leader and never through another: what was decided here must not be attributed to a
    /// leader that knows nothing of it.
    pub(super) async fn propose(&self, action: Action) -> Result<Accepted, Error> {
        let command = Command { now_ms: clock::now_ms(), request: None, action };
        let deadline = Instant::now() + PROPOSE_PATIENCE;
        loop {
            match self.group.propose_here(&command).await {
                Err(Error::NotLeader) if self.leads() && Instant::now() < deadline => {
                    tokio::time::sleep(PROPOSE_AGAIN).await;
                }
                result => return result,
            }
        }
    }

    /// Proposes what a worker has said until it is decided, for as long as this manager leads: a slow commit does not end a
    /// session, whose successor would say all of it once more. Only for what may take effect twice: reports move a task
    /// forward only, and of inventories and registrations the last counts. Proposals of one session that
    /// nobody has waited out are few: one in [`DECIDED_WITHIN`], fewer each time.
    pub(super) async fn propose_to_the_end(&self, action: Action) -> Result<Accepted, Error> {
        let command = Command { now_ms: clock::now_ms(), request: None, action };
        let (mut patience, mut wait) = (DECIDED_WITHIN, PROPOSE_AGAIN);
        loop {
            let result = self.group.propose_here_within(&command, patience).await;
            match result {
                Err(Error::NotLeader | Error::NoQuorum) if self.leads() => {}
                result => return result,
            }
            if matches!(result, Err(Error::NoQuorum)) {
                patience = (patience * 2).min(LONGEST_PATIENCE);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}
