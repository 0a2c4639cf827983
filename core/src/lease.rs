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
//!
//! Two things keep a silent node from being called down though its time is over. Someone else reaches it: the fault is
//! on the way between it and the leader, and moving its tasks would harm. Or half of all nodes are silent at once: then the leader
//! suspects itself, and calls them down one after the other.

use std::collections::BTreeMap;

use crate::model::{NodeId, NodeState};

/// How long a task whose lease has ended is given to end by itself, by an agent that is alive.
pub const STOP_GRACE_MS: u64 = 500;
/// After the lease's end the watchdog kills what still runs: later than the agent, well within [`LeasePolicy::kill_ms`].
pub const WATCHDOG_AFTER_MS: u64 = 800;
/// A second opinion counts for so long.
const OPINION_FRESH_MS: u64 = 1_000;
/// Nodes that went down within this time count among those that are silent at once.
pub const MASS_WINDOW_MS: u64 = 60_000;

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
    /// How much longer a node is waited for that others reach.
    pub opinion_patience_ms: u64,
    /// The same for a node with leased tasks: they have stopped by then, and waiting longer does not bring them back.
    pub leased_patience_ms: u64,
    /// Between nodes that are called down while half of all are silent.
    pub mass_interval_ms: u64,
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
            opinion_patience_ms: 15_000,
            leased_patience_ms: 2_000,
            mass_interval_ms: 5_000,
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
        self.manager_wait_for_ms(self.lease_ttl_ms)
    }

    /// `L_m` for a grant of `lease_ttl_ms` instead of the policy's.
    pub const fn manager_wait_for_ms(&self, lease_ttl_ms: u64) -> u64 {
        const MILLION: u64 = 1_000_000;
        let worker_at_most = (lease_ttl_ms * MILLION).div_ceil(MILLION - self.rate_error_ppm);
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
    /// What is granted now; longer than the policy's while the cluster is frozen.
    lease_ttl_ms: u64,
    nodes: BTreeMap<NodeId, Entry>,
    last_down_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The last grant, or when this leader began: a grant of its predecessor is not later.
    granted_ms: u64,
    /// How long the longest grant may last that the worker still counts on.
    ttl_ms: u64,
    told: NodeState,
    /// When somebody else last reached it.
    reached_ms: Option<u64>,
    /// When this leader called it down.
    down_ms: Option<u64>,
}

impl Entry {
    const fn new(granted_ms: u64, ttl_ms: u64, told: NodeState) -> Self {
        Self { granted_ms, ttl_ms, told, reached_ms: None, down_ms: None }
    }

    const fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.granted_ms)
    }

    /// Whether it counts among those that fell silent at once.
    fn is_missing(&self, now_ms: u64, policy: &LeasePolicy) -> bool {
        match self.told {
            NodeState::Down => self.down_ms.is_some_and(|down_ms| now_ms.saturating_sub(down_ms) < MASS_WINDOW_MS),
            _ => self.silent_ms(now_ms) >= policy.disconnected_after_ms,
        }
    }
}

impl LeaderLeases {
    /// A new leader's: every node has its full time from now. Nodes that are down stay so until they report.
    /// `lease_ttl_ms`: the longest grant that an earlier leader may have given, and what is granted from now on.
    pub fn new(
        policy: LeasePolicy,
        leader_since_ms: u64,
        nodes: impl IntoIterator<Item = (NodeId, NodeState)>,
    ) -> Self {
        let entry = |told| Entry::new(leader_since_ms, policy.lease_ttl_ms, told);
        let nodes = nodes.into_iter().map(|(node, told)| (node, entry(told))).collect();
        Self { policy, lease_ttl_ms: policy.lease_ttl_ms, nodes, last_down_ms: None }
    }

    /// From now on grants last for `lease_ttl_ms`, and every node may hold one that does already.
    pub fn extend(&mut self, lease_ttl_ms: u64) {
        self.lease_ttl_ms = lease_ttl_ms.max(self.policy.lease_ttl_ms);
        for entry in self.nodes.values_mut() {
            entry.ttl_ms = entry.ttl_ms.max(self.lease_ttl_ms);
        }
    }

    /// From now on grants are the policy's again. What was granted before is waited for until a new grant replaces it.
    pub const fn shorten(&mut self) {
        self.lease_ttl_ms = self.policy.lease_ttl_ms;
    }

    /// How long a grant lasts now.
    pub const fn lease_ttl_ms(&self) -> u64 {
        self.lease_ttl_ms
    }

    /// The node registered, or its heartbeat was granted, at `now_ms`; it is ready from then on.
    pub fn granted(&mut self, node: NodeId, now_ms: u64) {
        let ttl_ms = self.lease_ttl_ms;
        let entry = self.nodes.entry(node).or_insert(Entry::new(now_ms, ttl_ms, NodeState::Ready));
        // A shorter grant may not have arrived: the longer one before it is waited for to its end.
        let left_ms = entry.ttl_ms.saturating_sub(entry.silent_ms(now_ms));
        *entry = Entry::new(entry.granted_ms.max(now_ms), ttl_ms.max(left_ms), NodeState::Ready);
    }

    /// Somebody else reached the node, in a try that began at `asked_ms`.
    pub fn reached(&mut self, node: NodeId, asked_ms: u64) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.reached_ms = entry.reached_ms.max(Some(asked_ms));
        }
    }

    /// The nodes about which others should be asked: silent, and not given up.
    pub fn doubtful(&self, now_ms: u64) -> Vec<NodeId> {
        let is_doubtful = |entry: &Entry| {
            entry.told != NodeState::Down && entry.silent_ms(now_ms) >= self.policy.disconnected_after_ms
        };
        self.nodes.iter().filter(|(_, entry)| is_doubtful(entry)).map(|(node, _)| *node).collect()
    }

    /// Whether half of the nodes or more, and two at least, are missing at once.
    pub fn is_mass_loss(&self, now_ms: u64) -> bool {
        let policy = &self.policy;
        let missing = self.nodes.values().filter(|entry| entry.is_missing(now_ms, policy)).count();
        let long_gone = |entry: &&Entry| entry.told == NodeState::Down && !entry.is_missing(now_ms, policy);
        let known = self.nodes.len() - self.nodes.values().filter(long_gone).count();
        missing >= 2 && 2 * missing >= known
    }

    /// The node's row is gone.
    pub fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// What has changed by `now_ms`. `is_leased`: whether the node has a task that must be fenced. A state is told once;
    /// if telling the cluster failed, [`LeaderLeases::untold`] makes it due again.
    pub fn due(&mut self, now_ms: u64, is_leased: impl Fn(NodeId) -> bool) -> Vec<(NodeId, NodeState)> {
        let (policy, is_mass_loss) = (self.policy, self.is_mass_loss(now_ms));
        let mut last_down_ms = self.last_down_ms;
        let mut due = Vec::new();
        for (node, entry) in &mut self.nodes {
            let silent_ms = entry.silent_ms(now_ms);
            let (down_after_ms, patience_ms) = match entry.told {
                NodeState::Down => continue,
                _ if silent_ms < policy.disconnected_after_ms => continue,
                _ if is_leased(*node) => (policy.manager_wait_for_ms(entry.ttl_ms), policy.leased_patience_ms),
                _ => (policy.down_after_ms, policy.opinion_patience_ms),
            };
            let is_reached = entry.reached_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < OPINION_FRESH_MS)
                && silent_ms < down_after_ms.saturating_add(patience_ms);
            let next_ms = last_down_ms.map_or(0, |last_ms| last_ms + policy.mass_interval_ms);
            let waits_its_turn = is_mass_loss && now_ms < next_ms;
            let is_down = silent_ms >= down_after_ms && !is_reached && !waits_its_turn;
            let state = if is_down { NodeState::Down } else { NodeState::Disconnected };
            if is_down {
                (last_down_ms, entry.down_ms) = (Some(now_ms), Some(now_ms));
            }
            if state != entry.told {
                entry.told = state;
                due.push((*node, state));
            }
        }
        self.last_down_ms = last_down_ms;
        due
    }

    /// The cluster was not told after all: the node's last known state is `state`.
    pub fn untold(&mut self, node: NodeId, state: NodeState) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            (entry.told, entry.down_ms) = (state, None);
        }
        // Nobody was moved for it.
        self.last_down_ms = self.nodes.values().filter_map(|entry| entry.down_ms).max();
    }

    /// When something is due next, if nothing is heard until then.
    pub fn next_deadline_ms(&self, now_ms: u64) -> Option<u64> {
        let policy = &self.policy;
        let next_ms = match self.doubtful(now_ms).is_empty() {
            true => None,
            false => self.last_down_ms.map(|last_ms| last_ms + policy.mass_interval_ms),
        };
        let deadlines = self.nodes.values().filter(|entry| entry.told != NodeState::Down).flat_map(|entry| {
            let wait_ms = policy.manager_wait_for_ms(entry.ttl_ms);
            [policy.disconnected_after_ms, policy.down_after_ms, wait_ms].map(|after_ms| entry.granted_ms + after_ms)
        });
        deadlines.chain(next_ms).filter(|deadline_ms| *deadline_ms > now_ms).min()
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
    fn a_node_that_others_reach_is_waited_for_but_not_for_ever() {
        let policy = LeasePolicy::default();
        let mut leases = LeaderLeases::new(policy, 0, [(NODE, NodeState::Ready)]);
        let reached = |leases: &mut LeaderLeases, at_ms: u64| {
            leases.reached(NODE, at_ms);
            leases.due(at_ms, |_| false)
        };
        assert_eq!(reached(&mut leases, policy.down_after_ms), [(NODE, NodeState::Disconnected)]);
        assert_eq!(leases.doubtful(policy.down_after_ms), [NODE]);
        let last_ms = policy.down_after_ms + policy.opinion_patience_ms;
        assert_eq!(reached(&mut leases, last_ms - 1), []);
        assert_eq!(reached(&mut leases, last_ms), [(NODE, NodeState::Down)]);
    }

    #[test]
    fn an_old_opinion_does_not_count() {
        let policy = LeasePolicy::default();
        let mut leases = LeaderLeases::new(policy, 0, [(NODE, NodeState::Ready)]);
        leases.reached(NODE, policy.down_after_ms - OPINION_FRESH_MS);
        assert_eq!(leases.due(policy.down_after_ms, |_| false), [(NODE, NodeState::Down)]);
    }

    #[test]
    fn when_half_of_the_nodes_vanish_at_once_they_are_given_up_one_by_one() {
        let policy = LeasePolicy::default();
        let nodes = [1, 2, 3, 4].map(NodeId::from_random);
        let mut leases = LeaderLeases::new(policy, 0, nodes.map(|node| (node, NodeState::Ready)));
        let at_ms = policy.down_after_ms;
        leases.granted(nodes[2], at_ms);
        leases.granted(nodes[3], at_ms);
        let downs = |leases: &mut LeaderLeases, now_ms: u64| {
            for node in [nodes[2], nodes[3]] {
                leases.granted(node, now_ms);
            }
            leases.due(now_ms, |_| false).into_iter().filter(|(_, state)| *state == NodeState::Down).count()
        };
        assert!(leases.is_mass_loss(at_ms));
        assert_eq!(downs(&mut leases, at_ms), 1);
        assert_eq!(leases.next_deadline_ms(at_ms), Some(at_ms + policy.disconnected_after_ms));
        assert_eq!(downs(&mut leases, at_ms + policy.mass_interval_ms - 1), 0);
        assert_eq!(downs(&mut leases, at_ms + policy.mass_interval_ms), 1);
    }

    #[test]
    fn one_node_of_many_is_no_mass_loss() {
        let policy = LeasePolicy::default();
        let nodes = [1, 2, 3].map(NodeId::from_random);
        let mut leases = LeaderLeases::new(policy, 0, nodes.map(|node| (node, NodeState::Ready)));
        leases.granted(nodes[1], 2_000);
        leases.granted(nodes[2], 2_000);
        assert!(!leases.is_mass_loss(2_500));
        assert!(leases.is_mass_loss(4_000));
    }

    #[test]
    fn a_longer_lease_is_waited_for_to_its_end_even_after_a_shorter_grant() {
        let policy = LeasePolicy::default();
        let mut leases = LeaderLeases::new(policy, 0, [(NODE, NodeState::Ready)]);
        leases.extend(60_000);
        leases.granted(NODE, 1_000);
        leases.shorten();
        leases.granted(NODE, 11_000);
        let until_ms = 11_000 + policy.manager_wait_for_ms(50_000);
        leases.due(until_ms - 2, |_| true);
        assert_eq!(leases.due(until_ms - 1, |_| true), []);
        assert_eq!(leases.due(until_ms, |_| true), [(NODE, NodeState::Down)]);
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
