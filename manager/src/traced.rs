//! Which traced request led to which tasks, as long as this manager leads: in memory, and not for decisions. A service's
//! version is the log index of the command that made it so, and the tasks which that command caused name the service.

use std::collections::BTreeMap;

use goat_core::model::{Cause, Task};
use goat_core::state::Service;
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

    /// The header for a worker that is assigned a task because of the command at that index; None if that was not traced.
    pub fn assigned(&self, index: u64, task_id: &str) -> Option<String> {
        let trace = self.by_index.lock().get(&index)?.clone();
        let span = goat_observe::follow!(Some(trace.as_str()), "assign", task_id = task_id);
        goat_observe::traces::header(&span)
    }
}

/// The index of the request that a task comes from: a task that a restart or a move started has none.
pub fn cause(task: &Task, service: &Service) -> Option<u64> {
    let is_asked_for = matches!(task.cause, Cause::User | Cause::Scale | Cause::Update) && !task.state.is_terminal();
    is_asked_for.then_some(service.version)
}
