//! Which tasks there should be: replicated services, restarts, drains, updates, reaping.
//!
//! [`Planner`] is what the leader keeps in memory: which slots changed and which waits are open. Everything it knows can
//! be made again from the state; a new leader starts with [`Planner::new`], which looks at everything once.

mod cure;
mod draft;
mod drain;
mod pending;
mod placing;
mod queue;
mod restart;
mod selection;
mod slots;

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use crate::model::{Availability, Desired, ServiceId, Task, TaskId, TaskState};
use crate::plan::Plan;
use crate::state::change::ChangeSet;
use crate::state::command::Step;
use crate::state::{Service, State};

use draft::{Draft, Limit};
use drain::{Leave, Unsettled};
use pending::Pending;
use placing::{Placing, placed};
use queue::SlotQueue;
use slots::{Progress, SLOTS_PER_LOOK};

pub use drain::{is_misplaced, waits_for};
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
    /// The service whose walk went on last.
    walked: Option<ServiceId>,
    /// Slots that changed.
    slots: SlotQueue,
    pending: Pending,
    /// Slots with a task that is to leave its node and still waits for its turn: each change may be what it waits for.
    leaving: SlotQueue,
    /// Those of them that are looked at again, since something has changed.
    leaving_due: SlotQueue,
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
            let live = state.service(change.service).filter(|service| !service.removed);
            // A slot above the count may have stood in for another one.
            let is_above = |service: &Service| change.slot > service.spec.replicas();
            if live.is_some_and(|service| state.is_updating(service.id) || is_above(service)) {
                self.look_at(change.service);
            } else {
                self.slots.insert(change.service, change.slot);
            }
            // Where one begins, others may wait for another reason than before.
            let begins = change.to == Some(TaskState::Assigned);
            if change.node.is_some() && (begins || change.to.is_none_or(TaskState::is_terminal)) {
                self.pending.room_may_have_changed();
            }
        }
        if changes.settled {
            self.pending.room_may_have_changed();
            state.services().for_each(|service| self.look_at(service.id));
        }
        for change in &changes.nodes {
            self.pending.room_may_have_changed();
            let drains = state.node(change.node).is_some_and(|node| node.availability == Availability::Drain);
            // What it has and what it says of itself moves none of its tasks but those that its labels exclude.
            let moves_all = change.from != change.to || drains;
            let live = state.tasks_of_node(change.node).filter(|task| !task.state.is_terminal());
            for task in live.filter(|task| moves_all || is_misplaced(state, task)) {
                self.slots.insert(task.service, task.slot);
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
            || !self.leaving_due.is_empty()
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
            self.leaving_due.append(&mut self.leaving);
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
        let is_left = !self.services.is_empty()
            || !self.slots.is_empty()
            || !self.leaving_due.is_empty()
            || self.pending.has_due();
        if is_left || (self.has_changed && !self.leaving.is_empty()) {
            plan.wake_at(now_ms);
        }
        plan
    }

    /// Each queue has a share of the plan before one of them has what is left, so that none waits for another's end:
    ///
    /// | queue | eighths of a plan |
    /// | --- | --- |
    /// | slots that changed | 2 |
    /// | services that are looked at as a whole | 2 |
    /// | tasks that are to leave their nodes | 1 to look at, 1 to look for other nodes |
    /// | pending tasks | 2 |
    fn orchestrate(&mut self, draft: &mut Draft<'_>) {
        let whole = Limit::of(self.policy);
        draft.begin_share(whole.eighths(2));
        self.plan_slots(draft);
        draft.begin_share(whole.eighths(2));
        self.walk(draft, whole.eighths(1));
        draft.begin_share(whole.eighths(1));
        while !draft.is_full()
            && let Some((service, slot)) = self.leaving_due.pop()
        {
            draft.plan_slot_of(service, slot);
        }
        let places = !draft.pending.is_empty() || self.pending.has_work(draft.now_ms);
        let kept = if places { 2 } else { 0 } + usize::from(!draft.leaving.is_empty());
        draft.limit = whole.eighths(8 - kept);
        self.plan_slots(draft);
        self.walk(draft, whole.eighths(1));
    }

    fn plan_slots(&mut self, draft: &mut Draft<'_>) {
        while !draft.is_full()
            && let Some((service, slot)) = self.slots.pop()
        {
            draft.plan_slot_of(service, slot);
        }
    }

    /// Goes on with the walks over whole services, `turn` of each at a time.
    fn walk(&mut self, draft: &mut Draft<'_>, turn: Limit) {
        let (limit, mut again) = (draft.limit, Vec::new());
        while !limit.is_reached(draft.plan.steps.len(), draft.looks)
            && let Some((service, walk)) = self.next_walk()
        {
            draft.begin_share(turn);
            draft.limit = draft.limit.least(limit);
            if let Some(at) = draft.plan_service(service, walk.at, &mut self.slots) {
                self.services.insert(service, Walk { at, ..walk });
            } else if walk.again {
                again.push(service);
            }
            self.walked = Some(service);
        }
        draft.limit = limit;
        self.services.extend(again.into_iter().map(|service| (service, Walk::default())));
    }

    /// Takes out the walk of the service after the one that was served last.
    fn next_walk(&mut self) -> Option<(ServiceId, Walk)> {
        let after = self.walked.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.services.range((after, Bound::Unbounded)).next().map(|(id, _)| *id);
        let service = next.or_else(|| self.services.first_key_value().map(|(id, _)| *id))?;
        self.services.remove_entry(&service)
    }

    fn place(&mut self, draft: Draft<'_>) -> Plan {
        let Draft { state, seed, mut plan, created, now_ms, mut wanted, mut looks, search, leaving, .. } = draft;
        if created.is_empty() && leaving.is_empty() && !self.pending.has_due() {
            return plan;
        }
        let mut placing = Placing::new(state, seed);
        for (index, task) in created {
            if let Step::CreateTask(new) = &mut plan.steps[index] {
                new.node = placing.node_for(&task).and_then(Result::ok);
            }
        }
        let whole = Limit::of(self.policy);
        let limit = whole.eighths(8 - usize::from(!leaving.is_empty()));
        // One at least, however full the plan is.
        let limit = limit.greatest(Limit::ONE.after(plan.steps.len(), looks));
        while !limit.is_reached(plan.steps.len(), looks) {
            let Some((kind, id)) = self.pending.next() else { break };
            looks += 1;
            let is_removed = |task: &Task| state.service(task.service).is_none_or(|service| service.removed);
            let task = state.task(id).filter(|task| task.state == TaskState::Pending && !wanted.contains(&id));
            let Some(task) = task.filter(|task| !is_removed(task)) else { continue };
            if task.not_before_ms > now_ms {
                self.pending.wait(task.not_before_ms, id);
                continue;
            }
            looks += if placing.is_refused(task) { 0 } else { search };
            if let Some(found) = placing.node_for(task) {
                match found {
                    Ok(_) => self.pending.sent(kind, id),
                    Err(why) => self.pending.refused(kind, id, why),
                }
                plan.steps.extend(placed(task, found));
            }
        }
        let limit = whole.greatest(Limit::ONE.after(plan.steps.len(), looks));
        self.let_go(&mut placing, leaving, (limit, looks, search), &mut wanted, &mut plan);
        plan
    }

    /// Tasks that are to leave their nodes gently: those whose turn it is. What the plan has no room for comes with the next
    /// one.
    fn let_go(
        &mut self,
        placing: &mut Placing<'_>,
        leaving: Vec<(TaskId, Leave)>,
        (limit, mut looks, search): (Limit, usize, usize),
        wanted: &mut HashSet<TaskId>,
        plan: &mut Plan,
    ) {
        let (state, mut unsettled) = (placing.state, Unsettled::default());
        for (id, leave) in leaving {
            let Some(task) = state.task(id).filter(|task| !wanted.contains(&task.id)) else { continue };
            if limit.is_reached(plan.steps.len(), looks + unsettled.glances / SLOTS_PER_LOOK) {
                self.leaving_due.insert(task.service, task.slot);
                continue;
            }
            looks += 1;
            let waits = task.state == TaskState::Running && unsettled.beside(state, task, wanted).is_some();
            if !waits && !placing.is_refused(task) {
                looks += search;
            }
            if waits || !matches!(placing.node_for(task), Some(Ok(_))) {
                self.leaving.insert(task.service, task.slot);
                self.deadline_ms = self.deadline_ms.into_iter().chain(leave.until_ms()).min();
                continue;
            }
            wanted.insert(id);
            unsettled.leaves(task);
            let (desired, cause) = (Desired::Stopped, leave.cause());
            plan.steps.push(Step::Desire { task: id, seen_version: task.version, desired, cause });
        }
    }
}
