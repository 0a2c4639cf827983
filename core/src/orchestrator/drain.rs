//! When a task may leave a node that drains, or that its service's placement excludes since it was placed there.
//!
//! Of a node that drains without a deadline at once, whatever becomes of its slot. Otherwise gently: one of a service at a
//! time, while all others of it run, and only if another node has room. At the deadline of a drain what is still there goes
//! in any case; a misplaced task has no deadline and runs on until there is room.

use std::collections::{HashMap, HashSet};

use super::selection::Selection;
use crate::model::{Availability, Cause, Desired, NodeId, ServiceId, Task, TaskId, TaskState};
use crate::scheduler::{Scheduler, describe};
use crate::state::State;

/// How a node drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    AtOnce,
    /// Until then (Unix ms, by the state's clock).
    Gently(u64),
}

/// Why a task leaves its node gently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    Drained { until_ms: u64 },
    Misplaced,
}

impl Leave {
    /// When the task is stopped in any case (Unix ms).
    pub(super) const fn until_ms(self) -> Option<u64> {
        match self {
            Self::Drained { until_ms } => Some(until_ms),
            Self::Misplaced => None,
        }
    }

    pub(super) const fn cause(self) -> Cause {
        match self {
            Self::Drained { .. } => Cause::Drain,
            // What the service asks of a node has changed, or the node has.
            Self::Misplaced => Cause::Update,
        }
    }
}

/// Whether a task is on a node that the placement of its service excludes: a constraint does not hold there, or there are
/// more of its tasks than allowed. Tasks of an earlier spec are replaced in any case and do not count as misplaced.
pub fn is_misplaced(state: &State, task: &Task) -> bool {
    let (Some(service), Some(node)) = (state.service(task.service), task.node.and_then(|node| state.node(node))) else {
        return false;
    };
    let is_wanted = task.desired == Desired::Running && !task.state.is_terminal() && !service.removed;
    if !is_wanted || task.spec_version != service.spec_version {
        return false;
    }
    let placement = &service.spec.placement;
    let here = || state.node_use(node.id).by_service.get(&service.id).copied().unwrap_or(0);
    placement.constraints.iter().any(|constraint| !constraint.holds_on(node))
        || (placement.max_per_node > 0 && here() > placement.max_per_node)
}

/// None where it does not drain. `now_ms`: the leader's clock; the state's counts where it is ahead.
pub(super) fn way(state: &State, node: NodeId, now_ms: u64) -> Option<Way> {
    let node = state.node(node).filter(|node| node.availability == Availability::Drain)?;
    let now_ms = now_ms.max(state.clock_ms());
    match node.drain_until_ms {
        Some(until_ms) if until_ms > now_ms => Some(Way::Gently(until_ms)),
        _ => Some(Way::AtOnce),
    }
}

/// Of each service, a slot that does not run as it should.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    slots: HashMap<ServiceId, Vec<u32>>,
    /// Slots that were looked through so far.
    pub(super) glances: usize,
}

impl Unsettled {
    /// Another slot of the task's service that does not run, with what `wanted` is about to stop.
    pub(super) fn beside(&mut self, state: &State, task: &Task, wanted: &HashSet<TaskId>) -> Option<u32> {
        let glances = &mut self.glances;
        let slots = self.slots.entry(task.service).or_insert_with(|| {
            let Some(service) = state.service(task.service) else { return Vec::new() };
            let selection = Selection::of(state, service, 0);
            *glances += selection.glances + service.spec.replicas() as usize;
            unsettled(state, task.service, &selection, wanted)
        });
        slots.iter().copied().find(|slot| *slot != task.slot)
    }

    /// It is about to be stopped.
    pub(super) fn leaves(&mut self, task: &Task) {
        self.slots.entry(task.service).or_default().push(task.slot);
    }
}

/// Two are enough: one of them is another's.
fn unsettled(state: &State, service: ServiceId, selection: &Selection, wanted: &HashSet<TaskId>) -> Vec<u32> {
    let is_settled = |slot: &u32| {
        let newest = state.slot(service, *slot).last().and_then(|id| state.task(*id));
        newest.is_some_and(|task| {
            let runs = task.state == TaskState::Running && task.desired == Desired::Running;
            // What is done is not to run any more.
            (runs && !wanted.contains(&task.id)) || task.state == TaskState::Complete
        })
    };
    selection.slots().filter(|slot| !is_settled(slot)).take(2).collect()
}

/// The reason why a task that is to leave its node has to wait, as text; `None` for every other task.
pub fn waits_for(state: &State, task: &Task) -> Option<String> {
    if task.state.is_terminal() {
        return None;
    }
    match way(state, task.node?, 0) {
        None if !is_misplaced(state, task) => return None,
        Some(Way::AtOnce) if task.desired == Desired::Running => return Some("its turn".into()),
        Some(_) if task.desired != Desired::Running => return Some("its end".into()),
        _ => {}
    }
    let spec = state.spec_of(task)?;
    let beside = Unsettled::default().beside(state, task, &HashSet::new());
    if let Some(slot) = beside.filter(|_| task.state == TaskState::Running) {
        return Some(format!("{}.{slot} to run", spec.name));
    }
    match Scheduler::new(state, 0).place(task, spec, None) {
        Ok(_) => Some("its turn".into()),
        Err(counts) => Some(format!("room ({})", describe(&counts))),
    }
}
