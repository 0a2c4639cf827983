//! Looks for nodes while one plan is made, and says what to do with what was found.

use std::collections::HashMap;

use super::cure;
use super::pending::{Kind, kind_of};
use crate::model::{Cause, NodeId, Task, TaskState};
use crate::scheduler::{Scheduler, describe_kinds};
use crate::state::State;
use crate::state::command::Step;

/// What to say of a pending task for which a node was looked for; None where it was said before.
pub(super) fn placed(task: &Task, found: Result<NodeId, &str>) -> Option<Step> {
    let (id, seen_version) = (task.id, task.version);
    match found {
        Ok(node) => Some(Step::Assign { task: id, seen_version, node }),
        Err(error) if task.error.as_deref() == Some(error) => None,
        Err(error) => Some(Step::Explain { task: id, seen_version, error: error.to_owned() }),
    }
}

/// Why nothing is placed while workers may run what the rows do not know of.
const UNSETTLED: &str = "restored from a snapshot: waiting until every worker has said what it runs";

/// Looks for nodes within one plan.
pub(super) struct Placing<'a> {
    pub state: &'a State,
    scheduler: Scheduler<'a>,
    /// What did not fit once in this plan does not fit for its siblings either: room only shrinks.
    refusals: HashMap<Kind, String>,
}

impl<'a> Placing<'a> {
    pub fn new(state: &'a State, seed: u64) -> Self {
        Self { state, scheduler: Scheduler::new(state, seed), refusals: HashMap::new() }
    }

    /// Whether it is known already, without another look at the nodes, that none fits.
    pub fn is_refused(&self, task: &Task) -> bool {
        self.state.restored().is_some() || self.refusals.contains_key(&kind_of(task))
    }

    /// A node, or why there is none; None where the task's spec is not there.
    pub fn node_for(&mut self, task: &Task) -> Option<Result<NodeId, &str>> {
        if self.state.restored().is_some() {
            return Some(Err(UNSETTLED));
        }
        let kind = kind_of(task);
        if !self.refusals.contains_key(&kind) {
            let spec = self.state.spec_of(task)?;
            match self.scheduler.place(task, spec, avoided(self.state, task)) {
                Ok(node) => return Some(Ok(node)),
                Err(counts) => drop(self.refusals.insert(kind, describe_kinds(&counts))),
            }
        }
        self.refusals.get(&kind).map(|text| Err(text.as_str()))
    }
}

/// The node on which this slot's last two tasks failed, one after the other; or its last, where the node was at fault.
/// What only stood in for a task that came back says nothing of it.
fn avoided(state: &State, task: &Task) -> Option<NodeId> {
    let failed_on = |task: &Task| {
        let has_failed = matches!(task.state, TaskState::Failed | TaskState::Rejected);
        task.node.filter(|_| has_failed)
    };
    let earlier = state.slot(task.service, task.slot).iter().rev().filter(|id| **id != task.id);
    let tasks = earlier.filter_map(|id| state.task(*id));
    let mut tried = tasks.filter(|task| task.stop_cause != Some(Cause::NodeBack));
    let newest = tried.next()?;
    let last = failed_on(newest)?;
    if cure::Fault::of(newest).is_elsewhere_better() {
        return Some(last);
    }
    let before = failed_on(tried.next()?)?;
    (last == before).then_some(last)
}
