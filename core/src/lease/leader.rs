//! The leader's account of its workers' leases: who was last heard, who is silent, who is to be given up.

use std::collections::BTreeMap;

use super::{LeasePolicy, MASS_WINDOW_MS};
use crate::model::{NodeId, NodeState};

/// A second opinion counts for so long.
const OPINION_FRESH_MS: u64 = 1_000;

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

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_random(1);

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
}
