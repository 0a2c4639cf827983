//! Proposes what the leases' account has decided, on a task of its own: the account never waits for a commit.
//!
//! ```text
//! leases ── orders (newest of each subject) ──► run ── proposals, at the same time ──► log
//!        ◄─────────── decided ─────────────────┘
//! ```
//! An order that is replaced before it is taken is never proposed. One that was proposed may take effect long after its
//! proposer gave up waiting: [`Fate::Unknown`] says so, and what that means for grants is told in [`super::leases`].

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use goat_core::model::{NodeId, NodeState};
use goat_core::state::command::{Action, Outcome, Refusal};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tracing::debug;

use super::Active;

/// Proposals under way at one time: as many as Raft takes into one batch.
const AT_ONCE: usize = 512;
/// Decisions that wait for the leases' account, which takes them without waiting for anything.
const DECIDED: usize = 64;

/// What an order is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    Node(NodeId),
    EndFreeze,
    SettleRestore,
}

/// What is to be proposed of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    /// The version of the row that was decided on: if the row has changed since, the command is refused.
    pub seen_version: u64,
    /// A node's new state; of no meaning for other subjects.
    pub state: NodeState,
    /// The state that the row had.
    pub before: NodeState,
}

impl Order {
    /// Of a subject that is no node.
    pub const fn of_cluster(seen_version: u64) -> Self {
        Self { seen_version, state: NodeState::Ready, before: NodeState::Ready }
    }
}

/// What has become of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It took effect.
    Done,
    /// It will never take effect.
    Refused,
    /// It may take effect later. `has_quorum`: whether a majority answers this manager at all.
    Unknown { has_quorum: bool },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Decision {
    pub subject: Subject,
    pub order: Order,
    pub fate: Fate,
}

/// Orders that no one has taken yet.
#[derive(Debug, Default)]
pub(super) struct Orders {
    newest: Mutex<BTreeMap<Subject, Order>>,
    is_news: Notify,
}

impl Orders {
    /// Gives an order. Returns the one that it replaces, which will not be proposed.
    pub fn put(&self, subject: Subject, order: Order) -> Option<Order> {
        let replaced = self.newest.lock().insert(subject, order);
        self.is_news.notify_one();
        replaced
    }

    /// Takes an order.
    pub fn pop(&self) -> Option<(Subject, Order)> {
        self.newest.lock().pop_first()
    }

    async fn next(&self) -> (Subject, Order) {
        loop {
            if let Some(order) = self.pop() {
                return order;
            }
            self.is_news.notified().await;
        }
    }
}

/// For [`run`], and for who gives the orders.
pub(super) fn channel() -> (mpsc::Sender<Decision>, mpsc::Receiver<Decision>) {
    mpsc::channel(DECIDED)
}

/// Proposes until it is cancelled.
pub(super) async fn run(active: Arc<Active>, decided: mpsc::Sender<Decision>) {
    let mut proposals = FuturesUnordered::new();
    loop {
        tokio::select! {
            (subject, order) = active.orders.next(), if proposals.len() < AT_ONCE => {
                proposals.push(active.carry_out(subject, order));
            }
            Some(decision) = proposals.next() => {
                // The receiver lives as long as this manager leads.
                let _ = decided.send(decision).await;
            }
        }
    }
}

impl Active {
    async fn carry_out(&self, subject: Subject, order: Order) -> Decision {
        let Order { seen_version, state, .. } = order;
        let action = match subject {
            Subject::Node(node) => Action::SetNodeState { node, seen_version, state },
            Subject::EndFreeze => Action::EndFreeze { seen_version },
            Subject::SettleRestore => Action::SettleRestore { seen_version },
        };
        let fate = match self.propose(action).await {
            Ok(accepted) => match accepted.outcome {
                Outcome::Done(_) => Fate::Done,
                // It has said something meanwhile: looked at again with the next deadline.
                Outcome::Refused(Refusal::Stale { .. }) => Fate::Refused,
                Outcome::Refused(refusal) => {
                    debug!(?subject, error = %refusal, "what the leases' account has decided was refused");
                    Fate::Refused
                }
            },
            Err(error) => {
                debug!(?subject, %error, "what the leases' account has decided could not be proposed");
                Fate::Unknown { has_quorum: self.group.read_index_here().await.is_ok() }
            }
        };
        Decision { subject, order, fate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seen_version: u64, state: NodeState) -> Order {
        Order { seen_version, state, before: NodeState::Ready }
    }

    #[tokio::test]
    async fn an_order_that_was_replaced_is_not_proposed() {
        let (orders, node) = (Orders::default(), Subject::Node(NodeId::from_random(1)));
        assert_eq!(orders.put(node, order(3, NodeState::Down)), None);
        assert_eq!(orders.put(Subject::EndFreeze, order(9, NodeState::Ready)), None);
        assert_eq!(orders.put(node, order(3, NodeState::Ready)), Some(order(3, NodeState::Down)));
        assert_eq!(orders.next().await, (node, order(3, NodeState::Ready)));
        assert_eq!(orders.next().await, (Subject::EndFreeze, order(9, NodeState::Ready)));
        assert_eq!(orders.pop(), None);
    }
}
