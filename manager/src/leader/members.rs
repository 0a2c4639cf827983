//! Makes Raft's membership what the managers' rows say, a step at a time.

use std::time::Duration;

use goat_core::membership;
use tracing::{info, warn};

use crate::machine::changed;
use crate::raft::Group;

/// A newcomer catches up meanwhile, or somebody is reached again: neither is in a change set.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Until it is cancelled.
pub async fn run(group: Group) {
    let mut changes = group.view().changes();
    loop {
        // One lock after the other, never both.
        let seen = group.seen();
        let step = membership::next(group.view().read().managers(), &seen);
        if let Some(step) = step {
            match group.take(step).await {
                Ok(()) => info!(?step, "the group of managers has changed"),
                Err(error) => {
                    warn!(%error, ?step, "the group of managers could not be changed, looking again");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            change = changed(&mut changes, |change| !change.managers.is_empty()) => if change.is_none() { return },
        }
    }
}
