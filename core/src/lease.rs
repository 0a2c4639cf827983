//! When a worker's tasks are still its own, and when they may be given away.
//!
//! A worker counts its lease of `L_w` ms from the moment it *sent* the heartbeat that the leader then granted, on a clock
//! that counts suspend. The leader waits `L_m >= (1+rho) * (L_w/(1-rho) + K)` from the moment it *granted* the last one:
//!
//! ```text
//! worker   sent ──────────── L_w by its clock ───────────► stops what is leased, within K
//! leader        └► granted ───────────── L_m by its clock ──────────────────► down: slots are given away
//! ```
//! sent happens before granted, so the leader's wait ends after the worker's stop whatever the network delays, if
//! - each clock's rate is wrong by at most rho,
//! - the worker, or its watchdog, or the end of its machine stops leased tasks within K of the lease's end,
//! - a renewal is granted only after a quorum confirmed the leader *after* the heartbeat arrived,
//! - a new leader waits a full `L_m` for every node before it calls it down.
//!
//! Gray and Cheriton, "Leases: An Efficient Fault-Tolerant Mechanism for Distributed File Cache Consistency" (1989).
//! Nodes that run no leased task need no fencing: for them `down_after_ms` decides, which is shorter.

use std::collections::BTreeMap;

use crate::model::{NodeId, NodeState};

/// The lengths of time, the same for a whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeasePolicy {
    /// How often a worker sends a heartbeat.
    pub heartbeat_ms: u64,
    /// `L_w`: how long a grant lasts by the worker's clock.
    pub lease_ttl_ms: u64,
    /// `K`: from the end of the lease to the end of the last leased task.
    pub kill_ms: u64,
    /// `rho`: bound on the error of a clock's rate, in millionths.
    pub rate_error_ppm: u64,
    /// Missed for so long, a node is `disconnected`: nothing new is placed on it.
    pub disconnected_after_ms: u64,
    /// Missed for so long, a node without leased tasks is `down`.
    pub down_after_ms: u64,
}

impl Default for LeasePolicy {
    fn default() -> Self {
        Self {
            heartbeat_ms: 500,
            lease_ttl_ms: 2_500,
            kill_ms: 1_500,
            rate_error_ppm: 1_000,
            disconnected_after_ms: 1_500,
            down_after_ms: 2_500,
        }
    }
}

/// The lengths of time do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    pub field: &'static str,
    pub problem: String,
}

impl LeasePolicy {
    /// `L_m`, rounded up.
    pub const fn manager_wait_ms(&self) -> u64 {
        const MILLION: u64 = 1_000_000;
        let worker_at_most = (self.lease_ttl_ms * MILLION).div_ceil(MILLION - self.rate_error_ppm);
        ((worker_at_most + self.kill_ms) * (MILLION + self.rate_error_ppm)).div_ceil(MILLION)
    }

    /// Whether the lengths fit together.
    pub fn validate(&self) -> Result<(), Invalid> {
        let invalid = |field, problem: String| Err(Invalid { field, problem });
        if self.heartbeat_ms == 0 || self.lease_ttl_ms < 3 * self.heartbeat_ms {
            return invalid(
                "lease_ttl_ms",
                format!("{} ms must be at least three heartbeats of {} ms", self.lease_ttl_ms, self.heartbeat_ms),
            );
        }
        if self.lease_ttl_ms < self.kill_ms {
            return invalid(
                "lease_ttl_ms",
                format!("{} ms is shorter than the time that killing takes ({} ms)", self.lease_ttl_ms, self.kill_ms),
            );
        }
        if self.rate_error_ppm >= 500_000 || self.lease_ttl_ms > 3_600_000 || self.kill_ms > 3_600_000 {
            return invalid("lease_ttl_ms", "leases are limited to one hour and rate errors to a half".into());
        }
        if self.disconnected_after_ms < 2 * self.heartbeat_ms || self.down_after_ms < self.disconnected_after_ms {
            return invalid(
                "down_after_ms",
                "disconnected_after_ms must be at least two heartbeats, and down_after_ms not shorter".into(),
            );
        }
        Ok(())
    }
}

/// The leader's account of who was last heard. All times in ms of one monotonic clock of the leader's.
#[derive(Debug, Clone)]
pub struct LeaderLeases {
    policy: LeasePolicy,
    nodes: BTreeMap<NodeId, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The last grant, or when this leader began: a grant of its predecessor is not later.
    granted_ms: u64,
    told: NodeState,
}

impl LeaderLeases {
    /// A new leader's: every node has its full time from now. Nodes that are down stay so until they report.
    pub fn new(
        policy: LeasePolicy,
        leader_since_ms: u64,
        nodes: impl IntoIterator<Item = (NodeId, NodeState)>,
    ) -> Self {
        let nodes = nodes.into_iter().map(|(node, told)| (node, Entry { granted_ms: leader_since_ms, told })).collect();
        Self { policy, nodes }
    }

    /// The node registered, or its heartbeat was granted, at `now_ms`; it is ready from then on.
    pub fn granted(&mut self, node: NodeId, now_ms: u64) {
        let entry = self.nodes.entry(node).or_insert(Entry { granted_ms: now_ms, told: NodeState::Ready });
        entry.granted_ms = entry.granted_ms.max(now_ms);
        entry.told = NodeState::Ready;
    }

    /// The node's row is gone.
    pub fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// What has changed by `now_ms`. `is_leased`: whether the node has a task that must be fenced. A state is told once;
    /// if telling the cluster failed, [`LeaderLeases::untold`] makes it due again.
    pub fn due(&mut self, now_ms: u64, is_leased: impl Fn(NodeId) -> bool) -> Vec<(NodeId, NodeState)> {
        let policy = self.policy;
        let mut due = Vec::new();
        for (node, entry) in &mut self.nodes {
            let silent_ms = now_ms.saturating_sub(entry.granted_ms);
            let down_after_ms = match entry.told {
                NodeState::Down => continue,
                _ if silent_ms < policy.disconnected_after_ms => continue,
                _ if is_leased(*node) => policy.manager_wait_ms(),
                _ => policy.down_after_ms,
            };
            let state = if silent_ms >= down_after_ms { NodeState::Down } else { NodeState::Disconnected };
            if state != entry.told {
                entry.told = state;
                due.push((*node, state));
            }
        }
        due
    }

    /// The cluster was not told after all: the node's last known state is `state`.
    pub fn untold(&mut self, node: NodeId, state: NodeState) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.told = state;
        }
    }

    /// When something is due next, if nothing is heard until then.
    pub fn next_deadline_ms(&self, now_ms: u64) -> Option<u64> {
        let policy = &self.policy;
        let thresholds = [policy.disconnected_after_ms, policy.down_after_ms, policy.manager_wait_ms()];
        self.nodes
            .values()
            .filter(|entry| entry.told != NodeState::Down)
            .flat_map(|entry| thresholds.map(|after_ms| entry.granted_ms + after_ms))
            .filter(|deadline_ms| *deadline_ms > now_ms)
            .min()
    }
}

/// The worker's side of its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerLease {
    /// When the last granted heartbeat was sent (ms, CLOCK_BOOTTIME).
    pub sent_ms: u64,
    pub ttl_ms: u64,
}

impl WorkerLease {
    /// A heartbeat sent at `sent_ms` was granted; an answer that comes late or twice shortens nothing.
    pub fn renewed(&mut self, sent_ms: u64) {
        self.sent_ms = self.sent_ms.max(sent_ms);
    }

    /// When it ends.
    pub const fn deadline_ms(&self) -> u64 {
        self.sent_ms.saturating_add(self.ttl_ms)
    }

    /// Whether leased tasks have to stop now.
    pub const fn is_expired(&self, now_ms: u64) -> bool {
        now_ms >= self.deadline_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_random(1);

    #[test]
    fn the_leader_waits_longer_than_any_worker_whose_clock_is_within_the_bound() {
        for rate_error_ppm in [0, 1, 1_000, 50_000] {
            let policy = LeasePolicy { rate_error_ppm, ..LeasePolicy::default() };
            let error = rate_error_ppm as f64 / 1e6;
            // Real time until a slow worker has stopped, and the least real time that a fast leader waits.
            let worker_ms = policy.lease_ttl_ms as f64 / (1.0 - error) + policy.kill_ms as f64;
            let leader_ms = policy.manager_wait_ms() as f64 / (1.0 + error);
            assert!(leader_ms >= worker_ms, "{rate_error_ppm}: {leader_ms} < {worker_ms}");
        }
    }

    #[test]
    fn a_leased_node_is_down_only_after_the_full_wait() {
        let policy = LeasePolicy::default();
        let mut leases = LeaderLeases::new(policy, 0, [(NODE, NodeState::Ready)]);
        assert_eq!(leases.due(policy.disconnected_after_ms, |_| true), [(NODE, NodeState::Disconnected)]);
        assert_eq!(leases.due(policy.manager_wait_ms() - 1, |_| true), []);
        assert_eq!(leases.due(policy.manager_wait_ms(), |_| true), [(NODE, NodeState::Down)]);
        assert_eq!(leases.next_deadline_ms(0), None);
    }

    #[test]
    fn a_node_without_leased_tasks_is_down_sooner() {
        let policy = LeasePolicy::default();
        let mut leases = LeaderLeases::new(policy, 0, [(NODE, NodeState::Ready)]);
        assert_eq!(leases.due(policy.down_after_ms, |_| false), [(NODE, NodeState::Down)]);
    }

    #[test]
    fn a_grant_makes_a_node_ready_and_its_time_start_again() {
        let policy = LeasePolicy::default();
        let mut leases = LeaderLeases::new(policy, 0, [(NODE, NodeState::Disconnected)]);
        leases.granted(NODE, 1_000);
        assert_eq!(leases.due(1_000 + policy.disconnected_after_ms - 1, |_| true), []);
        assert_eq!(leases.next_deadline_ms(1_000), Some(1_000 + policy.disconnected_after_ms));
    }

    #[test]
    fn a_late_answer_does_not_shorten_the_workers_lease() {
        let mut lease = WorkerLease { sent_ms: 0, ttl_ms: 3_000 };
        lease.renewed(2_000);
        lease.renewed(500);
        assert!(!lease.is_expired(4_999));
        assert!(lease.is_expired(5_000));
    }

    #[test]
    fn a_lease_shorter_than_killing_is_refused() {
        let policy = LeasePolicy { kill_ms: 4_000, ..LeasePolicy::default() };
        assert_eq!(
            policy.validate().expect_err("wrong").to_string(),
            "lease_ttl_ms: 2500 ms is shorter than the time that killing takes (4000 ms)"
        );
    }
}
