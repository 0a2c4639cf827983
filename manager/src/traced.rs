//! Which traced request led to which tasks, as long as this manager leads: in memory, and not for decisions. A service's
//! version is the log index of the command that made it so, and the tasks which that command caused name the service.

use std::collections::BTreeMap;

use goat_core::model::{Cause, TaskId};
use goat_core::state::State;
use goat_proto::v1::{self, manager_message};
use parking_lot::Mutex;

/// More requests than people trace at one time; the oldest go first.
const MOST: usize = 1_024;

/// The traced requests of late.
#[derive(Debug, Default)]
pub struct Traced {
    by_index: Mutex<BTreeMap<u64, String>>,
}

impl Traced {
    /// The command at that index belongs to this trace.
    pub fn note(&self, index: u64, trace: String) {
        let mut by_index = self.by_index.lock();
        by_index.insert(index, trace);
        if by_index.len() > MOST {
            by_index.pop_first();
        }
    }

    /// Tells a worker, with what it is assigned, which trace that belongs to.
    pub fn stamp(&self, state: &State, message: &mut manager_message::Message) {
        let by_index = self.by_index.lock();
        if by_index.is_empty() {
            return;
        }
        let assignments = match message {
            manager_message::Message::Assignments(all) => &mut all.tasks,
            manager_message::Message::Changes(changes) => &mut changes.set,
            _ => return,
        };
        for assignment in assignments {
            if let Some(trace) = cause(state, assignment).and_then(|index| by_index.get(&index)) {
                let span = goat_observe::follow!(Some(trace.as_str()), "assign", task_id = assignment.task_id);
                assignment.traceparent = goat_observe::traces::header(&span).unwrap_or_default();
            }
        }
    }
}

/// The index of the request that a task comes from: what a restart or a move started has none.
fn cause(state: &State, assignment: &v1::Assignment) -> Option<u64> {
    let id: TaskId = assignment.task_id.parse().ok()?;
    let task = state.task(id)?;
    let is_asked_for = matches!(task.cause, Cause::User | Cause::Scale | Cause::Update) && !task.state.is_terminal();
    let service = state.service(task.service)?;
    is_asked_for.then_some(service.version)
}
