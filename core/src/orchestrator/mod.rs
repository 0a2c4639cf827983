//! Which tasks there should be: replicated services, restarts, drains, updates, reaping.
//!
//! [`Planner`] is what the leader keeps in memory: which slots changed and which waits are open. Everything it knows can
//! be made again from the state; a new leader starts with [`Planner::new`], which looks at everything once.

mod cure;
mod draft;
mod drain;
mod pending;
mod placing;
mod restart;
mod slots;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::model::{Cause, Desired, ServiceId, TaskId, TaskState};
use crate::plan::Plan;
use crate::state::State;
use crate::state::change::ChangeSet;
use crate::state::command::Step;

use draft::Draft;
use drain::Unsettled;
use pending::Pending;
use placing::{Placing, placed};
use slots::Progress;

pub use drain::waits_for;
pub use restart::{Decision, decide};

/// What planning is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Ended tasks remembered in each slot.
    pub history_per_slot: usize,
    /// Most steps in one plan; the rest comes with the next.
    pub max_steps: usize,
    /// Most slots and pending tasks that one plan looks at; the rest comes with the next. While a plan is made nothing is
    /// applied.
    pub max_looks: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { history_per_slot: 5, max_steps: 500, max_looks: 4_000 }
    }
}

/// The leader's account of what it has to look at.
#[derive(Debug, Default)]
pub struct Planner {
    policy: Policy,
    services: BTreeMap<ServiceId, Walk>,
    slots: BTreeSet<(ServiceId, u32)>,
    pending: Pending,
    /// Slots with a task that is to leave its node and still waits for its turn: each change may be what it waits for.
    leaving: BTreeSet<(ServiceId, u32)>,
    has_changed: bool,
    /// When the first node's deadline comes (Unix ms).
    deadline_ms: Option<u64>,
    /// By how much the state's clock has been ahead of the leader's at a plan, at the most: an earlier leader's was, or this
    /// one's before it was set back, and it wrote down until when tasks wait. Else they would wait until this one's clock is
    /// there. It does not shrink, so that time goes on at the leader's pace.
    ahead_ms: u64,
}

/// How far the look at a service has come: a large one takes several plans.
#[derive(Debug, Clone, Copy, Default)]
struct Walk {
    at: Progress,
    /// It changed since: once more when this look is over.
    again: bool,
}

impl Planner {
    /// Has everything to look at.
    pub fn new(state: &State, policy: Policy) -> Self {
        let services = state.services().map(|service| (service.id, Walk::default())).collect();
        Self { policy, services, ..Self::default() }
    }

    /// Takes note of what a command touched.
    pub fn observe(&mut self, state: &State, changes: &ChangeSet) {
        self.has_changed |= !changes.is_empty();
        for id in &changes.services {
            self.look_at(*id);
            self.pending.service_changed(*id);
        }
        for change in &changes.tasks {
            match change.to {
                Some(TaskState::Pending) => self.pending.said(change.service, change.task, change.detail.as_deref()),
                _ => self.pending.forget(change.service, change.task),
            }
            if state.is_updating(change.service) {
                self.look_at(change.service);
            } else {
                self.slots.insert((change.service, change.slot));
            }
            // Where one begins, others may wait for another reason than before.
            let begins = change.to == Some(TaskState::Assigned);
            if change.node.is_some() && (begins || change.to.is_none_or(TaskState::is_terminal)) {
                self.pending.room_may_have_changed();
            }
        }
        if changes.settled {
            self.pending.room_may_have_changed();
        }
        for change in &changes.nodes {
            self.pending.room_may_have_changed();
            for task in state.tasks_of_node(change.node).filter(|task| !task.state.is_terminal()) {
                self.slots.insert((task.service, task.slot));
            }
        }
    }

    fn look_at(&mut self, service: ServiceId) {
        let walk = self.services.entry(service).or_default();
        walk.again = walk.at != Progress::default();
    }

    /// Whether a plan made now could do anything.
    pub fn has_work(&self, now_ms: u64) -> bool {
        !self.services.is_empty()
            || !self.slots.is_empty()
            || self.pending.has_work(self.at_ms(now_ms))
            || (!self.leaving.is_empty() && self.is_a_turn(self.at_ms(now_ms)))
    }

    /// Whether those that are to leave are to be looked at again.
    fn is_a_turn(&self, now_ms: u64) -> bool {
        self.has_changed || self.deadline_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// The time of the state's clock, to which waits and deadlines are written down.
    fn at_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add(self.ahead_ms)
    }

    /// Decides. The plan must be carried out before the next is made; if it was not, start again with a new planner.
    /// Times are the caller's, whose clock may be behind the state's, and be set at any time.
    pub fn plan(&mut self, state: &State, now_ms: u64, seed: u64) -> Plan {
        self.ahead_ms = self.ahead_ms.max(state.clock_ms().saturating_sub(now_ms));
        let at_ms = self.at_ms(now_ms);
        let mut plan = Plan { at_ms, ..self.plan_at(state, at_ms, seed) };
        plan.wake_at_ms = plan.wake_at_ms.map(|at_ms| at_ms.saturating_sub(self.ahead_ms));
        plan
    }

    fn plan_at(&mut self, state: &State, now_ms: u64, seed: u64) -> Plan {
        if self.is_a_turn(now_ms) {
            self.slots.append(&mut self.leaving);
            (self.has_changed, self.deadline_ms) = (false, None);
        }
        let mut draft = Draft::new(state, self.policy, now_ms, seed);
        self.orchestrate(&mut draft);
        let woken = self.pending.woken(now_ms);
        for id in draft.pending.drain(..).chain(woken) {
            if let Some(task) = state.task(id).filter(|task| task.state == TaskState::Pending) {
                self.pending.add(task, now_ms);
            }
        }
        self.pending.probe();
        let mut plan = self.place(draft);
        for at_ms in self.pending.wakes_at_ms().into_iter().chain(self.deadline_ms) {
            plan.wake_at(at_ms);
        }
        let is_left = !self.services.is_empty() || !self.slots.is_empty() || self.pending.has_due();
        if is_left || (self.has_changed && !self.leaving.is_empty()) {
            plan.wake_at(now_ms);
        }
        plan
    }

    fn orchestrate(&mut self, draft: &mut Draft<'_>) {
        let mut again = Vec::new();
        while let Some((service, walk)) = self.services.pop_first() {
            if let Some(at) = draft.plan_service(service, walk.at, &mut self.slots) {
                self.services.insert(service, Walk { at, ..walk });
                break;
            }
            if walk.again {
                again.push(service);
            }
        }
        self.services.extend(again.into_iter().map(|service| (service, Walk::default())));
        while !draft.is_full()
            && let Some((service, slot)) = self.slots.pop_first()
        {
            draft.plan_slot_of(service, slot);
        }
    }

    fn place(&mut self, draft: Draft<'_>) -> Plan {
        let Draft { state, seed, mut plan, created, now_ms, policy, mut wanted, mut looks, search, leaving, .. } =
            draft;
        if created.is_empty() && leaving.is_empty() && !self.pending.has_due() {
            return plan;
        }
        let mut placing = Placing::new(state, seed);
        for (index, task) in created {
            if let Step::CreateTask(new) = &mut plan.steps[index] {
                new.node = placing.node_for(&task).and_then(Result::ok);
            }
        }
        while plan.steps.len() < policy.max_steps && looks < policy.max_looks {
            let Some((kind, id)) = self.pending.next() else { break };
            looks += 1;
            let task = state.task(id).filter(|task| task.state == TaskState::Pending && !wanted.contains(&id));
            let Some(task) = task else { continue };
            if task.not_before_ms > now_ms {
                self.pending.wait(task.not_before_ms, id);
            } else if let Some(found) = placing.node_for(task) {
                match found {
                    Ok(_) => {
                        looks += search;
                        self.pending.sent(kind, id);
                    }
                    Err(why) => self.pending.refused(kind, id, why),
                }
                plan.steps.extend(placed(task, found));
            }
        }
        self.let_go(&mut placing, leaving, &mut wanted, &mut plan);
        plan
    }

    /// Tasks that are to leave nodes that drain until a deadline: those whose turn it is.
    fn let_go(
        &mut self,
        placing: &mut Placing<'_>,
        leaving: Vec<(TaskId, u64)>,
        wanted: &mut HashSet<TaskId>,
        plan: &mut Plan,
    ) {
        let (state, mut unsettled) = (placing.state, Unsettled::default());
        for (id, until_ms) in leaving {
            let Some(task) = state.task(id).filter(|task| !wanted.contains(&task.id)) else { continue };
            let is_full = plan.steps.len() >= self.policy.max_steps;
            self.has_changed |= is_full;
            let waits = task.state == TaskState::Running && unsettled.beside(state, task, wanted).is_some();
            if is_full || waits || !matches!(placing.node_for(task), Some(Ok(_))) {
                self.leaving.insert((task.service, task.slot));
                self.deadline_ms = Some(self.deadline_ms.map_or(until_ms, |earlier| earlier.min(until_ms)));
                continue;
            }
            wanted.insert(id);
            unsettled.leaves(task);
            let (desired, cause) = (Desired::Stopped, Cause::Drain);
            plan.steps.push(Step::Desire { task: id, seen_version: task.version, desired, cause });
        }
    }
}
