//! What to do, from what is wanted and what is known. Pure: no clock, no calls; each action says why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use goat_core::model::{Desired, Driver, OnDisconnect, TaskId, TaskState};

use crate::lease::Validity;

/// What managers want of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub desired: Desired,
    pub driver: Driver,
    pub on_disconnect: OnDisconnect,
    /// Why it cannot be run, where its spec makes no sense here.
    pub unusable: Option<String>,
}

/// What is known of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub state: TaskState,
    pub doing: Doing,
    pub on_disconnect: OnDisconnect,
    pub stop_grace_ms: u64,
}

/// What is being done about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Nothing: it has ended, or was never begun.
    Nothing,
    /// It is brought up, or runs.
    Running,
    Stopping {
        grace_ms: u64,
    },
    /// What is left of it is being removed.
    Forgetting,
}

/// All that decides.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// None until managers have said, in the life of this agent: then nothing is stopped for not being wanted.
    pub wanted: Option<&'a BTreeMap<TaskId, Wanted>>,
    pub known: &'a BTreeMap<TaskId, Known>,
    pub drivers: &'a BTreeSet<Driver>,
    pub lease: Validity,
    /// Whether something leased may be begun: a watchdog would end it.
    pub is_watched: bool,
    /// The grace of tasks that are stopped because the lease has ended.
    pub lease_stop_grace_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Managers want it stopped.
    Wanted,
    /// It is not this worker's any more.
    NotAssigned,
    LeaseExpired,
}

impl StopReason {
    /// The constant word that is reported.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Wanted => "stop-requested",
            Self::NotAssigned => "not-assigned",
            Self::LeaseExpired => "lease-expired",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RejectReason {
    /// Its runtime is not one of this worker's.
    NoRuntime(Driver),
    BadSpec(String),
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Start {
        task: TaskId,
    },
    Stop {
        task: TaskId,
        reason: StopReason,
        grace_ms: u64,
    },
    /// It will not be tried.
    Reject {
        task: TaskId,
        reason: RejectReason,
    },
    /// It was never begun and is not wanted to run: it counts as stopped.
    Decline {
        task: TaskId,
    },
    /// It has ended and nobody asks for it any more.
    Forget {
        task: TaskId,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { task } => write!(f, "start {task}"),
            Self::Stop { task, reason, grace_ms } => write!(f, "stop {task} within {grace_ms} ms: {}", reason.word()),
            Self::Reject { task, reason: RejectReason::NoRuntime(driver) } => {
                write!(f, "reject {task}: the runtime {driver:?} is not enabled here")
            }
            Self::Reject { task, reason: RejectReason::BadSpec(problem) } => write!(f, "reject {task}: {problem}"),
            Self::Decline { task } => write!(f, "decline {task}"),
            Self::Forget { task } => write!(f, "forget {task}"),
        }
    }
}

/// What to do, in an order in which it may be done: what ends before what begins.
pub fn plan(view: &View<'_>) -> Vec<Action> {
    let mut ends = Vec::new();
    let mut begins = Vec::new();
    for (&task, known) in view.known {
        ends.extend(about_known(view, task, known));
    }
    for (&task, wanted) in view.wanted.into_iter().flatten() {
        let is_begun = view
            .known
            .get(&task)
            .is_some_and(|known| known.state.is_terminal() || !matches!(known.doing, Doing::Nothing));
        if !is_begun {
            begins.extend(about_new(view, task, wanted));
        }
    }
    ends.extend(begins);
    ends
}

fn about_known(view: &View<'_>, task: TaskId, known: &Known) -> Option<Action> {
    let wanted = view.wanted.map(|wanted| wanted.get(&task));
    // Not wanted at all, as opposed to not being known to be wanted.
    let is_unassigned = wanted.is_some_and(|wanted| wanted.is_none());
    if known.doing == Doing::Forgetting {
        return None;
    }
    if known.state.is_terminal() || known.doing == Doing::Nothing {
        return is_unassigned.then_some(Action::Forget { task });
    }
    let stop = |reason, grace_ms: u64| Some(Action::Stop { task, reason, grace_ms });
    let limit_ms = match known.doing {
        Doing::Stopping { grace_ms } => grace_ms,
        _ => u64::MAX,
    };
    let must_stop = match known.on_disconnect {
        OnDisconnect::Keep => false,
        OnDisconnect::Stop => !view.lease.is_leased,
        OnDisconnect::StopIfIsolated => !view.lease.is_sheltered,
    };
    let lease_grace_ms = view.lease_stop_grace_ms.min(known.stop_grace_ms);
    if must_stop && lease_grace_ms < limit_ms {
        return stop(StopReason::LeaseExpired, lease_grace_ms);
    }
    if known.doing != Doing::Running {
        return None;
    }
    match wanted {
        Some(Some(wanted)) if wanted.desired != Desired::Running => stop(StopReason::Wanted, known.stop_grace_ms),
        Some(None) => stop(StopReason::NotAssigned, known.stop_grace_ms),
        _ => None,
    }
}

fn about_new(view: &View<'_>, task: TaskId, wanted: &Wanted) -> Option<Action> {
    if wanted.desired != Desired::Running {
        return Some(Action::Decline { task });
    }
    if let Some(problem) = &wanted.unusable {
        return Some(Action::Reject { task, reason: RejectReason::BadSpec(problem.clone()) });
    }
    if !view.drivers.contains(&wanted.driver) {
        return Some(Action::Reject { task, reason: RejectReason::NoRuntime(wanted.driver) });
    }
    // Without a lease it would have to be stopped, or nobody would stop it; the next grant brings it up. Nothing new is
    // begun on the word of other workers.
    let may_run = !wanted.on_disconnect.is_leased() || (view.lease.is_leased && view.is_watched);
    may_run.then_some(Action::Start { task })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId::from_random(1);

    fn wanted(desired: Desired) -> Wanted {
        Wanted { desired, driver: Driver::Docker, on_disconnect: OnDisconnect::Keep, unusable: None }
    }

    fn known(state: TaskState, doing: Doing) -> Known {
        Known { state, doing, on_disconnect: OnDisconnect::Keep, stop_grace_ms: 10_000 }
    }

    /// The plan for one task, in one line; `told`: whether managers have said anything yet.
    fn planned(told: bool, wanted: Option<Wanted>, known: Option<Known>, is_lease_valid: bool) -> String {
        let wanted: BTreeMap<_, _> = wanted.into_iter().map(|wanted| (TASK, wanted)).collect();
        let known: BTreeMap<_, _> = known.into_iter().map(|known| (TASK, known)).collect();
        let drivers = BTreeSet::from([Driver::Docker]);
        let view = View {
            wanted: told.then_some(&wanted),
            known: &known,
            drivers: &drivers,
            lease: Validity { is_leased: is_lease_valid, is_sheltered: is_lease_valid },
            is_watched: true,
            lease_stop_grace_ms: 500,
        };
        let actions: Vec<String> = plan(&view).iter().map(ToString::to_string).collect();
        actions.join("; ")
    }

    #[test]
    fn a_wanted_task_is_started_once() {
        let want = || Some(wanted(Desired::Running));
        assert_eq!(planned(true, want(), None, true), "start 000000000001");
        assert_eq!(planned(true, want(), Some(known(TaskState::Assigned, Doing::Nothing)), true), "start 000000000001");
        assert_eq!(planned(true, want(), Some(known(TaskState::Starting, Doing::Running)), true), "");
        for ended in [TaskState::Complete, TaskState::Failed, TaskState::Stopped, TaskState::Rejected] {
            assert_eq!(planned(true, want(), Some(known(ended, Doing::Nothing)), true), "", "{ended:?}");
        }
    }

    #[test]
    fn a_stop_is_never_taken_back() {
        let stopping = Some(known(TaskState::Running, Doing::Stopping { grace_ms: 10_000 }));
        assert_eq!(planned(true, Some(wanted(Desired::Running)), stopping, true), "");
    }

    #[test]
    fn what_is_not_wanted_is_stopped_and_then_forgotten() {
        let running = || Some(known(TaskState::Running, Doing::Running));
        let stop = "stop 000000000001 within 10000 ms: stop-requested";
        assert_eq!(planned(true, Some(wanted(Desired::Stopped)), running(), true), stop);
        assert_eq!(planned(true, Some(wanted(Desired::Removed)), running(), true), stop);
        assert_eq!(planned(true, None, running(), true), "stop 000000000001 within 10000 ms: not-assigned");
        let ended = || Some(known(TaskState::Stopped, Doing::Nothing));
        assert_eq!(planned(true, Some(wanted(Desired::Removed)), ended(), true), "");
        assert_eq!(planned(true, None, ended(), true), "forget 000000000001");
        assert_eq!(planned(true, None, Some(known(TaskState::Stopped, Doing::Forgetting)), true), "");
    }

    #[test]
    fn until_managers_have_spoken_nothing_is_stopped_or_forgotten() {
        assert_eq!(planned(false, None, Some(known(TaskState::Running, Doing::Running)), false), "");
        assert_eq!(planned(false, None, Some(known(TaskState::Failed, Doing::Nothing)), false), "");
    }

    #[test]
    fn a_task_that_was_never_begun_and_is_to_stop_is_declined() {
        assert_eq!(planned(true, Some(wanted(Desired::Stopped)), None, true), "decline 000000000001");
        let idle = Some(known(TaskState::Assigned, Doing::Nothing));
        assert_eq!(planned(true, Some(wanted(Desired::Removed)), idle, true), "decline 000000000001");
    }

    #[test]
    fn what_cannot_run_here_is_rejected() {
        let other = Wanted { driver: Driver::Process, ..wanted(Desired::Running) };
        assert_eq!(
            planned(true, Some(other), None, true),
            "reject 000000000001: the runtime Process is not enabled here"
        );
        let bad = Wanted { unusable: Some("driver: no".into()), ..wanted(Desired::Running) };
        assert_eq!(planned(true, Some(bad), None, true), "reject 000000000001: driver: no");
    }

    #[test]
    fn only_leased_tasks_stop_at_the_end_of_the_lease_and_start_only_within_one() {
        let leased = |doing| {
            let known = known(TaskState::Running, doing);
            Some(Known { on_disconnect: OnDisconnect::Stop, ..known })
        };
        let stop = "stop 000000000001 within 500 ms: lease-expired";
        let want = || Some(Wanted { on_disconnect: OnDisconnect::Stop, ..wanted(Desired::Running) });
        assert_eq!(planned(true, want(), leased(Doing::Running), true), "");
        assert_eq!(planned(true, want(), leased(Doing::Running), false), stop);
        assert_eq!(planned(false, None, leased(Doing::Running), false), stop);
        assert_eq!(planned(true, want(), leased(Doing::Stopping { grace_ms: 10_000 }), false), stop);
        assert_eq!(planned(true, want(), leased(Doing::Stopping { grace_ms: 500 }), false), "");
        assert_eq!(planned(true, want(), None, false), "");
        assert_eq!(planned(true, want(), None, true), "start 000000000001");
        let kept = known(TaskState::Running, Doing::Running);
        assert_eq!(planned(true, Some(wanted(Desired::Running)), Some(kept), false), "");
    }

    /// What is done about one `stop-if-isolated` task that is wanted, and runs or was not begun.
    fn planned_alone(runs: bool, is_leased: bool, is_sheltered: bool, is_watched: bool) -> String {
        let on_disconnect = OnDisconnect::StopIfIsolated;
        let wanted = BTreeMap::from([(TASK, Wanted { on_disconnect, ..wanted(Desired::Running) })]);
        let running = Known { on_disconnect, ..known(TaskState::Running, Doing::Running) };
        let known: BTreeMap<_, _> = runs.then_some((TASK, running)).into_iter().collect();
        let drivers = BTreeSet::from([Driver::Docker]);
        let lease = Validity { is_leased, is_sheltered };
        let view = View {
            wanted: Some(&wanted),
            known: &known,
            drivers: &drivers,
            lease,
            is_watched,
            lease_stop_grace_ms: 500,
        };
        plan(&view).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_sheltered_task_runs_on_but_none_is_begun_in_shelter_or_unwatched() {
        assert_eq!(planned_alone(true, false, true, true), "");
        assert_eq!(planned_alone(true, false, false, true), "stop 000000000001 within 500 ms: lease-expired");
        assert_eq!(planned_alone(false, false, true, true), "");
        assert_eq!(planned_alone(false, true, true, false), "");
        assert_eq!(planned_alone(true, true, true, false), "");
        assert_eq!(planned_alone(false, true, true, true), "start 000000000001");
    }
}
