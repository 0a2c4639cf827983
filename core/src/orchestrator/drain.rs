//! When a task may leave a node that drains.
//!
//! Without a deadline at once, whatever becomes of its slot. With one, gently: one of a service at a time, while all
//! others of it run, and only where another node has room; what is still there at the deadline goes in any case.

use std::collections::{HashMap, HashSet};

use crate::model::{Availability, Desired, NodeId, ServiceId, Task, TaskId, TaskState};
use crate::scheduler::{Scheduler, describe};
use crate::state::State;

/// How a node drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    AtOnce,
    /// Until then (Unix ms, by the state's clock).
    Gently(u64),
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
            let replicas = state.service(task.service).map_or(0, |service| service.spec.replicas());
            *glances += replicas as usize;
            unsettled(state, task.service, replicas, wanted)
        });
        slots.iter().copied().find(|slot| *slot != task.slot)
    }

    /// It is about to be stopped.
    pub(super) fn leaves(&mut self, task: &Task) {
        self.slots.entry(task.service).or_default().push(task.slot);
    }
}

/// Two are enough: one of them is another's.
fn unsettled(state: &State, service: ServiceId, replicas: u32, wanted: &HashSet<TaskId>) -> Vec<u32> {
    let is_settled = |slot: &u32| {
        let newest = state.slot(service, *slot).last().and_then(|id| state.task(*id));
        newest.is_some_and(|task| {
            let runs = task.state == TaskState::Running && task.desired == Desired::Running;
            // What is done is not to run any more.
            (runs && !wanted.contains(&task.id)) || task.state == TaskState::Complete
        })
    };
    (1..=replicas).filter(|slot| !is_settled(slot)).take(2).collect()
}

/// What a task on a node that drains waits for, in words; None for every other task.
pub fn waits_for(state: &State, task: &Task) -> Option<String> {
    if task.state.is_terminal() {
        return None;
    }
    let Way::Gently(_) = way(state, task.node?, 0)? else {
        return Some(if task.desired == Desired::Running { "its turn" } else { "its end" }.into());
    };
    if task.desired != Desired::Running {
        return Some("its end".into());
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
