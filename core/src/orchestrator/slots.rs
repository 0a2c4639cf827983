//! One service's slots: what is missing, outdated, draining, misplaced, surplus or forgotten.

use super::draft::Draft;
use super::drain::{self, Leave, Way};
use super::queue::SlotQueue;
use super::restart::{Decision, decide};
use super::selection::Selection;
use crate::model::{Cause, Desired, ServiceId, Task, TaskId, TaskState};
use crate::state::Service;
use crate::state::command::{NewTask, Step};

/// A glance at the newest task of so many slots costs as much as one look at a slot.
pub(super) const SLOTS_PER_LOOK: usize = 8;

/// Where the look at a service goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// From this slot on, up to the count.
    Wanted(u32),
    /// Slots above the count, from this one down.
    Surplus(u32),
    /// Slots of a removed service, from this one on.
    Removed(u32),
}

impl Default for Progress {
    fn default() -> Self {
        Self::Wanted(1)
    }
}

impl Draft<'_> {
    /// A whole service, or what the plan has room for: then it says where to go on. What is looked at here is taken out of
    /// `slots`, which are planned by themselves.
    pub(super) fn plan_service(&mut self, id: ServiceId, at: Progress, slots: &mut SlotQueue) -> Option<Progress> {
        let service = self.state.service(id)?;
        let wanted = service.spec.replicas();
        let mut at = match at {
            Progress::Wanted(_) | Progress::Surplus(_) if service.removed => Progress::Removed(0),
            // It is wanted again.
            Progress::Removed(_) if !service.removed => Progress::default(),
            at => at,
        };
        if let Progress::Wanted(from) = at {
            for slot in from..=wanted {
                if self.is_full() {
                    return Some(Progress::Wanted(slot));
                }
                slots.remove(id, slot);
                self.plan_slot(service, slot);
            }
            at = Progress::Surplus(u32::MAX);
        }
        if let Progress::Surplus(from) = at {
            for (slot, _) in self.state.slots_in(id, wanted.saturating_add(1)..=from).rev() {
                if self.is_full() {
                    return Some(Progress::Surplus(slot));
                }
                slots.remove(id, slot);
                self.plan_slot(service, slot);
            }
            if self.is_full() {
                return Some(Progress::Surplus(0));
            }
            self.plan_update(service);
        }
        if let Progress::Removed(from) = at {
            return self.plan_removed(service, from, slots);
        }
        None
    }

    /// One slot of a service.
    pub(super) fn plan_slot_of(&mut self, id: ServiceId, slot: u32) {
        let Some(service) = self.state.service(id) else { return };
        if !service.removed {
            self.plan_slot(service, slot);
            return;
        }
        let is_clear = self.clear_slot(id, slot);
        if is_clear && self.state.slots_in(id, ..).all(|(other, _)| other == slot) {
            self.forget_service(service);
        }
    }

    fn plan_removed(&mut self, service: &Service, from: u32, slots: &mut SlotQueue) -> Option<Progress> {
        // Where some come with a later plan, the service goes with the last of them (see `plan_slot_of`).
        let mut is_clear = from == 0;
        for (slot, _) in self.state.slots_in(service.id, from..) {
            if self.is_full() {
                return Some(Progress::Removed(slot));
            }
            slots.remove(service.id, slot);
            is_clear &= self.clear_slot(service.id, slot);
        }
        if is_clear {
            self.forget_service(service);
        }
        None
    }

    /// Forgets the slot's tasks that have ended and stops the others. Returns whether none is left then.
    fn clear_slot(&mut self, service: ServiceId, slot: u32) -> bool {
        let is_first_look = self.begin_slot(service, slot);
        let mut is_clear = true;
        for task in self.state.slot(service, slot).iter().filter_map(|id| self.state.task(*id)) {
            match task.state.is_terminal() {
                true if !is_first_look => {}
                true => self.plan.steps.push(Step::Forget { task: task.id, seen_version: task.version }),
                false => {
                    self.want(task, Desired::Removed, Cause::User);
                    is_clear = false;
                }
            }
        }
        is_clear
    }

    fn forget_service(&mut self, service: &Service) {
        if self.forgotten.insert(service.id) {
            self.plan.steps.push(Step::ForgetService { service: service.id, seen_version: service.version });
        }
    }

    fn plan_slot(&mut self, service: &Service, slot: u32) {
        if !self.begin_slot(service.id, slot) {
            return;
        }
        let state = self.state;
        let tasks: Vec<&Task> = state.slot(service.id, slot).iter().filter_map(|id| state.task(*id)).collect();
        if !self.is_filled(service, slot) {
            self.plan_dropped(&tasks);
            return;
        }
        match tasks.last() {
            None => self.create(first(service, slot, self.task_id(service.id, slot, 1))),
            Some(newest) if !newest.state.is_terminal() => self.plan_live(service, newest),
            // What stood in for a task that came back may not have ended yet.
            Some(_) if tasks.iter().any(|task| !task.state.is_terminal()) => {}
            Some(newest) => self.plan_ended(service, newest),
        }
        let ended: Vec<&&Task> = tasks.iter().filter(|task| task.state.is_terminal()).collect();
        // The newest tells that the slot was not forgotten but rests.
        let kept = self.history_per_slot.max(1);
        for task in &ended[..ended.len().saturating_sub(kept)] {
            self.plan.steps.push(Step::Forget { task: task.id, seen_version: task.version });
        }
    }

    /// Whether the slot is to hold a task. All slots of a service are looked at together, once in a plan.
    fn is_filled(&mut self, service: &Service, slot: u32) -> bool {
        if !self.selections.contains_key(&service.id) {
            let selection = Selection::of(self.state, service, self.now_ms);
            self.looks += selection.glances / SLOTS_PER_LOOK;
            self.selections.insert(service.id, selection);
        }
        self.selections.get(&service.id).is_none_or(|selection| selection.has(slot))
    }

    fn plan_dropped(&mut self, tasks: &[&Task]) {
        for task in tasks {
            if task.state.is_terminal() {
                self.plan.steps.push(Step::Forget { task: task.id, seen_version: task.version });
            } else {
                self.want(task, Desired::Removed, Cause::Scale);
            }
        }
    }

    fn plan_ended(&mut self, service: &Service, newest: &Task) {
        // Nobody restarts so often: a number that a worker made up, under the first format.
        let Some(attempt) = newest.attempt.checked_add(1) else { return };
        let id = self.task_id(service.id, newest.slot, attempt);
        // What failed or was given up under another spec says nothing of this one.
        let decision = if newest.spec_version == service.spec_version {
            decide(&service.spec.restart, newest, id.bits())
        } else {
            Decision::Again { wait_ms: 0, failures: 0, cause: Cause::Update }
        };
        let Decision::Again { wait_ms, failures, cause } = decision else {
            return;
        };
        self.create(NewTask {
            id,
            service: service.id,
            seen_version: service.version,
            slot: newest.slot,
            previous: Some(newest.id),
            attempt,
            failures,
            not_before_ms: if wait_ms == 0 { 0 } else { self.now_ms.saturating_add(wait_ms) },
            cause,
            node: None,
        });
    }

    fn plan_live(&mut self, service: &Service, task: &Task) {
        if task.desired != Desired::Running {
            return;
        }
        if task.state == TaskState::Pending {
            if task.spec_version == service.spec_version {
                self.pending.push(task.id);
            } else {
                // It runs nowhere yet, and had better not begin.
                self.want(task, Desired::Stopped, Cause::Update);
            }
            return;
        }
        match task.node.and_then(|node| drain::way(self.state, node, self.now_ms)) {
            None if drain::is_misplaced(self.state, task) => self.leaving.push((task.id, Leave::Misplaced)),
            None => {}
            Some(Way::AtOnce) => self.want(task, Desired::Stopped, Cause::Drain),
            Some(Way::Gently(until_ms)) => self.leaving.push((task.id, Leave::Drained { until_ms })),
        }
    }

    /// Replaces tasks of an older spec one at a time: the next only when every other slot runs.
    fn plan_update(&mut self, service: &Service) {
        let state = self.state;
        if !state.is_updating(service.id) {
            return;
        }
        self.looks += service.spec.replicas() as usize / SLOTS_PER_LOOK;
        let newest = |tasks: &[TaskId]| tasks.last().and_then(|id| state.task(*id));
        let live: Vec<&Task> = state.slots(service.id).filter_map(|(_, tasks)| newest(tasks)).collect();
        let stays = |task: &&Task| task.desired == Desired::Running && !self.wanted.contains(&task.id);
        // One that is done speaks for the new spec as well as one that runs; one that was given up speaks against it.
        let is_done = |task: &&Task| {
            task.state == TaskState::Complete
                && task.spec_version == service.spec_version
                && decide(&service.spec.restart, task, 0) == Decision::Rest
        };
        let is_settled = |task: &&Task| (task.state == TaskState::Running && stays(task)) || is_done(task);
        let outdated = |task: &&&Task| task.spec_version != service.spec_version && !task.state.is_terminal();
        // A task of the old spec that does not run anyway is replaced whatever the others do.
        let next = live.iter().filter(outdated).find(|task| !is_settled(task) && stays(task));
        let everyone_runs = live.len() as u32 >= service.spec.replicas() && live.iter().all(is_settled);
        let next = next.or_else(|| live.iter().filter(outdated).find(|_| everyone_runs));
        if let Some(task) = next {
            self.want(task, Desired::Stopped, Cause::Update);
        }
    }

    fn want(&mut self, task: &Task, desired: Desired, cause: Cause) {
        if task.desired < desired && self.wanted.insert(task.id) {
            self.plan.steps.push(Step::Desire { task: task.id, seen_version: task.version, desired, cause });
        }
    }
}

fn first(service: &Service, slot: u32, id: TaskId) -> NewTask {
    // A mere change of the count leaves the spec's version.
    let cause = if service.version == service.spec_version { Cause::User } else { Cause::Scale };
    NewTask {
        id,
        service: service.id,
        seen_version: service.version,
        slot,
        previous: None,
        attempt: 1,
        failures: 0,
        not_before_ms: 0,
        cause,
        node: None,
    }
}
