//! Pending tasks whose time to be placed has come or will come, by what they run.
//!
//! What does not fit one of a kind does not fit the others, so room that may have appeared costs one look a kind, however
//! many wait. Decides nothing: it only knows whom to look at.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::model::{ServiceId, Task, TaskId};

/// What a task runs: its service, and the version of its spec.
pub(super) type Kind = (ServiceId, u64);

pub(super) fn kind_of(task: &Task) -> Kind {
    (task.service, task.spec_version)
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    kinds: BTreeMap<Kind, Kindred>,
    /// Those with some that are due.
    due: BTreeSet<Kind>,
    /// The kind that was served last.
    last: Option<Kind>,
    /// Tasks whose wait ends at a time (Unix ms).
    waiting: BTreeSet<(u64, TaskId)>,
    /// Room may have appeared since the last look.
    capacity: bool,
}

#[derive(Debug, Default)]
struct Kindred {
    /// To be looked at.
    due: BTreeSet<TaskId>,
    /// No node could take them.
    stuck: BTreeSet<TaskId>,
    /// Their assignment has not been seen to take effect: where the node is taken away between the plan and its command,
    /// they are to be placed again.
    sent: BTreeSet<TaskId>,
    /// Why those that are stuck are.
    told: String,
}

impl Kindred {
    fn is_empty(&self) -> bool {
        self.due.is_empty() && self.stuck.is_empty() && self.sent.is_empty()
    }
}

impl Pending {
    /// A pending task was come upon. One that was looked at since the last change that could help it is left alone.
    pub(super) fn add(&mut self, task: &Task, now_ms: u64) {
        if task.not_before_ms > now_ms {
            self.waiting.insert((task.not_before_ms, task.id));
            return;
        }
        let kind = kind_of(task);
        let kindred = self.kinds.entry(kind).or_default();
        if !kindred.stuck.contains(&task.id) && !kindred.sent.contains(&task.id) {
            kindred.due.insert(task.id);
            self.due.insert(kind);
        }
    }

    /// It is not pending any more.
    pub(super) fn forget(&mut self, service: ServiceId, task: TaskId) {
        let mut is_empty = false;
        for (_, kindred) in self.kinds.range_mut(of(service)) {
            let _ = kindred.due.remove(&task) || kindred.stuck.remove(&task) || kindred.sent.remove(&task);
            is_empty |= kindred.is_empty();
        }
        if is_empty {
            self.sweep(service);
        }
    }

    /// Why it is pending was written down, or is not any more. Where that is not what is known here (an earlier leader's
    /// plan came after the state that this account began with), it is looked at again.
    pub(super) fn said(&mut self, service: ServiceId, task: TaskId, why: Option<&str>) {
        for (kind, kindred) in self.kinds.range_mut(of(service)) {
            if why != Some(kindred.told.as_str()) && kindred.stuck.remove(&task) {
                kindred.due.insert(task);
                self.due.insert(*kind);
            }
        }
    }

    fn sweep(&mut self, service: ServiceId) {
        let empty = self.kinds.range(of(service)).filter(|(_, kindred)| kindred.is_empty());
        for kind in empty.map(|(kind, _)| *kind).collect::<Vec<_>>() {
            self.kinds.remove(&kind);
            self.due.remove(&kind);
        }
    }

    /// What the service asks of a node may have changed.
    pub(super) fn service_changed(&mut self, service: ServiceId) {
        for (kind, kindred) in self.kinds.range_mut(of(service)) {
            kindred.due.append(&mut kindred.stuck);
            kindred.due.append(&mut kindred.sent);
            kindred.told.clear();
            self.due.insert(*kind);
        }
    }

    pub(super) const fn room_may_have_changed(&mut self) {
        self.capacity = true;
    }

    /// Those whose wait is over by `now_ms`.
    pub(super) fn woken(&mut self, now_ms: u64) -> Vec<TaskId> {
        let later = self.waiting.split_off(&(now_ms.saturating_add(1), TaskId::from_random(0)));
        std::mem::replace(&mut self.waiting, later).into_iter().map(|(_, task)| task).collect()
    }

    /// When the next wait ends (Unix ms).
    pub(super) fn wakes_at_ms(&self) -> Option<u64> {
        self.waiting.first().map(|(at_ms, _)| *at_ms)
    }

    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether a look at `now_ms` could do anything.
    pub(super) fn has_work(&self, now_ms: u64) -> bool {
        self.has_due()
            || (self.capacity && !self.kinds.is_empty())
            || self.wakes_at_ms().is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// Where room may have appeared, or gone, one of each kind that had none is due again: there may be some now, or it is
    /// for another reason that there is none.
    pub(super) fn probe(&mut self) {
        if !std::mem::take(&mut self.capacity) {
            return;
        }
        for (kind, kindred) in &mut self.kinds {
            kindred.due.append(&mut kindred.sent);
            kindred.due.extend(kindred.stuck.pop_first());
            if !kindred.due.is_empty() {
                self.due.insert(*kind);
            }
        }
    }

    /// The next that is due, of each kind in turn. It is to be given back by one of the three below, or it is forgotten.
    pub(super) fn next(&mut self) -> Option<(Kind, TaskId)> {
        loop {
            let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
            let kind = *self.due.range((after, Bound::Unbounded)).next().or_else(|| self.due.first())?;
            self.last = Some(kind);
            if let Some(task) = self.kinds.get_mut(&kind).and_then(|kindred| kindred.due.pop_first()) {
                return Some((kind, task));
            }
            self.due.remove(&kind);
            self.sweep(kind.0);
        }
    }

    pub(super) fn wait(&mut self, not_before_ms: u64, task: TaskId) {
        self.waiting.insert((not_before_ms, task));
    }

    /// It was given a node; there may be room for another of its kind.
    pub(super) fn sent(&mut self, kind: Kind, task: TaskId) {
        let kindred = self.kinds.entry(kind).or_default();
        kindred.sent.insert(task);
        if kindred.due.is_empty() {
            kindred.due.extend(kindred.stuck.pop_first());
        }
        if !kindred.due.is_empty() {
            self.due.insert(kind);
        }
    }

    /// No node fits. Where the reason is another one than before, the others of its kind are to hear it too.
    pub(super) fn refused(&mut self, kind: Kind, task: TaskId, why: &str) {
        let kindred = self.kinds.entry(kind).or_default();
        if kindred.told != why {
            why.clone_into(&mut kindred.told);
            kindred.due.append(&mut kindred.stuck);
            if !kindred.due.is_empty() {
                self.due.insert(kind);
            }
        }
        kindred.stuck.insert(task);
    }
}

fn of(service: ServiceId) -> std::ops::RangeInclusive<Kind> {
    (service, 0)..=(service, u64::MAX)
}
