//! Which tasks there should be: replicated services, restarts, drains, updates, reaping.
//!
//! [`Planner`] is what the leader keeps in memory: which slots changed and which waits are open. Everything it knows can
//! be made again from the state; a new leader starts with [`Planner::new`], which looks at everything once.

mod cure;
mod placing;
mod restart;
mod slots;

use std::collections::{BTreeSet, HashSet};

use crate::model::{ServiceId, Task, TaskId, TaskState};
use crate::plan::Plan;
use crate::scheduler::mix;
use crate::state::State;
use crate::state::change::ChangeSet;
use crate::state::command::{NewTask, Step};

use placing::{Placing, placed};
pub use restart::{Decision, decide};

/// What planning is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Ended tasks remembered in each slot.
    pub history_per_slot: usize,
    /// Most steps in one plan; the rest comes with the next.
    pub max_steps: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { history_per_slot: 5, max_steps: 500 }
    }
}

/// The leader's account of what it has to look at.
#[derive(Debug, Default)]
pub struct Planner {
    policy: Policy,
    services: BTreeSet<ServiceId>,
    slots: BTreeSet<(ServiceId, u32)>,
    /// Pending tasks whose wait ends at a time (Unix ms).
    waiting: BTreeSet<(u64, TaskId)>,
    /// Pending tasks that no node could take, and those whose assignment has not been seen to take effect: where the
    /// node is taken away between the plan and its command, they are to be placed again.
    stuck: BTreeSet<TaskId>,
    /// Pending tasks for which the last plan had no room left.
    left_over: BTreeSet<TaskId>,
    /// Room may have appeared since.
    capacity: bool,
    /// By how much the state's clock was ahead of the leader's at the first plan: an earlier leader's was, and it wrote down
    /// until when tasks wait. Else they would wait until this one's clock is there.
    ahead_ms: Option<u64>,
}

impl Planner {
    /// Has everything to look at.
    pub fn new(state: &State, policy: Policy) -> Self {
        Self {
            policy,
            services: state.services().map(|service| service.id).collect(),
            capacity: true,
            ..Self::default()
        }
    }

    /// Takes note of what a command touched.
    pub fn observe(&mut self, state: &State, changes: &ChangeSet) {
        for id in &changes.services {
            self.services.insert(*id);
            // What it asks of a node may have changed.
            for task in state.tasks_of_service(*id).filter(|task| task.state == TaskState::Pending) {
                self.stuck.remove(&task.id);
            }
        }
        for change in &changes.tasks {
            if change.to != Some(TaskState::Pending) {
                self.stuck.remove(&change.task);
            }
            let is_removed = state.service(change.service).is_some_and(|service| service.removed);
            if is_removed || state.is_updating(change.service) {
                self.services.insert(change.service);
            } else {
                self.slots.insert((change.service, change.slot));
            }
            let has_ended = change.to.is_none_or(TaskState::is_terminal);
            self.capacity |= has_ended && change.node.is_some();
        }
        for change in &changes.nodes {
            self.capacity = true;
            for task in state.tasks_of_node(change.node).filter(|task| !task.state.is_terminal()) {
                self.slots.insert((task.service, task.slot));
            }
        }
    }

    /// Whether a plan made now could do anything.
    pub fn has_work(&self, now_ms: u64) -> bool {
        !self.services.is_empty()
            || !self.slots.is_empty()
            || !self.left_over.is_empty()
            || (self.capacity && !self.stuck.is_empty())
            || self
                .waiting
                .first()
                .is_some_and(|(at_ms, _)| *at_ms <= now_ms.saturating_add(self.ahead_ms.unwrap_or(0)))
    }

    /// Decides. The plan must be carried out before the next is made; if it was not, start again with a new planner.
    /// Times are the caller's, whose clock may be behind the state's.
    pub fn plan(&mut self, state: &State, now_ms: u64, seed: u64) -> Plan {
        let ahead_ms = *self.ahead_ms.get_or_insert(state.clock_ms().saturating_sub(now_ms));
        let at_ms = now_ms.saturating_add(ahead_ms);
        let mut plan = Plan { at_ms, ..self.plan_at(state, at_ms, seed) };
        plan.wake_at_ms = plan.wake_at_ms.map(|at_ms| at_ms.saturating_sub(ahead_ms));
        plan
    }

    fn plan_at(&mut self, state: &State, now_ms: u64, seed: u64) -> Plan {
        let (policy, plan, to_place, wanted) = (self.policy, Plan::default(), Vec::new(), HashSet::new());
        let mut draft = Draft { state, now_ms, seed, policy, plan, to_place, wanted };
        self.orchestrate(&mut draft);
        self.gather_pending(&mut draft);
        let mut plan = self.place(draft);
        if let Some((at_ms, _)) = self.waiting.first() {
            plan.wake_at(*at_ms);
        }
        if !self.services.is_empty() || !self.slots.is_empty() || !self.left_over.is_empty() {
            plan.wake_at(now_ms);
        }
        plan
    }

    fn orchestrate(&mut self, draft: &mut Draft<'_>) {
        while let Some(service) = self.services.pop_first() {
            if !draft.plan_service(service) {
                self.services.insert(service);
                return;
            }
            // They were among the others.
            let slots: Vec<_> = self.slots.range((service, 0)..=(service, u32::MAX)).copied().collect();
            for slot in &slots {
                self.slots.remove(slot);
            }
        }
        while let Some((service, slot)) = self.slots.pop_first() {
            draft.plan_slot_of(service, slot);
            if draft.is_full() {
                return;
            }
        }
    }

    /// Pending tasks that may be placed now: those whose wait is over and, where room may have appeared, the stuck ones.
    fn gather_pending(&mut self, draft: &mut Draft<'_>) {
        draft.to_place.extend(std::mem::take(&mut self.left_over).into_iter().map(Place::Known));
        for wait in std::mem::take(&mut draft.to_place) {
            match wait {
                Place::Known(task) if draft.not_before(task) > draft.now_ms => {
                    self.waiting.insert((draft.not_before(task), task));
                }
                // Looked at already since the last change that could help it.
                Place::Known(task) if self.stuck.contains(&task) && !self.capacity => {}
                place => draft.to_place.push(place),
            }
        }
        while let Some((_, task)) = self.waiting.first().filter(|(at_ms, _)| *at_ms <= draft.now_ms).copied() {
            self.waiting.pop_first();
            draft.to_place.push(Place::Known(task));
        }
        if std::mem::take(&mut self.capacity) {
            draft.to_place.extend(std::mem::take(&mut self.stuck).into_iter().map(Place::Known));
        }
    }

    fn place(&mut self, draft: Draft<'_>) -> Plan {
        let Draft { state, seed, mut plan, to_place, now_ms, policy, wanted } = draft;
        if to_place.is_empty() {
            return plan;
        }
        let mut placing = Placing::new(state, seed);
        let mut seen = HashSet::new();
        for place in to_place {
            match place {
                Place::New(index, task) => {
                    if let Step::CreateTask(new) = &mut plan.steps[index] {
                        new.node = placing.node_for(&task).and_then(Result::ok);
                    }
                }
                Place::Known(id) => {
                    let Some(task) = state.task(id).filter(|task| task.state == TaskState::Pending) else {
                        continue;
                    };
                    if wanted.contains(&id) || !seen.insert(id) {
                    } else if task.not_before_ms > now_ms {
                        self.waiting.insert((task.not_before_ms, id));
                    } else if plan.steps.len() >= policy.max_steps {
                        self.left_over.insert(id);
                    } else if let Some(found) = placing.node_for(task) {
                        self.stuck.insert(id);
                        plan.steps.extend(placed(task, found));
                    }
                }
            }
        }
        plan
    }
}

/// A task that may need a node.
#[derive(Debug)]
enum Place {
    /// In the state.
    Known(TaskId),
    /// The step of this plan that makes it, and the row as it will be as far as placing needs it.
    New(usize, Box<Task>),
}

/// A plan in the making.
struct Draft<'a> {
    state: &'a State,
    now_ms: u64,
    seed: u64,
    policy: Policy,
    plan: Plan,
    to_place: Vec<Place>,
    /// Tasks whose desired state this plan moves: a second step would come too late.
    wanted: HashSet<TaskId>,
}

impl Draft<'_> {
    fn is_full(&self) -> bool {
        self.plan.steps.len() >= self.policy.max_steps
    }

    fn not_before(&self, task: TaskId) -> u64 {
        self.state.task(task).map_or(0, |task| task.not_before_ms)
    }

    /// An id that the same plan on the same view gives again.
    fn task_id(&self, service: ServiceId, slot: u32, attempt: u32) -> TaskId {
        // Mixed one after the other: in one sum, neighbouring services and attempts would make the same number.
        let position = mix(mix(service.bits()) ^ (u64::from(slot) << 32 | u64::from(attempt)));
        TaskId::from_random(mix(self.seed ^ position))
    }

    fn create(&mut self, new: NewTask) {
        let is_due = new.not_before_ms <= self.now_ms;
        let index = self.plan.steps.len();
        if is_due && let Some(service) = self.state.service(new.service) {
            self.to_place.push(Place::New(index, Box::new(new.row(service, self.now_ms))));
        }
        self.plan.steps.push(Step::CreateTask(new));
    }
}
