//! A plan in the making: what it was made on, its steps so far, and what is still to be decided for it.

use std::collections::{HashMap, HashSet};

use super::Policy;
use super::drain::Leave;
use super::selection::Selection;
use crate::model::{ServiceId, Task, TaskId};
use crate::plan::Plan;
use crate::scheduler::mix;
use crate::state::State;
use crate::state::command::{NewTask, Step};

/// What it costs to look for a node, in terms of a look at a slot: it takes all nodes into view.
const NODES_PER_LOOK: usize = 40;

/// The size of a plan, or of one queue's share of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    steps: usize,
    looks: usize,
}

impl Limit {
    pub(super) const fn of(policy: Policy) -> Self {
        Self { steps: policy.max_steps, looks: policy.max_looks }
    }

    pub(super) const fn is_reached(self, steps: usize, looks: usize) -> bool {
        steps >= self.steps || looks >= self.looks
    }

    /// One step and one look.
    pub(super) const ONE: Self = Self { steps: 1, looks: 1 };

    pub(super) fn least(self, other: Self) -> Self {
        Self { steps: self.steps.min(other.steps), looks: self.looks.min(other.looks) }
    }

    pub(super) fn greatest(self, other: Self) -> Self {
        Self { steps: self.steps.max(other.steps), looks: self.looks.max(other.looks) }
    }

    /// So many eighths of this.
    pub(super) const fn eighths(self, parts: usize) -> Self {
        Self { steps: self.steps.saturating_mul(parts) / 8, looks: self.looks.saturating_mul(parts) / 8 }
    }

    /// As much again after what is used so far, and room for one step and one look at least.
    pub(super) fn after(self, steps: usize, looks: usize) -> Self {
        let after = |limit: usize, used: usize| used.saturating_add(limit.max(1));
        Self { steps: after(self.steps, steps), looks: after(self.looks, looks) }
    }
}

/// A plan in the making.
pub(super) struct Draft<'a> {
    pub(super) state: &'a State,
    pub(super) now_ms: u64,
    pub(super) seed: u64,
    /// The end of the share of the queue that is planned now.
    pub(super) limit: Limit,
    pub(super) plan: Plan,
    /// Slots that were looked at, and what it costs to look for nodes.
    pub(super) looks: usize,
    /// One search for a node.
    pub(super) search: usize,
    /// Pending tasks that may need a node.
    pub(super) pending: Vec<TaskId>,
    /// Tasks that want a node at once: the step that makes each, and its row as far as placing needs it.
    pub(super) created: Vec<(usize, Box<Task>)>,
    /// Tasks that are to leave their nodes, one of a service at a time.
    pub(super) leaving: Vec<(TaskId, Leave)>,
    /// Which slots are filled, of each service that this plan looks at.
    pub(super) selections: HashMap<ServiceId, Selection>,
    /// Tasks whose desired state this plan moves: a second step would come too late.
    pub(super) wanted: HashSet<TaskId>,
    pub(super) history_per_slot: usize,
    /// Slots that were looked at: they stand in more than one queue, and a second step would come too late.
    planned: HashSet<(ServiceId, u32)>,
    /// Services that this plan forgets.
    pub(super) forgotten: HashSet<ServiceId>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(state: &'a State, policy: Policy, now_ms: u64, seed: u64) -> Self {
        Self {
            state,
            now_ms,
            seed,
            limit: Limit::of(policy),
            history_per_slot: policy.history_per_slot,
            plan: Plan::default(),
            looks: 0,
            search: state.nodes().len() / NODES_PER_LOOK,
            pending: Vec::new(),
            created: Vec::new(),
            leaving: Vec::new(),
            selections: HashMap::new(),
            wanted: HashSet::new(),
            planned: HashSet::new(),
            forgotten: HashSet::new(),
        }
    }

    /// Counts the look at a slot. Returns whether it is the first one in this plan.
    pub(super) fn begin_slot(&mut self, service: ServiceId, slot: u32) -> bool {
        self.looks += 1;
        self.planned.insert((service, slot))
    }

    /// From here on the plan is full when `share` has been added to it.
    pub(super) fn begin_share(&mut self, share: Limit) {
        self.limit = share.after(self.plan.steps.len(), self.looks);
    }

    pub(super) fn is_full(&self) -> bool {
        self.limit.is_reached(self.plan.steps.len(), self.looks)
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
