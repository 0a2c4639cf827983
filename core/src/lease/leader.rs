//! The leader's account of its workers' leases: who was last heard, who is silent, who is to be given up.

use std::collections::BTreeMap;

use super::{LeasePolicy, MASS_WINDOW_MS};
use crate::model::{NodeId, NodeState};

/// A second opinion counts for so long.
const OPINION_FRESH_MS: u64 = 1_000;
/// A worker that is heard has been told by then who has gone: managers look for that every two seconds, and a session on
/// which nothing comes down ends.
const TOLD_WITHIN_MS: u64 = 5_000;

/// The leader's account of who was last heard. All times in ms of one monotonic clock of the leader's.
#[derive(Debug, Clone)]
pub struct LeaderLeases {
    policy: LeasePolicy,
    /// What is granted now; longer than the policy's while the cluster is frozen.
    lease_ttl_ms: u64,
    nodes: BTreeMap<NodeId, Entry>,
    last_down_ms: Option<u64>,
    /// Since when the nodes are all that there are: when this account began, which knows of no removal before it, or when
    /// a node was last forgotten.
    known_since_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The last grant, or when this leader began: a grant of its predecessor is not later.
    granted_ms: u64,
    /// How long the longest grant may last that the worker still counts on.
    ttl_ms: u64,
    told: NodeState,
    /// Since when its heartbeats are granted without a gap; None until this leader has granted it one.
    heard_since_ms: Option<u64>,
    /// When somebody else last reached it.
    reached_ms: Option<u64>,
    /// When this leader called it down.
    down_ms: Option<u64>,
    /// The first of its heartbeats from which on each grant was of the policy's length. Cleared by longer grants.
    short_since: Option<u64>,
    /// It said that its lease counts from one of those: no longer one can be counted on any more.
    is_short: bool,
}

impl Entry {
    const fn new(granted_ms: u64, ttl_ms: u64, told: NodeState) -> Self {
        Self {
            granted_ms,
            ttl_ms,
            told,
            heard_since_ms: None,
            reached_ms: None,
            down_ms: None,
            short_since: None,
            is_short: false,
        }
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
        Self { policy, lease_ttl_ms: policy.lease_ttl_ms, nodes, last_down_ms: None, known_since_ms: leader_since_ms }
    }

    /// From now on grants last for `lease_ttl_ms`, and every node may hold one that does already.
    pub fn extend(&mut self, lease_ttl_ms: u64) {
        self.lease_ttl_ms = lease_ttl_ms.max(self.policy.lease_ttl_ms);
        for entry in self.nodes.values_mut() {
            entry.ttl_ms = entry.ttl_ms.max(self.lease_ttl_ms);
            if self.lease_ttl_ms > self.policy.lease_ttl_ms {
                (entry.short_since, entry.is_short) = (None, false);
            }
        }
    }

    /// From now on grants are the policy's again. Every node may hold a lease that lasts for `lease_ttl_ms` yet, unless it
    /// has confirmed a shorter one.
    pub fn outlast(&mut self, lease_ttl_ms: u64) {
        self.shorten();
        for entry in self.nodes.values_mut().filter(|entry| !entry.is_short) {
            entry.ttl_ms = entry.ttl_ms.max(lease_ttl_ms);
        }
    }

    /// A grant of this account's present length was sent for a node's heartbeat. `sequence` counts the heartbeats of one
    /// session; a session begins when the grants of the one before can arrive no more.
    pub fn sent(&mut self, node: NodeId, sequence: u64) {
        let is_short = self.lease_ttl_ms <= self.policy.lease_ttl_ms;
        if let Some(entry) = self.nodes.get_mut(&node).filter(|_| is_short) {
            entry.short_since = Some(entry.short_since.map_or(sequence, |since| since.min(sequence)));
        }
    }

    /// The node's lease counts from the grant of that heartbeat, and whatever ends its tasks knows that. A later grant
    /// replaces an earlier one, so that a longer lease before it does not have to be waited for.
    pub fn confirmed(&mut self, node: NodeId, sequence: u64) {
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        if entry.short_since.is_some_and(|since| sequence >= since) {
            (entry.is_short, entry.ttl_ms) = (true, self.policy.lease_ttl_ms);
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

    /// The node registered at `now_ms`, with this leader or an earlier one; it is ready, and its time starts again.
    pub fn registered(&mut self, node: NodeId, now_ms: u64) {
        let ttl_ms = self.lease_ttl_ms;
        let entry = self.nodes.entry(node).or_insert(Entry::new(now_ms, ttl_ms, NodeState::Ready));
        // A shorter grant may not have arrived: the longer one before it is waited for to its end.
        let left_ms = entry.ttl_ms.saturating_sub(entry.silent_ms(now_ms));
        let has_gap = entry.silent_ms(now_ms) >= self.policy.disconnected_after_ms;
        let heard_since_ms = entry.heard_since_ms.filter(|_| !has_gap);
        let granted = Entry::new(entry.granted_ms.max(now_ms), ttl_ms.max(left_ms), NodeState::Ready);
        let (short_since, is_short) = (entry.short_since, entry.is_short);
        *entry = Entry { heard_since_ms, short_since, is_short, ..granted };
    }

    /// Its heartbeat was granted at `now_ms`.
    pub fn granted(&mut self, node: NodeId, now_ms: u64) {
        self.registered(node, now_ms);
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.heard_since_ms = entry.heard_since_ms.or(Some(now_ms));
        }
    }

    /// [`Self::heard_since_ms`], as others' silence counts. A lone node needs no other, but where it may still ask one that was
    /// removed: that one may be cut off as it is, and answer it.
    fn others_heard_since_ms(&self, now_ms: u64) -> Option<u64> {
        let knows_it_is_alone = |entry: &Entry| {
            let told_since_ms = entry.heard_since_ms.map(|at_ms| at_ms.max(self.known_since_ms));
            told_since_ms.is_some_and(|at_ms| entry.granted_ms >= at_ms.saturating_add(TOLD_WITHIN_MS))
        };
        if self.nodes.len() == 1 && self.nodes.values().all(knows_it_is_alone) {
            return Some(0);
        }
        self.heard_since_ms(now_ms)
    }

    /// Since when some node or other is heard without a gap; None while none is.
    fn heard_since_ms(&self, now_ms: u64) -> Option<u64> {
        let is_heard = |entry: &&Entry| entry.silent_ms(now_ms) < self.policy.disconnected_after_ms;
        self.nodes.values().filter(is_heard).filter_map(|entry| entry.heard_since_ms).min()
    }

    /// Whether nothing leased can run any more of which no worker has told this leader: each node that is known was heard
    /// or given up, and any other has had its full time since managers are heard again.
    pub fn are_all_heard(&self, now_ms: u64) -> bool {
        let is_settled = |entry: &Entry| entry.told == NodeState::Down || entry.heard_since_ms.is_some();
        let wait_ms = self.policy.manager_wait_for_ms(self.lease_ttl_ms);
        let since_ms = self.heard_since_ms(now_ms);
        self.nodes.values().all(is_settled) && since_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) >= wait_ms)
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
    pub fn forget(&mut self, node: NodeId, now_ms: u64) {
        self.nodes.remove(&node);
        self.known_since_ms = now_ms;
    }

    /// What has changed by `now_ms`. `is_leased`: whether the node has a task that must be fenced. A state is told once;
    /// if telling the cluster failed, [`LeaderLeases::untold`] makes it due again.
    pub fn due(&mut self, now_ms: u64, is_leased: impl Fn(NodeId) -> bool) -> Vec<(NodeId, NodeState)> {
        self.due_if(now_ms, is_leased, |_| true)
    }

    /// The same; a node whose time is over is called down only if `may_be_down` says so. It is not asked about others.
    pub fn due_if(
        &mut self,
        now_ms: u64,
        is_leased: impl Fn(NodeId) -> bool,
        mut may_be_down: impl FnMut(NodeId) -> bool,
    ) -> Vec<(NodeId, NodeState)> {
        let (policy, is_mass_loss) = (self.policy, self.is_mass_loss(now_ms));
        let others_ms = self.others_heard_since_ms(now_ms);
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
            // Those that fell silent together may be back together, and not all at the same moment.
            let waited_ms = now_ms.saturating_sub(entry.granted_ms.max(others_ms.unwrap_or(now_ms)));
            let is_reached = entry.reached_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < OPINION_FRESH_MS)
                && waited_ms < down_after_ms.saturating_add(patience_ms);
            let next_ms = last_down_ms.map_or(0, |last_ms| last_ms.saturating_add(policy.mass_interval_ms));
            let waits_its_turn = is_mass_loss && now_ms < next_ms;
            let is_over = waited_ms >= down_after_ms && !is_reached && !waits_its_turn;
            let is_down = is_over && may_be_down(*node);
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

    /// The same, unless the node has said something since `told` was due.
    pub fn untold_if(&mut self, node: NodeId, told: NodeState, state: NodeState) {
        if self.nodes.get(&node).is_some_and(|entry| entry.told == told) {
            self.untold(node, state);
        }
    }

    /// When something is due next, if nothing is heard until then.
    pub fn next_deadline_ms(&self, now_ms: u64) -> Option<u64> {
        let policy = &self.policy;
        let next_ms = match self.doubtful(now_ms).is_empty() {
            true => None,
            false => self.last_down_ms.map(|last_ms| last_ms.saturating_add(policy.mass_interval_ms)),
        };
        let others_ms = self.others_heard_since_ms(now_ms).unwrap_or_default();
        let deadlines = self.nodes.values().filter(|entry| entry.told != NodeState::Down).flat_map(move |entry| {
            let wait_ms = policy.manager_wait_for_ms(entry.ttl_ms);
            let since_ms = entry.granted_ms.max(others_ms);
            let waits = [policy.down_after_ms, wait_ms].map(|after_ms| since_ms.saturating_add(after_ms));
            waits.into_iter().chain([entry.granted_ms.saturating_add(policy.disconnected_after_ms)])
        });
        deadlines.chain(next_ms).filter(|deadline_ms| *deadline_ms > now_ms).min()
    }
}

#[cfg(test)]
mod tests;
