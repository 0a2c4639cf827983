//! What an agent does about its tasks, from what is wanted and what is known: the rules of the worker's own planner.

use goat_core::lease::STOP_GRACE_MS;
use goat_core::model::{Desired, OnDisconnect, TaskId};

use super::{Doing, Machine, Work};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Start(TaskId),
    Stop {
        task: TaskId,
        grace_ms: u64,
        is_lease_over: bool,
    },
    /// It was never begun and is not wanted to run.
    Decline(TaskId),
    Forget(TaskId),
}

impl Machine {
    pub(super) fn steps(&self, now_ms: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        let Some(agent) = &self.agent else { return steps };
        for (task, work) in &self.works {
            let wanted = agent.assigned.as_ref().map(|all| all.get(task).map(|told| told.desired));
            steps.extend(self.about_known(*task, work, wanted, now_ms));
        }
        for (task, told) in agent.assigned.iter().flatten() {
            let known = self.works.get(task).and_then(|work| work.known.as_ref());
            let is_begun = known.is_some_and(|known| known.state.is_terminal() || known.doing != Doing::Nothing);
            if is_begun {
                continue;
            }
            let is_leased = told.on_disconnect.is_leased();
            if told.desired != Desired::Running {
                steps.push(Step::Decline(*task));
            } else if !is_leased || (self.allows(OnDisconnect::Stop, now_ms) && self.has_watchdog) {
                steps.push(Step::Start(*task));
            }
        }
        steps
    }

    /// `wanted`: None where managers have not said anything in the life of this agent.
    fn about_known(&self, task: TaskId, work: &Work, wanted: Option<Option<Desired>>, now_ms: u64) -> Option<Step> {
        let known = work.known.as_ref()?;
        if known.state.is_terminal() || known.doing == Doing::Nothing {
            return (wanted == Some(None)).then_some(Step::Forget(task));
        }
        let stop = |grace_ms, is_lease_over| Some(Step::Stop { task, grace_ms, is_lease_over });
        let limit_ms = match known.doing {
            Doing::Stopping { grace_ms } => grace_ms,
            _ => u64::MAX,
        };
        let lease_grace_ms = STOP_GRACE_MS.min(work.stop_grace_ms);
        if !self.allows(work.on_disconnect, now_ms) && lease_grace_ms < limit_ms {
            return stop(lease_grace_ms, true);
        }
        if known.doing != Doing::Running {
            return None;
        }
        match wanted {
            Some(Some(Desired::Running)) | None => None,
            Some(_) => stop(work.stop_grace_ms, false),
        }
    }
}
