//! Why tasks wait for a node, counted by reason: what an operator watches. Decides nothing.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::Scheduler;
use crate::model::{ServiceId, Task, TaskId};
use crate::state::State;

/// Its turn comes with the next plan.
pub const DUE: &str = "due";
/// It waits between restarts.
pub const BACKOFF: &str = "backoff";
/// The cluster has no node at all.
pub const NO_NODE: &str = "no-node";
/// Not looked into: many kinds of tasks wait.
pub const OTHER: &str = "other";

/// How many tasks wait for which reason: the name of the filter that refuses most nodes, or one of the words above. Tasks of
/// one spec wait for one reason; of so many specs, `most_specs`, it is looked for on all nodes.
pub fn pending_by_reason(state: &State, now_ms: u64, most_specs: usize) -> BTreeMap<&'static str, usize> {
    let mut census = Census::new(now_ms, most_specs);
    while census.proceed(state, usize::MAX) {}
    census.counts
}

/// The count of [`pending_by_reason`], made in pieces: between two pieces the state may change.
#[derive(Debug)]
pub struct Census {
    now_ms: u64,
    most_specs: usize,
    known: HashMap<(ServiceId, u64), &'static str>,
    counts: BTreeMap<&'static str, usize>,
    last: Option<TaskId>,
}

impl Census {
    /// Begins a count; parameters as of [`pending_by_reason`].
    pub fn new(now_ms: u64, most_specs: usize) -> Self {
        Self { now_ms, most_specs, known: HashMap::new(), counts: BTreeMap::new(), last: None }
    }

    /// Counts the next tasks, `max_tasks` at most, and stops after the first spec that had to be tried on all nodes.
    /// Returns whether there may be more.
    pub fn proceed(&mut self, state: &State, max_tasks: usize) -> bool {
        let from = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        for id in state.pending_in((from, Bound::Unbounded)).take(max_tasks) {
            self.last = Some(id);
            let Some(task) = state.task(id) else { continue };
            let tried_before = self.known.len();
            let reason = self.reason(state, task);
            *self.counts.entry(reason).or_default() += 1;
            if self.known.len() > tried_before {
                return true;
            }
        }
        let from = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        state.pending_in((from, Bound::Unbounded)).next().is_some()
    }

    /// Returns the counts so far, by reason.
    pub fn finish(self) -> BTreeMap<&'static str, usize> {
        self.counts
    }

    fn reason(&mut self, state: &State, task: &Task) -> &'static str {
        if task.not_before_ms > self.now_ms {
            return BACKOFF;
        }
        let is_full = self.known.len() >= self.most_specs;
        let spec = (task.service, task.spec_version);
        match self.known.get(&spec) {
            Some(reason) => reason,
            None if is_full => OTHER,
            None => self.known.entry(spec).or_insert_with(|| reason(state, task)),
        }
    }
}

fn reason(state: &State, task: &Task) -> &'static str {
    let Some(spec) = state.spec_of(task) else { return OTHER };
    match Scheduler::new(state, 0).place(task, spec, None) {
        Ok(_) => DUE,
        // The first of those that refuse as many.
        Err(counts) => counts.iter().rev().max_by_key(|count| count.nodes).map_or(NO_NODE, |count| count.filter),
    }
}
