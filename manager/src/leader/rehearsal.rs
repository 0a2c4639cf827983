//! In builds that play a later version only: a leader that uses what that version brings, as soon as it may.

use std::time::Duration;

use goat_core::state::command::{Action, Command};
use tracing::{info, warn};

use crate::clock;
use crate::raft::Group;
use crate::raft::proposer::Error;

const EVERY: Duration = Duration::from_millis(200);

pub(super) async fn run(group: Group) {
    let mut is_told = false;
    loop {
        let action = Action::Rehearse { text: "a command of the next version".into() };
        match group.propose_here(&Command { now_ms: clock::now_ms(), request: None, action }).await {
            Ok(accepted) if !is_told => {
                info!(raft_index = accepted.index, "a command of the next format was written");
                is_told = true;
            }
            // Until the cluster is upgraded.
            Ok(_) | Err(Error::Format { .. } | Error::NotLeader) => {}
            Err(error) => warn!(%error, "a command of the next format was not written"),
        }
        tokio::time::sleep(EVERY).await;
    }
}
