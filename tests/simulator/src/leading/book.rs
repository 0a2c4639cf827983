//! What one worker has been told of its tasks, and what it has to be told next: as the dispatcher's own book.

use std::collections::BTreeMap;

use goat_core::model::{Desired, NodeId, OnDisconnect, Task, TaskId, TaskState};
use goat_core::state::State;

use crate::wire::{Assignment, Down};

#[derive(Debug)]
pub(super) struct Book {
    node: NodeId,
    sequence: u64,
    told: BTreeMap<TaskId, (Desired, OnDisconnect)>,
}

impl Book {
    pub fn new(node: NodeId) -> Self {
        Self { node, sequence: 0, told: BTreeMap::new() }
    }

    pub fn full(&mut self, state: &State) -> Down {
        let tasks: Vec<Assignment> =
            state.tasks_of_node(self.node).filter_map(|task| assignment(state, task, self.node)).collect();
        self.told = tasks.iter().map(|told| (told.task, (told.desired, told.on_disconnect))).collect();
        self.sequence += 1;
        Down::Assignments { sequence: self.sequence, tasks }
    }

    /// An increment with nothing in it: whatever comes next would show a gap.
    pub fn nothing(&mut self) -> Down {
        self.sequence += 1;
        Down::Changes { sequence: self.sequence, set: Vec::new(), removed: Vec::new() }
    }

    /// None where nothing is news.
    pub fn changes(&mut self, state: &State, dirty: impl IntoIterator<Item = TaskId>) -> Option<Down> {
        let (mut set, mut removed) = (Vec::new(), Vec::new());
        for id in dirty {
            match state.task(id).and_then(|task| assignment(state, task, self.node)) {
                Some(assignment) => {
                    let told = (assignment.desired, assignment.on_disconnect);
                    if self.told.insert(id, told) != Some(told) {
                        set.push(assignment);
                    }
                }
                None if self.told.remove(&id).is_some() => removed.push(id),
                None => {}
            }
        }
        if set.is_empty() && removed.is_empty() {
            return None;
        }
        self.sequence += 1;
        Some(Down::Changes { sequence: self.sequence, set, removed })
    }
}

/// A task that has ended is not to be begun again, whatever was desired of it.
fn assignment(state: &State, task: &Task, node: NodeId) -> Option<Assignment> {
    if task.node != Some(node) || task.state == TaskState::Lost {
        return None;
    }
    let spec = state.spec_of(task)?;
    let desired = if task.state.is_terminal() { task.desired.max(Desired::Stopped) } else { task.desired };
    Some(Assignment {
        task: task.id,
        service: task.service,
        slot: task.slot,
        desired,
        on_disconnect: spec.on_disconnect(),
        has_health: spec.health.is_some(),
        stop_grace_ms: spec.stop_grace_ms,
    })
}
