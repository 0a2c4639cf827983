//! A plan in the making: what it was made on, its steps so far, and what is still to be decided for it.

use std::collections::HashSet;

use super::Policy;
use crate::model::{ServiceId, Task, TaskId};
use crate::plan::Plan;
use crate::scheduler::mix;
use crate::state::State;
use crate::state::command::{NewTask, Step};

/// What it costs to look for a node, in terms of a look at a slot: it takes all nodes into view.
const NODES_PER_LOOK: usize = 40;

/// A plan in the making.
pub(super) struct Draft<'a> {
    pub(super) state: &'a State,
    pub(super) now_ms: u64,
    pub(super) seed: u64,
    pub(super) policy: Policy,
    pub(super) plan: Plan,
    /// Slots that were looked at, and what it costs to look for nodes.
    pub(super) looks: usize,
    /// One search for a node.
    pub(super) search: usize,
    /// Pending tasks that may need a node.
    pub(super) pending: Vec<TaskId>,
    /// Tasks that want a node at once: the step that makes each, and its row as far as placing needs it.
    pub(super) created: Vec<(usize, Box<Task>)>,
    /// Tasks that are to leave their nodes until then (Unix ms).
    pub(super) leaving: Vec<(TaskId, u64)>,
    /// Tasks whose desired state this plan moves: a second step would come too late.
    pub(super) wanted: HashSet<TaskId>,
    /// Services that this plan forgets.
    pub(super) forgotten: HashSet<ServiceId>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(state: &'a State, policy: Policy, now_ms: u64, seed: u64) -> Self {
        Self {
            state,
            now_ms,
            seed,
            policy,
            plan: Plan::default(),
            looks: 0,
            search: state.nodes().len() / NODES_PER_LOOK,
            pending: Vec::new(),
            created: Vec::new(),
            leaving: Vec::new(),
            wanted: HashSet::new(),
            forgotten: HashSet::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.plan.steps.len() >= self.policy.max_steps || self.looks >= self.policy.max_looks
    }

    /// An id that the same plan on the same view gives again.
    pub(super) fn task_id(&self, service: ServiceId, slot: u32, attempt: u32) -> TaskId {
        // Mixed one after the other: in one sum, neighbouring services and attempts would make the same number.
        let position = mix(mix(service.bits()) ^ (u64::from(slot) << 32 | u64::from(attempt)));
        TaskId::from_random(mix(self.seed ^ position))
    }

    pub(super) fn create(&mut self, new: NewTask) {
        let is_due = new.not_before_ms <= self.now_ms;
        let index = self.plan.steps.len();
        if is_due && let Some(service) = self.state.service(new.service) {
            self.looks += self.search;
            self.created.push((index, Box::new(new.row(service, self.now_ms))));
        }
        self.plan.steps.push(Step::CreateTask(new));
    }
}
