//! What one worker has been told of its tasks, and what it has to be told next. Pure.

use std::collections::HashMap;

use goat_core::model::{Desired, NodeId, OnDisconnect, Task, TaskId, TaskState};
use goat_core::state::State;
use goat_proto::convert;
use goat_proto::v1::{self, manager_message};

/// What the worker was told of a task, as far as it can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    desired: Desired,
    on_disconnect: OnDisconnect,
}

/// What the worker has been told.
#[derive(Debug)]
pub(super) struct Book {
    node: NodeId,
    sequence: u64,
    told: HashMap<TaskId, Told>,
}

impl Book {
    pub(super) fn new(node: NodeId) -> Self {
        Self { node, sequence: 0, told: HashMap::new() }
    }

    /// Everything, as the first message of a session and whenever changes were missed.
    pub(super) fn full(&mut self, state: &State) -> manager_message::Message {
        self.told.clear();
        let mut tasks = Vec::new();
        for task in state.tasks_of_node(self.node) {
            if let Some((told, assignment)) = assignment(state, task, self.node) {
                self.told.insert(task.id, told);
                tasks.push(assignment);
            }
        }
        self.sequence += 1;
        manager_message::Message::Assignments(v1::Assignments { sequence: self.sequence, tasks })
    }

    /// What is news of some tasks; None where nothing is.
    pub(super) fn changes(
        &mut self,
        state: &State,
        dirty: impl IntoIterator<Item = TaskId>,
    ) -> Option<manager_message::Message> {
        let (mut set, mut removed) = (Vec::new(), Vec::new());
        for id in dirty {
            match state.task(id).and_then(|task| assignment(state, task, self.node)) {
                Some((told, assignment)) => {
                    if self.told.insert(id, told) != Some(told) {
                        set.push(assignment);
                    }
                }
                None => {
                    if self.told.remove(&id).is_some() {
                        removed.push(id.to_string());
                    }
                }
            }
        }
        if set.is_empty() && removed.is_empty() {
            return None;
        }
        self.sequence += 1;
        let sequence = self.sequence;
        Some(manager_message::Message::Changes(v1::AssignmentChanges { sequence, set, removed }))
    }
}

/// None for what is not the node's (any more). A task that has ended is not to be begun again, whatever was desired of
/// it: its worker keeps what is left of it, for its logs.
fn assignment(state: &State, task: &Task, node: NodeId) -> Option<(Told, v1::Assignment)> {
    if task.node != Some(node) || task.state == TaskState::Lost {
        return None;
    }
    let spec = state.spec_of(task)?;
    let service = state.service(task.service)?;
    let desired = if task.state.is_terminal() { task.desired.max(Desired::Stopped) } else { task.desired };
    let shown = Task { desired, ..task.clone() };
    let told = Told { desired, on_disconnect: spec.on_disconnect() };
    Some((told, convert::assignment(&shown, &service.spec.name, spec)))
}
