//! What runs only while this manager leads: started when it begins to lead, stopped and joined before it is told that it
//! no longer does.

mod members;
mod planner;
#[cfg(feature = "next-format")]
mod rehearsal;

use std::time::Duration;

use goat_core::lease::LeasePolicy;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use tracing::info;

use crate::dispatcher::Desk;
use crate::duty::Duty;
use crate::raft::Group;
use crate::security::rotation;
use crate::taskset::TaskSet;

const STOP_GRACE: Duration = Duration::from_secs(5);

/// Follows this manager's role for as long as it is a member.
pub async fn run(group: Group, desk: Desk, policy: LeasePolicy, tasks: TaskSet) {
    let mut metrics = group.metrics();
    let mut leading: Option<(u64, TaskSet)> = None;
    loop {
        let term = group.leader().filter(|leader| leader.is_here).map(|leader| leader.term);
        if leading.as_ref().map(|(term, _)| *term) != term {
            if let Some((raft_term, duties)) = leading.take() {
                desk.close(STOP_GRACE).await;
                duties.stop(STOP_GRACE).await;
                info!(raft_term, "no longer leads");
            }
            if let Some(raft_term) = term {
                info!(raft_term, "leads");
                let duties = start(&group, &desk, &tasks);
                desk.open(group.clone(), raft_term, policy, &duties);
                leading = Some((raft_term, duties));
            }
        }
        if metrics.changed().await.is_err() {
            // Raft has ended: whoever started this ends it.
            return std::future::pending().await;
        }
    }
}

fn start(group: &Group, desk: &Desk, tasks: &TaskSet) -> TaskSet {
    let duties = tasks.child("leader");
    duties.spawn_duty(Duty::Rotation, rotation::run(group.clone(), desk.clone()));
    duties.spawn_duty(Duty::Members, members::run(group.clone()));
    duties.spawn_duty(Duty::Planner, planner::run(group.clone()));
    #[cfg(feature = "next-format")]
    duties.spawn("rehearsal", rehearsal::run(group.clone()));
    duties
}
