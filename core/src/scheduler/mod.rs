//! Where a task should run: filter, score, pick.
//!
//! The filters that refuse a node also explain it, so that "why is it pending" is answered by the code that decided.

mod filter;
pub mod pending;
mod score;

use std::borrow::Cow;

use crate::model::{Node, NodeId, ServiceSpec, Task, TaskId};
use crate::state::{NodeUse, State};

pub use filter::{FilterCount, MAX_REASON_BYTES, NO_NODE_FITS, describe, describe_kinds};
pub use pending::pending_by_reason;

/// A node with what is given away on it, this plan's decisions included.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    pub node: &'a Node,
    pub used: Cow<'a, NodeUse>,
}

/// What is to be placed.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    pub task: &'a Task,
    pub spec: &'a ServiceSpec,
    /// Its image's size where some node tells it.
    pub image_bytes: u64,
    /// Taken only where no other node fits.
    pub avoid: Option<NodeId>,
}

/// The cluster while a plan is made.
#[derive(Debug)]
pub struct Scheduler<'a> {
    candidates: Vec<Candidate<'a>>,
    seed: u64,
}

impl<'a> Scheduler<'a> {
    /// Looks at every node once. `seed` breaks ties.
    pub fn new(state: &'a State, seed: u64) -> Self {
        let candidates =
            state.nodes().map(|node| Candidate { node, used: Cow::Borrowed(state.node_use(node.id)) }).collect();
        Self { candidates, seed }
    }

    /// Picks a node and gives the task's share of it away; where none fits, tells how many nodes each filter refused.
    pub fn place(
        &mut self,
        task: &Task,
        spec: &ServiceSpec,
        avoid: Option<NodeId>,
    ) -> Result<NodeId, Vec<FilterCount>> {
        let want = Want { task, spec, image_bytes: self.image_bytes(spec), avoid };
        let nodes = self.candidates.len();
        let best = self
            .candidates
            .iter_mut()
            .filter(|candidate| filter::first_refusal(candidate, &want).is_none())
            .min_by_key(|candidate| {
                let tie = mix(self.seed ^ task.id.bits() ^ candidate.node.id.bits());
                (want.avoid == Some(candidate.node.id), score::cost(candidate, &want, nodes), tie)
            });
        let Some(best) = best else {
            return Err(filter::count(&self.candidates, &want));
        };
        best.used.to_mut().add(task);
        Ok(best.node.id)
    }

    fn image_bytes(&self, spec: &ServiceSpec) -> u64 {
        let reference = filter::as_listed(&spec.image);
        let images = self.candidates.iter().flat_map(|candidate| &candidate.node.inventory.images);
        images.filter(|image| image.reference == reference).map(|image| image.size_bytes).next().unwrap_or(0)
    }
}

/// How many nodes each filter refuses for a pending task; empty where some node fits or the task is not there.
pub fn explain(state: &State, task: TaskId) -> Vec<FilterCount> {
    let Some(task) = state.task(task) else {
        return Vec::new();
    };
    let Some(spec) = state.spec_of(task) else {
        return Vec::new();
    };
    Scheduler::new(state, 0).place(task, spec, None).err().unwrap_or_default()
}

/// One round of splitmix64 (Steele et al., "Fast Splittable Pseudorandom Number Generators", 2014).
pub const fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
