//! Which slots of a service are filled.
//!
//! A service of n replicas fills the slots 1 to n. When its count was lowered, slots above n may hold tasks that run while
//! some below hold none that does. Then the n slots whose tasks are worth most are filled, and the others are dropped: their
//! tasks are removed, or not made. A slot above n that is kept stands in for one below that stays empty. New tasks are
//! made in the slots 1 to n only (`apply` refuses others), so this ends with the task that stands in.
//!
//! While rows are those of a snapshot, tasks that they do not know may run: until that is settled nothing is dropped but what
//! is empty.
//!
//! The selection is made from the rows alone, so nothing of it is replicated. It is stable: a dropped slot is empty from
//! then on, and nothing is dropped before what is empty.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::restart::{Decision, decide};
use crate::model::{Desired, NodeId, Task, TaskId, TaskState};
use crate::state::{Service, State};

/// With more slots than this, those above the count are dropped whatever they hold. The selection looks at all slots at
/// once, which has to leave most of a queue's share of the plan for what is then to be done.
const MAX_SELECTED: usize = 2_000;

/// The loss if a slot is dropped, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// It has no task, or one that was dropped before.
    Empty,
    /// Its task is pending, or ended and is to be tried again, or was given up.
    Waiting,
    /// Its task is on its way to run, or is stopped to be replaced.
    Starting,
    /// Its task completed and is not to run again.
    Done,
    /// Its task runs after failures, and not for long enough to be stable.
    Unstable,
    Stable,
}

/// The slots of one service that are filled.
#[derive(Debug, Default)]
pub(super) struct Selection {
    replicas: u32,
    /// Slots up to the count that are not filled.
    dropped: BTreeSet<u32>,
    /// Slots above the count that are.
    kept: BTreeSet<u32>,
    /// Slots that were looked at for it.
    pub(super) glances: usize,
}

impl Selection {
    /// `now_ms`: the leader's clock; the state's counts if it is ahead.
    pub(super) fn of(state: &State, service: &Service, now_ms: u64) -> Self {
        let replicas = service.spec.replicas();
        let mut selection = Self { replicas, ..Self::default() };
        let above = || state.slots_in(service.id, replicas.saturating_add(1)..);
        let is_large = |above: usize| above.saturating_add(replicas as usize) > MAX_SELECTED;
        if above().next().is_none() || is_large(above().take(MAX_SELECTED + 1).count()) {
            return selection;
        }
        let now_ms = now_ms.max(state.clock_ms());
        let mut slots: Vec<Slot> =
            above().filter_map(|(slot, ids)| keepable(state, service, slot, ids, now_ms)).collect();
        let surplus = slots.len();
        selection.kept = slots.iter().map(|slot| slot.number).collect();
        slots.extend((1..=replicas).map(|slot| wanted(state, service, slot, now_ms)));
        selection.glances = slots.len();
        let is_settled = state.restored().is_none();
        for (slot, worth) in victims(state, &slots, surplus) {
            if is_settled && selection.kept.remove(&slot) {
                continue;
            }
            if is_settled || worth == Worth::Empty {
                selection.dropped.insert(slot);
            }
        }
        selection
    }

    pub(super) fn has(&self, slot: u32) -> bool {
        if slot > self.replicas { self.kept.contains(&slot) } else { !self.dropped.contains(&slot) }
    }

    /// The slots that are filled, in order.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        (1..=self.replicas).filter(|slot| !self.dropped.contains(slot)).chain(self.kept.iter().copied())
    }
}

#[derive(Debug)]
struct Slot {
    number: u32,
    worth: Worth,
    /// The node on which its task runs or will run.
    node: Option<NodeId>,
}

/// A slot above the count, if its task can stand in for one below.
fn keepable(state: &State, service: &Service, number: u32, ids: &[TaskId], now_ms: u64) -> Option<Slot> {
    let newest = state.task(*ids.last()?)?;
    let rests = newest.state.is_terminal() && rests(service, newest);
    let can_stay = newest.desired == Desired::Running && (rests || !newest.state.is_terminal());
    can_stay.then(|| of_task(service, number, newest, now_ms))
}

/// A slot up to the count.
fn wanted(state: &State, service: &Service, number: u32, now_ms: u64) -> Slot {
    let tasks = || state.slot(service.id, number).iter().filter_map(|id| state.task(*id));
    let is_stopping = || tasks().any(|task| !task.state.is_terminal());
    match tasks().next_back() {
        None => Slot { number, worth: Worth::Empty, node: None },
        Some(newest) if newest.desired == Desired::Removed => Slot { number, worth: Worth::Empty, node: None },
        Some(newest) if newest.state.is_terminal() && is_stopping() => {
            Slot { number, worth: Worth::Starting, node: newest.node }
        }
        Some(newest) => of_task(service, number, newest, now_ms),
    }
}

fn of_task(service: &Service, number: u32, task: &Task, now_ms: u64) -> Slot {
    let restart = &service.spec.restart;
    let is_stable = || {
        let ran_ms = task.started_at_ms.map_or(0, |started_ms| now_ms.saturating_sub(started_ms));
        task.failures == 0 || ran_ms >= restart.stable_after_ms
    };
    let worth = match task.state {
        TaskState::Running if task.desired != Desired::Running => Worth::Starting,
        TaskState::Running if is_stable() => Worth::Stable,
        TaskState::Running => Worth::Unstable,
        TaskState::Assigned | TaskState::Preparing | TaskState::Starting => Worth::Starting,
        TaskState::Complete if rests(service, task) => Worth::Done,
        _ => Worth::Waiting,
    };
    let node = task.node.filter(|_| !task.state.is_terminal());
    Slot { number, worth, node }
}

/// Whether nothing follows a task that has ended.
fn rests(service: &Service, ended: &Task) -> bool {
    ended.spec_version == service.spec_version && decide(&service.spec.restart, ended, 0) == Decision::Rest
}

/// The `count` slots that are worth least, with what they are worth: of equal ones first the slot on the node with most of the service's tasks, then
/// of those the one on the node with most tasks, then the highest.
fn victims(state: &State, slots: &[Slot], count: usize) -> Vec<(u32, Worth)> {
    let mut on_node: BTreeMap<NodeId, usize> = BTreeMap::new();
    for node in slots.iter().filter_map(|slot| slot.node) {
        *on_node.entry(node).or_default() += 1;
    }
    let mut by_worth: BTreeMap<Worth, BTreeMap<Option<NodeId>, BTreeSet<u32>>> = BTreeMap::new();
    for slot in slots {
        by_worth.entry(slot.worth).or_default().entry(slot.node).or_default().insert(slot.number);
    }
    let load = |node: Option<NodeId>| node.map_or(0, |node| state.node_use(node).tasks);
    let mut victims = Vec::with_capacity(count);
    for (worth, mut nodes) in by_worth {
        let rank = |node: Option<NodeId>, slots: &BTreeSet<u32>, on_node: &BTreeMap<NodeId, usize>| {
            let own = node.and_then(|node| on_node.get(&node)).copied().unwrap_or(0);
            slots.last().map(|highest| (own, load(node), *highest, node))
        };
        let mut fullest: BinaryHeap<_> =
            nodes.iter().filter_map(|(node, slots)| rank(*node, slots, &on_node)).collect();
        while victims.len() < count
            && let Some((.., highest, node)) = fullest.pop()
        {
            victims.push((highest, worth));
            if let Some(own) = node.and_then(|node| on_node.get_mut(&node)) {
                *own = own.saturating_sub(1);
            }
            if let Some(slots) = nodes.get_mut(&node) {
                slots.remove(&highest);
                fullest.extend(rank(node, slots, &on_node));
            }
        }
    }
    victims
}
