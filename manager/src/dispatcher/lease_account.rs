//! The leases' account with what it has ordered and asked, turn by turn. It awaits nothing; [`super::leases`] says what moves it,
//! and why its grants are safe.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use goat_core::lease::LeaderLeases;
use goat_core::model::{NodeId, NodeState};
use goat_core::state::State;
use goat_core::state::change::ChangeSet;
use goat_proto::v1::{self, manager_message};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tracing::{info, warn};

use super::Active;
use super::freezing::Freezing;
use super::heartbeats::Heartbeat;
use super::leases::MAX_WAIT_MS;
use super::node_states::{Decision, Fate, Order, Subject};
use super::opinions::{Answer, Opinions, Questions};
use super::ordered::Ordered;
use crate::clock;

/// A turn that is later than this means that this process stood still: each worker gets its full time again.
const STOOD_STILL_MS: u64 = 1_000;
/// Heartbeats granted under one hold of the state's lock.
const GRANTS_AT_ONCE: usize = 256;
/// A question about a node counts for so long from when it was asked: longer than the 700 ms until an answer and the next
/// question after it, so that a node that is asked about again and again always has one that counts.
const ASKED_WITHIN_MS: u64 = 2_000;

fn fresh(active: &Active) -> LeaderLeases {
    let state = active.group.view().read();
    LeaderLeases::new(active.policy, clock::boot_ms(), state.nodes().map(|node| (node.id, node.state)))
}

/// Whether a task on it must be fenced before its slot is given away.
fn is_leased(state: &State, node: NodeId) -> bool {
    state
        .tasks_of_node(node)
        .filter(|task| !task.state.is_terminal())
        .any(|task| state.spec_of(task).is_some_and(|spec| spec.on_disconnect().is_leased()))
}

/// The treatment of one heartbeat.
enum Verdict {
    Grant,
    /// It is said that the node is ready; the next heartbeat asks again.
    Later,
    /// A new hello has to come first.
    EndSession,
}

/// The account, and what it has asked for.
pub(super) struct LeaseAccount<'a> {
    active: &'a Active,
    leases: LeaderLeases,
    freeze: Freezing,
    /// When the turn before began.
    turn_ms: u64,
    ordered: Ordered,
    /// When others were last asked about a node in vain.
    asked_ms: HashMap<NodeId, u64>,
    is_mass_loss: bool,
}

impl<'a> LeaseAccount<'a> {
    pub(super) fn new(active: &'a Active) -> Self {
        Self {
            active,
            leases: fresh(active),
            freeze: Freezing::default(),
            turn_ms: clock::boot_ms(),
            ordered: Ordered::default(),
            asked_ms: HashMap::new(),
            is_mass_loss: false,
        }
    }

    pub(super) fn wait_ms(&self, now_ms: u64, check_at_ms: u64) -> u64 {
        let due_ms = self.leases.next_deadline_ms(now_ms).unwrap_or(u64::MAX);
        let check_ms = if check_at_ms > now_ms { check_at_ms } else { u64::MAX };
        due_ms.min(check_ms).saturating_sub(now_ms).min(MAX_WAIT_MS)
    }

    /// Everybody has their full time from now.
    pub(super) fn begin_anew(&mut self) {
        self.leases = fresh(self.active);
    }

    /// Turns follow each other within [`MAX_WAIT_MS`], since nothing in between is waited for: if one comes late, this process
    /// stood still, wherever that caught it.
    pub(super) fn begin_turn(&mut self, now_ms: u64) {
        let turn_ms = now_ms.saturating_sub(std::mem::replace(&mut self.turn_ms, now_ms));
        if turn_ms > MAX_WAIT_MS + STOOD_STILL_MS {
            warn!(stood_still_ms = turn_ms, "this manager stood still, workers get their full time anew");
            self.begin_anew();
        }
    }

    /// What follows from the time that has passed.
    pub(super) fn look(&mut self, now_ms: u64, opinions: &Opinions) {
        self.freeze.follow(self.active, &mut self.leases, &mut self.ordered);
        self.settle(now_ms);
        let urgent = self.notice_silence(now_ms);
        let is_mass_loss = self.leases.is_mass_loss(now_ms);
        if is_mass_loss && !std::mem::replace(&mut self.is_mass_loss, is_mass_loss) {
            warn!("half of the workers fell silent at once: they are given up one by one");
        }
        self.is_mass_loss = is_mass_loss;
        let questions = Questions { urgent, doubtful: self.leases.doubtful(now_ms) };
        opinions.questions.send_if_modified(|asked| {
            let is_news = *asked != questions;
            *asked = questions;
            is_news
        });
    }

    /// Orders that what was restored from a snapshot is settled, as soon as it is.
    fn settle(&mut self, now_ms: u64) {
        let Some(restored) = self.active.group.view().read().restored() else { return };
        if self.leases.are_all_heard(now_ms) {
            let order = Order::of_cluster(restored.version);
            self.ordered.give(&self.active.orders, Subject::SettleRestore, order);
        }
    }

    pub(super) fn grant(&mut self, arrived: &[Heartbeat]) {
        let now_ms = clock::boot_ms();
        for some in arrived.chunks(GRANTS_AT_ONCE) {
            let verdicts: Vec<Verdict> = {
                let state = self.active.group.view().read();
                some.iter().map(|heartbeat| self.judge(&state, heartbeat.entry.node)).collect()
            };
            for (heartbeat, verdict) in some.iter().zip(verdicts) {
                match verdict {
                    // A session that was replaced or ended has nothing more to renew.
                    _ if heartbeat.entry.end.is_cancelled() => {}
                    Verdict::Grant => {
                        let node = heartbeat.entry.node;
                        self.leases.confirmed(node, heartbeat.lease_sequence);
                        self.leases.granted(node, now_ms);
                        self.active.send_grant(heartbeat, self.leases.lease_ttl_ms() as u32);
                        self.leases.sent(node, heartbeat.sequence);
                    }
                    // Nothing more is to follow from its silence meanwhile.
                    Verdict::Later => self.leases.registered(heartbeat.entry.node, now_ms),
                    Verdict::EndSession => heartbeat.entry.end.cancel(),
                }
            }
        }
    }

    /// See the module on what may still commit.
    fn judge(&mut self, state: &State, id: NodeId) -> Verdict {
        let Some(node) = state.node(id).filter(|node| node.state != NodeState::Down) else {
            // It was given up: its tasks may run elsewhere.
            return Verdict::EndSession;
        };
        if self.ordered.may_go_down(node) || node.state == NodeState::Disconnected {
            self.ordered.give_state(&self.active.orders, node, NodeState::Ready);
        }
        // The order of `Ready` may have replaced the one of `Down`.
        if self.ordered.may_go_down(node) { Verdict::Later } else { Verdict::Grant }
    }

    /// Orders what silence has made due. Returns the nodes that others have to be asked about first.
    fn notice_silence(&mut self, now_ms: u64) -> BTreeSet<NodeId> {
        let mut urgent = BTreeSet::new();
        self.asked_ms.retain(|_, asked_ms| now_ms.saturating_sub(*asked_ms) < ASKED_WITHIN_MS);
        let active = self.active;
        let state = active.group.view().read();
        let asked_ms = &self.asked_ms;
        let may_be_down = |node: NodeId| {
            let was_asked_about = asked_ms.contains_key(&node);
            if !was_asked_about {
                urgent.insert(node);
            }
            was_asked_about
        };
        let due = self.leases.due_if(now_ms, |node| is_leased(&state, node), may_be_down);
        for (id, to) in due {
            match state.node(id) {
                Some(node) => self.ordered.give_state(&active.orders, node, to),
                None => self.leases.forget(id, now_ms),
            }
        }
        urgent
    }

    pub(super) fn answered(&mut self, Answer { node, asked_ms, is_reached }: Answer) {
        if is_reached {
            self.leases.reached(node, asked_ms);
            self.asked_ms.remove(&node);
        } else {
            self.asked_ms.insert(node, asked_ms);
        }
    }

    pub(super) fn decided(&mut self, decision: Decision) {
        self.ordered.decided(decision);
        let Decision { subject, order, fate } = decision;
        match subject {
            Subject::Node(node) => self.node_decided(node, order, fate),
            Subject::EndFreeze if fate == Fate::Done => info!("the freeze has ended"),
            Subject::SettleRestore if fate == Fate::Done => {
                info!("every worker has said what it runs: what was restored is settled");
            }
            Subject::EndFreeze | Subject::SettleRestore => {}
        }
        // Without a quorum nobody was heard for this manager's own reason.
        if fate == (Fate::Unknown { has_quorum: false }) {
            self.begin_anew();
        }
    }

    fn node_decided(&mut self, node: NodeId, order: Order, fate: Fate) {
        match (order.state, fate == Fate::Done) {
            (NodeState::Ready, true) => info!(node_id = %node, "a worker is heard again"),
            // The next heartbeat tries again.
            (NodeState::Ready, false) => {}
            (state, true) => {
                warn!(node_id = %node, state_to = state.as_str(), "a worker is silent");
                self.active.meters.silences.add(state.as_str(), 1);
                if state == NodeState::Down
                    && let Some(session) = self.active.session_of(node)
                {
                    session.end.cancel();
                }
            }
            // Unless it was heard meanwhile, it is due again.
            (state, false) => self.leases.untold_if(node, state, order.before),
        }
    }

    /// None if there is nothing to observe any more.
    pub(super) fn observe(
        &mut self,
        received: Result<Arc<ChangeSet>, RecvError>,
        changes: &mut broadcast::Receiver<Arc<ChangeSet>>,
    ) -> Option<()> {
        let mut received = Some(received);
        while let Some(result) = received.take().or_else(|| changes.try_recv().ok().map(Ok)) {
            match result {
                Ok(change) => {
                    for node in &change.nodes {
                        match node.to {
                            None => {
                                self.leases.forget(node.node, clock::boot_ms());
                                self.ordered.forget(node.node);
                            }
                            // Also what an earlier leader had begun: more time than needed harms nobody.
                            Some(NodeState::Ready) if node.from != Some(NodeState::Ready) => {
                                self.leases.registered(node.node, clock::boot_ms());
                            }
                            Some(_) => {}
                        }
                    }
                }
                Err(RecvError::Lagged(_)) => self.begin_anew(),
                Err(RecvError::Closed) => return None,
            }
        }
        Some(())
    }
}

impl Active {
    /// One that finds no room is lost as on a bad network.
    fn send_grant(&self, heartbeat: &Heartbeat, ttl_ms: u32) {
        let grant = v1::LeaseGrant { heartbeat_sequence: heartbeat.sequence, ttl_ms };
        let _ = heartbeat.entry.to_worker.try_send(Ok(self.message(manager_message::Message::Lease(grant))));
        self.meters.grants.add(1);
    }
}
