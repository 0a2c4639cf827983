//! Heartbeats on their way to their grants: the newest of each node. A newer one takes the place of an older one, which has
//! nothing to renew that the newer does not, so no queue can fill up and no fresh heartbeat is lost for a stale one.

use std::collections::HashMap;
use std::sync::Arc;

use goat_core::model::NodeId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Entry;

/// A heartbeat on its way to its grant.
#[derive(Debug)]
pub(super) struct Heartbeat {
    pub entry: Arc<Entry>,
    pub sequence: u64,
    /// The one from whose grant the worker's lease counts; 0 for none.
    pub lease_sequence: u64,
}

impl Heartbeat {
    /// Order among those of one node: of a newer session, or later in the same one.
    fn age(&self) -> (u64, u64) {
        (self.entry.number, self.sequence)
    }
}

/// See the module. Holds one for each session at the most.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    newest: Mutex<HashMap<NodeId, Heartbeat>>,
    has_arrived: Notify,
}

impl Heartbeats {
    /// Adds one. Returns whether one of the same node was still waiting.
    pub fn put(&self, heartbeat: Heartbeat) -> bool {
        let mut newest = self.newest.lock();
        let waiting = newest.get(&heartbeat.entry.node).map(Heartbeat::age);
        if waiting.is_none_or(|waiting| waiting < heartbeat.age()) {
            newest.insert(heartbeat.entry.node, heartbeat);
        }
        drop(newest);
        self.has_arrived.notify_one();
        waiting.is_some()
    }

    /// Waits until there is one.
    pub async fn arrived(&self) {
        while self.newest.lock().is_empty() {
            self.has_arrived.notified().await;
        }
    }

    /// Takes all that wait.
    pub fn take(&self) -> Vec<Heartbeat> {
        std::mem::take(&mut *self.newest.lock()).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::super::Agent;
    use super::*;

    fn heartbeat(node: u64, session: u64, sequence: u64) -> Heartbeat {
        let (to_worker, _) = mpsc::channel(1);
        let agent = Agent { node: NodeId::from_random(node), instance: String::new(), address: String::new() };
        let entry = Entry::new(session, agent, to_worker.clone(), to_worker);
        Heartbeat { entry: Arc::new(entry), sequence, lease_sequence: 0 }
    }

    fn ages(heartbeats: &Heartbeats) -> Vec<(NodeId, (u64, u64))> {
        let mut ages: Vec<_> = heartbeats.take().iter().map(|beat| (beat.entry.node, beat.age())).collect();
        ages.sort_unstable();
        ages
    }

    #[tokio::test]
    async fn of_each_node_the_newest_heartbeat_is_kept() {
        let heartbeats = Heartbeats::default();
        // So many would have filled any queue.
        for sequence in 1..=10_000 {
            assert_eq!(heartbeats.put(heartbeat(1, 7, sequence)), sequence > 1);
        }
        // One of an older session that comes late.
        assert!(heartbeats.put(heartbeat(1, 6, 20_000)));
        assert!(!heartbeats.put(heartbeat(2, 1, 5)));
        heartbeats.arrived().await;
        let mut wanted = [(NodeId::from_random(1), (7, 10_000)), (NodeId::from_random(2), (1, 5))];
        wanted.sort_unstable();
        assert_eq!(ages(&heartbeats), wanted);
        assert!(heartbeats.take().is_empty());
    }
}
