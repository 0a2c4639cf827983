//! What has happened, for people: each manager makes events of the change sets it applies, and remembers the last ones.
//!
//! Not replicated and not durable: the rows are the truth, events tell how they came to be.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use goat_core::model::{NodeId, ServiceId};
use goat_core::state::State;
use goat_core::state::change::ChangeSet;
use goat_proto::convert::Word;
use goat_proto::v1;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::clock;
use crate::machine::View;
use crate::raft::{Group, leader_of};

/// Events remembered.
const KEPT: usize = 8_192;
/// Read at one time by a watcher.
const MAX_READ: usize = 512;

/// The remembered events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ring: Mutex<Ring>,
    /// The position after the newest event.
    end: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The position of the oldest event; positions count from the manager's start.
    first: u64,
    events: VecDeque<Arc<v1::Event>>,
    services: HashMap<ServiceId, String>,
    nodes: HashMap<NodeId, String>,
}

/// The events that were to be read are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{missed} events were missed")]
pub struct Missed {
    pub missed: u64,
}

impl Default for Events {
    fn default() -> Self {
        Self { inner: Arc::new(Inner { ring: Mutex::default(), end: watch::Sender::new(0) }) }
    }
}

impl Events {
    /// The position of the first event of log index `since` or later, of the last `tail` of those where that is given.
    pub fn find(&self, since: u64, tail: Option<u32>, is_wanted: impl Fn(&v1::Event) -> bool) -> u64 {
        let ring = self.inner.ring.lock();
        let mut from = ring.events.iter().position(|event| event.index >= since).unwrap_or(ring.events.len());
        if let Some(tail) = tail {
            let wanted = ring.events.iter().enumerate().skip(from).filter(|(_, event)| is_wanted(event));
            let positions: Vec<usize> = wanted.map(|(position, _)| position).collect();
            let skipped = positions.len().saturating_sub(tail as usize);
            from = positions.get(skipped).copied().unwrap_or(ring.events.len());
        }
        ring.first + from as u64
    }

    /// Some events from a position on, and the position after them.
    pub fn read(&self, from: u64) -> Result<(Vec<Arc<v1::Event>>, u64), Missed> {
        let ring = self.inner.ring.lock();
        let Some(skipped) = from.checked_sub(ring.first) else {
            return Err(Missed { missed: ring.first - from });
        };
        let events: Vec<_> = ring.events.iter().skip(skipped as usize).take(MAX_READ).cloned().collect();
        let next = from + events.len() as u64;
        Ok((events, next))
    }

    /// Moves whenever there is a new event: the position after it.
    pub fn end(&self) -> watch::Receiver<u64> {
        self.inner.end.subscribe()
    }

    fn push(&self, events: Vec<v1::Event>) {
        if events.is_empty() {
            return;
        }
        let mut ring = self.inner.ring.lock();
        ring.events.extend(events.into_iter().map(Arc::new));
        while ring.events.len() > KEPT {
            ring.events.pop_front();
            ring.first += 1;
        }
        let end = ring.first + ring.events.len() as u64;
        drop(ring);
        self.inner.end.send_replace(end);
    }

    fn observe(&self, state: &State, change: &ChangeSet) {
        let events = self.inner.ring.lock().describe(state, change);
        self.push(events);
    }
}

/// Makes events of what is applied, until it is cancelled. `changes`: from before the group was started, so that what a
/// restarted manager replays is told too.
pub async fn run(events: Events, view: View, mut changes: broadcast::Receiver<Arc<ChangeSet>>) {
    loop {
        match changes.recv().await {
            Ok(change) => events.observe(&view.read(), &change),
            // The rows are right all the same.
            Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "events were left out"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Makes events of changes of leader, until it is cancelled.
pub async fn run_leaders(events: Events, group: Group) {
    let mut metrics = group.metrics();
    let mut told = None;
    loop {
        let (leader, index) = group.with_metrics(|metrics| {
            (leader_of(metrics, group.id()), metrics.last_applied.map_or(0, |log_id| log_id.index))
        });
        let is_news = leader.as_ref().is_some_and(|leader| told != Some((leader.id, leader.term)));
        if let Some(leader) = leader
            && is_news
        {
            told = Some((leader.id, leader.term));
            group.meters().leader_changes.add(1);
            events.push(vec![v1::Event {
                index,
                at_ms: clock::now_ms(),
                kind: "leader".into(),
                id: leader.id.to_string(),
                name: leader.name,
                to: "leads".into(),
                detail: format!("term {}", leader.term),
                ..v1::Event::default()
            }]);
        }
        if metrics.changed().await.is_err() {
            // Raft has ended: whoever started this ends it.
            return std::future::pending().await;
        }
    }
}

impl Ring {
    fn describe(&mut self, state: &State, change: &ChangeSet) -> Vec<v1::Event> {
        let base = v1::Event { index: change.index, at_ms: change.at_ms, ..v1::Event::default() };
        let mut events = Vec::new();
        for id in &change.services {
            events.extend(self.of_service(state, *id, change, &base));
        }
        for node in &change.nodes {
            if let Some(row) = state.node(node.node) {
                self.nodes.insert(node.node, row.name.clone());
            }
            // An inventory is no event.
            if node.from != node.to {
                events.push(v1::Event {
                    kind: "node".into(),
                    id: node.node.to_string(),
                    name: self.nodes.get(&node.node).cloned().unwrap_or_default(),
                    from: node.from.map(|state| state.as_str().to_owned()).unwrap_or_default(),
                    to: node.to.map_or("removed", |state| state.as_str()).to_owned(),
                    ..base.clone()
                });
            }
            if node.to.is_none() {
                self.nodes.remove(&node.node);
            }
        }
        for task in change.tasks.iter().filter(|task| task.to.is_some() && task.from != task.to) {
            let service = self.services.get(&task.service).cloned();
            let service = service.or_else(|| state.service(task.service).map(|service| service.spec.name.clone()));
            events.push(v1::Event {
                kind: "task".into(),
                id: task.task.to_string(),
                name: format!("{}.{}", service.unwrap_or_default(), task.slot),
                node: task.node.map(|node| self.node_name(state, node)).unwrap_or_default(),
                from: task.from.map(|state| state.word().to_owned()).unwrap_or_default(),
                to: task.to.map(|state| state.word().to_owned()).unwrap_or_default(),
                cause: task.cause.as_str().to_owned(),
                detail: task.detail.clone().unwrap_or_default(),
                ..base.clone()
            });
        }
        events
    }

    fn node_name(&mut self, state: &State, node: NodeId) -> String {
        if let Some(row) = state.node(node) {
            self.nodes.insert(node, row.name.clone());
        }
        self.nodes.get(&node).cloned().unwrap_or_else(|| node.to_string())
    }

    fn of_service(&mut self, state: &State, id: ServiceId, change: &ChangeSet, base: &v1::Event) -> Option<v1::Event> {
        let event = |name: String, to: &str| v1::Event {
            kind: "service".into(),
            id: id.to_string(),
            name,
            to: to.to_owned(),
            ..base.clone()
        };
        let Some(row) = state.service(id) else {
            return Some(event(self.services.remove(&id)?, "removed"));
        };
        let is_known = self.services.insert(id, row.spec.name.clone()).is_some();
        // The view may be ahead of this change set; what is told then is told once more with the next.
        let to = match row.removed {
            true => "removing",
            false if !is_known && row.created_at_ms == change.at_ms => "created",
            false => "changed",
        };
        Some(event(row.spec.name.clone(), to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(index: u64, name: &str) -> v1::Event {
        v1::Event { index, name: name.into(), ..v1::Event::default() }
    }

    fn names(events: &[Arc<v1::Event>]) -> Vec<&str> {
        events.iter().map(|event| event.name.as_str()).collect()
    }

    #[test]
    fn events_are_found_by_index_and_by_tail() {
        let events = Events::default();
        events.push(vec![event(1, "a"), event(2, "b"), event(2, "c"), event(5, "d")]);
        let from =
            |since, tail| names(&events.read(events.find(since, tail, |_| true)).expect("they are there").0).join("");
        assert_eq!(from(0, None), "abcd");
        assert_eq!(from(2, None), "bcd");
        assert_eq!(from(3, None), "d");
        assert_eq!(from(6, None), "");
        assert_eq!(from(0, Some(2)), "cd");
        assert_eq!(from(0, Some(0)), "");
        let last_b = events.find(0, Some(1), |event| event.name == "b");
        assert_eq!(names(&events.read(last_b).expect("there").0).join(""), "bcd");
    }

    #[test]
    fn who_reads_too_slowly_is_told_how_much_was_missed() {
        let events = Events::default();
        events.push((0..KEPT as u64 + 3).map(|index| event(index, "x")).collect());
        assert_eq!(events.read(1), Err(Missed { missed: 2 }));
        let (some, next) = events.read(3).expect("they are there");
        assert_eq!((some.len(), next), (MAX_READ, 3 + MAX_READ as u64));
        assert_eq!(*events.end().borrow(), KEPT as u64 + 3);
    }
}
