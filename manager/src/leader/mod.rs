//! What runs only while this manager leads: started when it begins to lead, stopped and joined before it is told that it
//! no longer does.

mod planner;
#[cfg(feature = "next-format")]
mod rehearsal;

use std::time::Duration;

use goat_core::lease::LeasePolicy;
use goat_core::model::ClusterId;
use goat_core::state::command::{Action, Command};
use openraft::type_config::async_runtime::watch::WatchReceiver;
use tracing::{info, warn};

use crate::clock;
use crate::dispatcher::Desk;
use crate::raft::proposer::Error;
use crate::raft::{Group, leader_of};
use crate::taskset::TaskSet;

const STOP_GRACE: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Follows this manager's role for as long as it is a member.
pub async fn run(group: Group, desk: Desk, policy: LeasePolicy, tasks: TaskSet) {
    let mut metrics = group.metrics();
    let mut leading: Option<(u64, TaskSet)> = None;
    loop {
        let term = {
            let metrics = metrics.borrow_watched();
            leader_of(&metrics, group.id()).filter(|leader| leader.is_here).map(|leader| leader.term)
        };
        if leading.as_ref().map(|(term, _)| *term) != term {
            if let Some((raft_term, duties)) = leading.take() {
                desk.close(STOP_GRACE).await;
                duties.stop(STOP_GRACE).await;
                info!(raft_term, "no longer leads");
            }
            if let Some(raft_term) = term {
                info!(raft_term, "leads");
                let duties = start(&group, &tasks);
                desk.open(group.clone(), raft_term, policy, &duties);
                leading = Some((raft_term, duties));
            }
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

fn start(group: &Group, tasks: &TaskSet) -> TaskSet {
    let duties = tasks.child("leader");
    duties.spawn("found cluster", found_cluster(group.clone()));
    duties.spawn("planner", planner::run(group.clone()));
    #[cfg(feature = "next-format")]
    duties.spawn("rehearsal", rehearsal::run(group.clone()));
    duties
}

/// Gives a new cluster its id.
async fn found_cluster(group: Group) {
    while group.view().read().cluster_id().is_none() {
        let id = ClusterId::from_random(clock::random());
        let command = Command { now_ms: clock::now_ms(), request: None, action: Action::InitCluster { id } };
        match group.propose_here(&command).await {
            Ok(_) => {}
            Err(error) => {
                // Just elected, it cannot propose for a moment.
                if !matches!(error, Error::NotLeader) {
                    warn!(%error, "the cluster's id could not be written, trying again");
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}
