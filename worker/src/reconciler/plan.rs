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
    /// Somebody has paused its container for too long.
    Paused,
}

impl StopReason {
    /// The constant word that is reported.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Wanted => "stop-requested",
            Self::NotAssigned => "not-assigned",
            Self::LeaseExpired => "lease-expired",
            Self::Paused => "paused",
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
mod tests;
