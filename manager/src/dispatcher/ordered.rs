//! What the leases' account has ordered: which orders are under way, and which nodes a `Down` may still befall. Pure.
//!
//! A `Down` is decided on a version of the node's row and takes effect only if the row still has it. One that timed out
//! may be in the log, and so may several with the same version. They are counted until it is known that none of them can take
//! effect any more ([`super::leases`] has the argument).

use std::collections::HashMap;

use goat_core::model::{Node, NodeId, NodeState};

use super::node_states::{Decision, Fate, Order, Orders, Subject};

/// `Down`s of a node that may still commit.
#[derive(Debug, Clone, Copy)]
struct Undecided {
    /// The version of the row that they were decided on.
    version: u64,
    count: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    /// The newest order of each subject, until its end is known.
    outstanding: HashMap<Subject, Order>,
    undecided: HashMap<NodeId, Undecided>,
}

impl Ordered {
    /// Gives an order, unless the same one is under way.
    pub fn give(&mut self, orders: &Orders, subject: Subject, order: Order) {
        if self.outstanding.insert(subject, order) == Some(order) {
            return;
        }
        let replaced = orders.put(subject, order);
        let Subject::Node(node) = subject else { return };
        if let Some(replaced) = replaced.filter(|replaced| replaced.state == NodeState::Down) {
            // It was not proposed, and will not be; an earlier one may have been.
            self.withdrawn(node, replaced.seen_version);
        }
        if order.state == NodeState::Down {
            let version = order.seen_version;
            let known = self.undecided.get(&node).filter(|undecided| undecided.version == version);
            let count = known.map_or(0, |undecided| undecided.count) + 1;
            self.undecided.insert(node, Undecided { version, count });
        }
    }

    /// The same, of a node's state.
    pub fn give_state(&mut self, orders: &Orders, node: &Node, state: NodeState) {
        let order = Order { seen_version: node.version, state, before: node.state };
        self.give(orders, Subject::Node(node.id), order);
    }

    /// Whether a `Down` of the node may still take effect.
    pub fn may_go_down(&self, node: &Node) -> bool {
        self.undecided.get(&node.id).is_some_and(|undecided| undecided.version == node.version)
    }

    /// Some order has come to its end, or to the end of its time.
    pub fn decided(&mut self, Decision { subject, order, fate }: Decision) {
        if self.outstanding.get(&subject) == Some(&order) {
            self.outstanding.remove(&subject);
        }
        // Done or refused, the row has another version by now: no other `Down` with this one takes effect either.
        let is_over = !matches!(fate, Fate::Unknown { .. }) && order.state == NodeState::Down;
        if let Subject::Node(node) = subject
            && is_over
            && self.undecided.get(&node).is_some_and(|undecided| undecided.version == order.seen_version)
        {
            self.undecided.remove(&node);
        }
    }

    /// The node's row is gone.
    pub fn forget(&mut self, node: NodeId) {
        self.undecided.remove(&node);
    }

    fn withdrawn(&mut self, node: NodeId, version: u64) {
        if let Some(undecided) = self.undecided.get_mut(&node).filter(|undecided| undecided.version == version) {
            undecided.count -= 1;
            if undecided.count == 0 {
                self.undecided.remove(&node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(version: u64, state: NodeState) -> Node {
        let id = NodeId::from_random(1);
        Node {
            id,
            name: "w1".into(),
            address: String::new(),
            labels: Default::default(),
            state,
            availability: Default::default(),
            drain_until_ms: None,
            inventory: Default::default(),
            registered_at_ms: 0,
            state_since_ms: 0,
            stocked: 0,
            version,
        }
    }

    fn decision(node: &Node, state: NodeState, fate: Fate) -> Decision {
        let order = Order { seen_version: node.version, state, before: node.state };
        Decision { subject: Subject::Node(node.id), order, fate }
    }

    const UNKNOWN: Fate = Fate::Unknown { has_quorum: true };

    #[test]
    fn a_down_that_timed_out_may_take_effect_until_the_row_has_changed() {
        let (mut ordered, orders) = (Ordered::default(), Orders::default());
        let silent = node(7, NodeState::Disconnected);
        assert!(!ordered.may_go_down(&silent));
        ordered.give_state(&orders, &silent, NodeState::Down);
        orders.pop().expect("it is proposed");
        assert!(ordered.may_go_down(&silent));
        ordered.decided(decision(&silent, NodeState::Down, UNKNOWN));
        assert!(ordered.may_go_down(&silent));
        // Its registration, or a `Ready`, was before it in the log.
        assert!(!ordered.may_go_down(&node(8, NodeState::Ready)));
        ordered.decided(decision(&silent, NodeState::Down, Fate::Refused));
        assert!(!ordered.may_go_down(&silent));
    }

    #[test]
    fn a_down_that_was_replaced_before_it_was_proposed_takes_no_effect_but_an_earlier_one_may() {
        let (mut ordered, orders) = (Ordered::default(), Orders::default());
        let silent = node(7, NodeState::Disconnected);
        ordered.give_state(&orders, &silent, NodeState::Down);
        ordered.give_state(&orders, &silent, NodeState::Ready);
        assert!(!ordered.may_go_down(&silent), "it never was in the log");

        ordered.give_state(&orders, &silent, NodeState::Down);
        orders.pop().expect("it is proposed");
        ordered.decided(decision(&silent, NodeState::Down, UNKNOWN));
        ordered.give_state(&orders, &silent, NodeState::Down);
        ordered.give_state(&orders, &silent, NodeState::Ready);
        assert!(ordered.may_go_down(&silent), "the first may be in the log");
    }

    #[test]
    fn the_same_order_is_under_way_once() {
        let (mut ordered, orders) = (Ordered::default(), Orders::default());
        let back = node(7, NodeState::Disconnected);
        for _ in 0..3 {
            ordered.give_state(&orders, &back, NodeState::Ready);
        }
        assert!(orders.pop().is_some());
        ordered.give_state(&orders, &back, NodeState::Ready);
        assert!(orders.pop().is_none());
        ordered.decided(decision(&back, NodeState::Ready, UNKNOWN));
        ordered.give_state(&orders, &back, NodeState::Ready);
        assert!(orders.pop().is_some());
    }
}
