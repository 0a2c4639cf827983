//! The leader's account of who was heard, and what follows from silence (`goat_core::lease` has the arithmetic).
//!
//! A heartbeat is granted only after a quorum has confirmed this leader in a check that began after the heartbeat
//! arrived; all heartbeats that have come by then share the check. Changes of state go through the log, so that a leader
//! that is none any more can tell nobody that a node is down.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use goat_core::lease::LeaderLeases;
use goat_core::model::{NodeId, NodeState};
use goat_core::state::change::ChangeSet;
use goat_core::state::command::{Action, Outcome, Refusal};
use goat_core::state::{Freeze, State};
use goat_proto::v1::{self, manager_message};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::opinions::{Opinions, Reached};
use super::{Active, Heartbeat, settle};
use crate::clock;

/// Between looks at the clock at the most.
const MAX_WAIT_MS: u64 = 250;
/// A look so late says that this process stood still and heard nobody in that time: everybody gets their full time anew.
const STOOD_STILL_MS: u64 = 1_000;

/// Keeps leases until it is cancelled.
pub(super) async fn run(active: Arc<Active>, mut heartbeats: mpsc::Receiver<Heartbeat>, mut opinions: Opinions) {
    let mut changes = active.group.view().changes();
    let mut leases = fresh(&active);
    let mut freeze = Freezing::default();
    let mut is_mass_loss = false;
    loop {
        let now_ms = clock::boot_ms();
        let wait_ms = leases.next_deadline_ms(now_ms).map_or(MAX_WAIT_MS, |at_ms| (at_ms - now_ms).min(MAX_WAIT_MS));
        let heard = tokio::select! {
            heartbeat = heartbeats.recv() => Heard::Heartbeat(heartbeat),
            received = changes.recv() => Heard::Change(received),
            Some(reached) = opinions.heard.recv() => Heard::Reached(reached),
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => Heard::Nothing,
        };
        let waited_ms = clock::boot_ms().saturating_sub(now_ms);
        if waited_ms > MAX_WAIT_MS + STOOD_STILL_MS {
            warn!(stood_still_ms = waited_ms, "this manager stood still, workers get their full time anew");
            leases = fresh(&active);
        }
        freeze.follow(&active, &mut leases).await;
        settle::settle(&active, &leases).await;
        match heard {
            Heard::Heartbeat(None) => return,
            Heard::Heartbeat(Some(first)) => active.grant(first, &mut heartbeats, &mut leases).await,
            Heard::Change(received) => {
                if observe(received, &mut changes, &active, &mut leases).is_none() {
                    return;
                }
            }
            Heard::Reached(Reached { node, asked_ms }) => leases.reached(node, asked_ms),
            Heard::Nothing => {}
        }
        let now_ms = clock::boot_ms();
        active.tell_silent(&mut leases, now_ms).await;
        if leases.is_mass_loss(now_ms) != std::mem::replace(&mut is_mass_loss, leases.is_mass_loss(now_ms))
            && is_mass_loss
        {
            warn!("half of the workers fell silent at once: they are given up one by one");
        }
        let doubtful = leases.doubtful(now_ms);
        opinions.doubtful.send_if_modified(|asked| {
            let is_news = *asked != doubtful;
            *asked = doubtful;
            is_news
        });
    }
}

/// The announced outage, as this leader counts it: by its own clock, from when it began to lead or heard of it. So no
/// grant of this leader or an earlier one lasts longer, whatever the managers' clocks say.
#[derive(Debug, Default)]
struct Freezing {
    known: Option<(Freeze, u64)>,
}

impl Freezing {
    async fn follow(&mut self, active: &Active, leases: &mut LeaderLeases) {
        let (now, now_ms) = (active.group.view().read().freeze(), clock::boot_ms());
        let is_news = now.map(|freeze| freeze.version) != self.known.map(|(freeze, _)| freeze.version);
        if is_news {
            self.known = now.map(|freeze| (freeze, now_ms.saturating_add(freeze.for_ms)));
            if now.is_none() {
                leases.shorten();
            }
        }
        let Some((freeze, until_ms)) = self.known else {
            return;
        };
        let left_ms = until_ms.saturating_sub(now_ms);
        // What earlier grants last is in each node's account already, except at the beginning.
        // A worker's clock may have been slow all the while.
        let drift_ms = freeze.for_ms * 2 * active.policy.rate_error_ppm / 1_000_000;
        let longest_ms = if is_news { freeze.for_ms } else { left_ms.saturating_add(drift_ms) };
        match now.is_some_and(|freeze| freeze.stopped) {
            false => leases.extend(longest_ms),
            true => leases.outlast(longest_ms),
        }
        if left_ms == 0 {
            let ended = active.propose(Action::EndFreeze { seen_version: freeze.version }).await;
            match ended {
                Ok(_) => info!("the freeze has ended"),
                Err(error) => debug!(%error, "the freeze could not be ended yet"),
            }
        }
    }
}

/// What ended a wait.
enum Heard {
    Heartbeat(Option<Heartbeat>),
    Change(Result<Arc<ChangeSet>, RecvError>),
    Reached(Reached),
    Nothing,
}

fn fresh(active: &Active) -> LeaderLeases {
    let state = active.group.view().read();
    LeaderLeases::new(active.policy, clock::boot_ms(), state.nodes().map(|node| (node.id, node.state)))
}

/// None where there is nothing to observe any more.
fn observe(
    received: Result<Arc<ChangeSet>, RecvError>,
    changes: &mut broadcast::Receiver<Arc<ChangeSet>>,
    active: &Active,
    leases: &mut LeaderLeases,
) -> Option<()> {
    let mut received = Some(received);
    while let Some(result) = received.take().or_else(|| changes.try_recv().ok().map(Ok)) {
        match result {
            Ok(change) => {
                for node in &change.nodes {
                    match node.to {
                        None => leases.forget(node.node, clock::boot_ms()),
                        // Also what an earlier leader had begun: more time than needed harms nobody.
                        Some(NodeState::Ready) if node.from != Some(NodeState::Ready) => {
                            leases.registered(node.node, clock::boot_ms());
                        }
                        Some(_) => {}
                    }
                }
            }
            Err(RecvError::Lagged(_)) => *leases = fresh(active),
            Err(RecvError::Closed) => return None,
        }
    }
    Some(())
}

/// Whether a task on it must be fenced before its slot is given away.
fn is_leased(state: &State, node: NodeId) -> bool {
    state
        .tasks_of_node(node)
        .filter(|task| !task.state.is_terminal())
        .any(|task| state.spec_of(task).is_some_and(|spec| spec.on_disconnect().is_leased()))
}

impl Active {
    async fn grant(&self, first: Heartbeat, waiting: &mut mpsc::Receiver<Heartbeat>, leases: &mut LeaderLeases) {
        let mut arrived = vec![first];
        while let Ok(heartbeat) = waiting.try_recv() {
            arrived.push(heartbeat);
        }
        if let Err(error) = self.group.confirm_leadership().await {
            // The workers are not silent: this manager cannot vouch for them. When it can again, they start anew.
            debug!(%error, "heartbeats are not granted");
            *leases = fresh(self);
            return;
        }
        let now_ms = clock::boot_ms();
        let mut newest: HashMap<NodeId, Heartbeat> = HashMap::new();
        for heartbeat in arrived {
            newest.insert(heartbeat.entry.node, heartbeat);
        }
        let mut back = Vec::new();
        for (node, heartbeat) in newest {
            // A session that was replaced or ended has nothing more to renew.
            if heartbeat.entry.end.is_cancelled() {
                continue;
            }
            let is_known = match self.group.view().read().node(node).map(|node| node.state) {
                None => false,
                Some(NodeState::Ready) => true,
                Some(NodeState::Disconnected) => {
                    back.push((node, NodeState::Ready));
                    true
                }
                // It was given up: its tasks may run elsewhere, and a new hello has to come first.
                Some(NodeState::Down) => false,
            };
            if !is_known {
                heartbeat.entry.end.cancel();
                continue;
            }
            leases.confirmed(node, heartbeat.lease_sequence);
            leases.granted(node, now_ms);
            self.send_grant(&heartbeat, leases.lease_ttl_ms() as u32);
            leases.sent(node, heartbeat.sequence);
        }
        for (node, state, is_told) in self.tell(back).await {
            if is_told {
                info!(node_id = %node, "a worker is heard again");
            } else {
                debug!(node_id = %node, state_to = state.as_str(), "could not be told yet; the next heartbeat tries again");
            }
        }
    }

    /// One that finds no room is lost as on a bad network.
    fn send_grant(&self, heartbeat: &Heartbeat, ttl_ms: u32) {
        let grant = v1::LeaseGrant { heartbeat_sequence: heartbeat.sequence, ttl_ms };
        let _ = heartbeat.entry.to_worker.try_send(Ok(self.message(manager_message::Message::Lease(grant))));
        self.meters.grants.add(1);
    }

    async fn tell_silent(&self, leases: &mut LeaderLeases, now_ms: u64) {
        let (due, known) = {
            let state = self.group.view().read();
            let due = leases.due(now_ms, |node| is_leased(&state, node));
            let known: HashMap<_, _> =
                due.iter().filter_map(|(node, _)| Some((*node, state.node(*node)?.state))).collect();
            (due, known)
        };
        if due.is_empty() {
            return;
        }
        let mut has_failed = false;
        for (node, state, is_told) in self.tell(due).await {
            match (is_told, known.get(&node)) {
                (true, _) => {
                    warn!(node_id = %node, state_to = state.as_str(), "a worker is silent");
                    self.meters.silences.add(state.as_str(), 1);
                    if state == NodeState::Down
                        && let Some(session) = self.session_of(node)
                    {
                        session.end.cancel();
                    }
                }
                (false, Some(before)) => {
                    leases.untold(node, *before);
                    has_failed = true;
                }
                (false, None) => leases.forget(node, clock::boot_ms()),
            }
        }
        // Without a quorum nobody was heard for this manager's own reason.
        if has_failed && self.group.confirm_leadership().await.is_err() {
            *leases = fresh(self);
        }
    }

    /// Proposes states; whether each took effect.
    async fn tell(&self, states: Vec<(NodeId, NodeState)>) -> Vec<(NodeId, NodeState, bool)> {
        let proposals = states.into_iter().map(|(node, state)| async move {
            let seen = self.group.view().read().node(node).map(|node| node.version);
            let Some(seen_version) = seen else {
                return (node, state, false);
            };
            let told = self.propose(Action::SetNodeState { node, seen_version, state }).await;
            let is_told = match told {
                Ok(accepted) => match accepted.outcome {
                    Outcome::Done(_) => true,
                    // It has said something meanwhile: looked at again with the next deadline.
                    Outcome::Refused(Refusal::Stale { .. }) => false,
                    Outcome::Refused(refusal) => {
                        debug!(node_id = %node, error = %refusal, "a node's state was refused");
                        false
                    }
                },
                Err(error) => {
                    debug!(node_id = %node, %error, "a node's state could not be proposed");
                    false
                }
            };
            (node, state, is_told)
        });
        join_all(proposals).await
    }
}
