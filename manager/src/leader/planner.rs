//! Drives core's planner: wait for a wake-up or a timer, look, plan, propose.

use std::time::{Duration, Instant};

use goat_core::orchestrator::{Planner, Policy};
use goat_core::state::command::{Action, Command, divided};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tracing::{debug, warn};

use crate::clock;
use crate::raft::Group;
use crate::raft::proposer::Error;

const RETRY_AFTER: Duration = Duration::from_millis(100);
/// No wake-up for so long: look at the clock again, which may have been set.
const LONGEST_WAIT_MS: u64 = 60_000;

/// Plans until it is cancelled. Whatever goes wrong ends in a new planner, which looks at everything once.
pub async fn run(group: Group) {
    loop {
        let disturbance = plan_until_disturbed(&group).await;
        group.meters().planner_restarts.add(1);
        match disturbance {
            Disturbance::Closed => return,
            Disturbance::Lagged => debug!("fell behind the changes, looking at everything again"),
            Disturbance::NotProposed(error) => {
                // Just elected, it cannot propose for a moment.
                if !matches!(error, Error::NotLeader) {
                    warn!(%error, "a plan could not be proposed, looking at everything again");
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

enum Disturbance {
    Closed,
    Lagged,
    NotProposed(Error),
}

async fn plan_until_disturbed(group: &Group) -> Disturbance {
    let mut changes = group.view().changes();
    let mut planner = Planner::new(&group.view().read(), Policy::default());
    loop {
        let now_ms = clock::now_ms();
        let since = Instant::now();
        let plan = planner.plan(&group.view().read(), now_ms, clock::random());
        group.meters().planned(&plan.steps, since.elapsed());
        let wake_at_ms = plan.wake_at_ms;
        if !plan.is_empty() {
            debug!(steps = plan.steps.len(), "planned");
        }
        // Each step stands alone, so a plan that is too large for one command is carried out in parts.
        for steps in divided(plan.steps) {
            let command = Command { now_ms: plan.at_ms, request: None, action: Action::Plan { steps } };
            if let Err(error) = group.propose_here(&command).await {
                return Disturbance::NotProposed(error);
            }
        }
        let wait_ms =
            wake_at_ms.map_or(LONGEST_WAIT_MS, |at_ms| at_ms.saturating_sub(clock::now_ms()).min(LONGEST_WAIT_MS));
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            received = changes.recv() => match received {
                Ok(change) => planner.observe(&group.view().read(), &change),
                Err(RecvError::Lagged(_)) => return Disturbance::Lagged,
                Err(RecvError::Closed) => return Disturbance::Closed,
            }
        }
        // Everything that has come meanwhile goes into one plan.
        loop {
            match changes.try_recv() {
                Ok(change) => planner.observe(&group.view().read(), &change),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Lagged(_)) => return Disturbance::Lagged,
                Err(TryRecvError::Closed) => return Disturbance::Closed,
            }
        }
    }
}
