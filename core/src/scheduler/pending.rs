//! Why tasks wait for a node, counted by reason: what an operator watches. Decides nothing.

use std::collections::{BTreeMap, HashMap};

use super::Scheduler;
use crate::model::{ServiceId, Task};
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
    let mut known: HashMap<(ServiceId, u64), &'static str> = HashMap::new();
    let mut counts = BTreeMap::new();
    for task in state.pending().filter_map(|id| state.task(id)) {
        let reason = if task.not_before_ms > now_ms {
            BACKOFF
        } else {
            let spec = (task.service, task.spec_version);
            let is_full = known.len() >= most_specs;
            match known.get(&spec) {
                Some(reason) => reason,
                None if is_full => OTHER,
                None => *known.entry(spec).or_insert_with(|| reason(state, task)),
            }
        };
        *counts.entry(reason).or_default() += 1;
    }
    counts
}

fn reason(state: &State, task: &Task) -> &'static str {
    let Some(spec) = state.spec_of(task) else { return OTHER };
    match Scheduler::new(state, 0).place(task, spec, None) {
        Ok(_) => DUE,
        // The first of those that refuse as many.
        Err(counts) => counts.iter().rev().max_by_key(|count| count.nodes).map_or(NO_NODE, |count| count.filter),
    }
}
