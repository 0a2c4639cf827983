//! The leader's account of who was heard, kept in one loop that does one thing after the other, as the dispatcher's does:
//!
//! ```text
//! waiting ─ heartbeats ─► asks a quorum ─► grants, and tells who is heard again ─┐
//!    ▲ └─── changes, opinions, the clock ─────────────────────────────────────────┴─► tells who is silent ─┐
//!    └──────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::collections::BTreeMap;

use goat_core::model::{NodeId, NodeState};
use goat_core::state::State;
use goat_core::state::command::Action;

use super::fresh;
use crate::script::Bug;
use crate::wire::Down;
use crate::world::{Event, ManagerEvent, Purpose, World};

/// A look so late says that this manager stood still.
const STOOD_STILL_MS: u64 = 1_000;
const MAX_WAIT_MS: u64 = 250;
const QUORUM_TIMEOUT_MS: u64 = 1_800;

/// The number of a heartbeat, and of the one from whose grant the worker's lease counts.
pub(super) type Beat = (u64, u64);

/// What the loop is at.
#[derive(Debug)]
pub(super) enum Doing {
    Waiting,
    /// With the heartbeats that had come by then, by session.
    Asking(Vec<(u64, Beat)>),
    /// So many answers are left; `is_silence`: of those who are silent, else of those who are back.
    Telling {
        left: usize,
        has_failed: bool,
        is_silence: bool,
    },
    /// Whether there is a quorum at all is asked after telling has failed.
    Doubting,
}

type Tell = (NodeId, NodeState, Option<NodeState>, bool);

/// Whether a task on it must be fenced before its slot is given away.
fn is_leased(state: &State, node: NodeId) -> bool {
    let live = state.tasks_of_node(node).filter(|task| !task.state.is_terminal());
    live.filter_map(|task| state.spec_of(task)).any(|spec| spec.on_disconnect().is_leased())
}

impl World {
    pub(super) fn wake_leases(&mut self, manager: usize) {
        let now_ms = self.now_ms;
        let Some(leading) = self.leading(manager) else { return };
        if matches!(leading.doing, Doing::Waiting) && !leading.has_to_look {
            leading.has_to_look = true;
            let term = leading.term;
            self.at(now_ms, Event::Manager(manager, ManagerEvent::Leases { term }));
        }
    }

    pub(super) fn clock_ms(&self, manager: usize) -> u64 {
        self.managers[manager].clock_ms(self.now_ms)
    }

    fn start_afresh(&mut self, manager: usize) {
        let (policy, now_ms) = (self.lease_policy(), self.clock_ms(manager));
        let own = &mut self.managers[manager];
        if let Some(leading) = own.leading.as_deref_mut() {
            leading.leases = fresh(&own.state, policy, now_ms);
        }
    }

    /// One turn of the loop.
    pub(crate) fn look_at_leases(&mut self, manager: usize) {
        let now_ms = self.now_ms;
        let stood_still_ms = std::mem::take(&mut self.managers[manager].stood_still_ms);
        let Some(leading) = self.leading(manager) else { return };
        if !matches!(leading.doing, Doing::Waiting) {
            return;
        }
        let is_due = leading.looks_at_ms <= now_ms;
        if !std::mem::take(&mut leading.has_to_look)
            && !is_due
            && stood_still_ms == 0
            && leading.looks_at_ms != u64::MAX
        {
            return;
        }
        if stood_still_ms > MAX_WAIT_MS + STOOD_STILL_MS {
            self.start_afresh(manager);
        }
        self.follow_freeze(manager);
        let is_heads = self.random.once_in(2);
        let Some(leading) = self.leading(manager) else { return };
        // Whatever has come is taken in any order.
        if !leading.beats.is_empty() && (leading.node_changes.is_empty() || is_heads) {
            let (arrived, term) = (std::mem::take(&mut leading.beats), leading.term);
            leading.doing = Doing::Asking(arrived);
            let wait_ms = self.net.delay_ms(now_ms);
            self.after(wait_ms, Event::Manager(manager, ManagerEvent::QuorumAsked { term }));
            return;
        }
        self.observe_nodes(manager);
        self.tell_silent(manager);
    }

    fn observe_nodes(&mut self, manager: usize) {
        let now_ms = self.clock_ms(manager);
        let Some(leading) = self.leading(manager) else { return };
        while let Some(change) = leading.node_changes.pop_front() {
            match change.to {
                None => leading.leases.forget(change.node, now_ms),
                Some(NodeState::Ready) if change.from != Some(NodeState::Ready) => {
                    leading.leases.registered(change.node, now_ms);
                }
                Some(_) => {}
            }
        }
        for (node, asked_ms) in std::mem::take(&mut leading.reached) {
            leading.leases.reached(node, asked_ms);
        }
    }

    /// The announced outage, as this leader counts it: by its own clock, from when it heard of it.
    fn follow_freeze(&mut self, manager: usize) {
        let (now_ms, ppm) = (self.clock_ms(manager), self.policy.rate_error_ppm);
        let own = &mut self.managers[manager];
        let now = own.state.freeze();
        let Some(leading) = own.leading.as_deref_mut() else { return };
        let is_news = now.map(|freeze| freeze.version) != leading.freeze.map(|(freeze, _)| freeze.version);
        if is_news {
            leading.freeze = now.map(|freeze| (freeze, now_ms + freeze.for_ms));
            if now.is_none() {
                leading.leases.shorten();
            }
        }
        let Some((freeze, until_ms)) = leading.freeze else { return };
        let left_ms = until_ms.saturating_sub(now_ms);
        let drift_ms = freeze.for_ms * 2 * ppm / 1_000_000;
        let longest_ms = if is_news { freeze.for_ms } else { left_ms + drift_ms };
        match now.is_some_and(|freeze| freeze.stopped) {
            false => leading.leases.extend(longest_ms),
            true => leading.leases.outlast(longest_ms),
        }
        if left_ms == 0 {
            let (term, seen_version) = (leading.term, freeze.version);
            self.propose_action(manager, term, Action::EndFreeze { seen_version }, Purpose::EndFreeze);
        }
    }

    /// A majority is asked whether this manager still leads.
    pub(crate) fn quorum_asked(&mut self, manager: usize, term: u64) {
        let is_leader = (self.raft.leader, self.raft.term) == (manager, term) && self.has_quorum(manager);
        let is_confirmed = is_leader || self.has(Bug::NoQuorumCheck);
        let wait_ms = if is_confirmed { self.net.delay_ms(self.now_ms) } else { QUORUM_TIMEOUT_MS };
        self.after(wait_ms, Event::Manager(manager, ManagerEvent::Quorum { term, is_confirmed }));
    }

    pub(crate) fn quorum(&mut self, manager: usize, is_confirmed: bool) {
        let Some(leading) = self.leading(manager) else { return };
        match std::mem::replace(&mut leading.doing, Doing::Waiting) {
            Doing::Asking(arrived) if is_confirmed => self.grant(manager, arrived),
            Doing::Asking(_) => {
                self.coverage.count("grants refused for want of a quorum");
                self.start_afresh(manager);
                self.tell_silent(manager);
            }
            Doing::Doubting => {
                if !is_confirmed {
                    self.start_afresh(manager);
                }
                self.rest(manager);
            }
            other => leading.doing = other,
        }
    }

    fn grant(&mut self, manager: usize, arrived: Vec<(u64, Beat)>) {
        let (now_ms, mut back) = (self.clock_ms(manager), Vec::new());
        let newest: BTreeMap<u64, Beat> = arrived.into_iter().collect();
        for (number, (sequence, lease_sequence)) in newest {
            let own = &mut self.managers[manager];
            let Some(leading) = own.leading.as_deref_mut() else { return };
            // A session that was replaced or ended has nothing more to renew.
            let Some(session) = leading.sessions.get(&number) else { continue };
            let (node, connection, term) = (session.node, session.connection, leading.term);
            match own.state.node(node).map(|node| node.state) {
                Some(NodeState::Ready) => {}
                Some(NodeState::Disconnected) => {
                    back.push((node, NodeState::Ready, Some(NodeState::Disconnected), true));
                }
                // Its tasks may run elsewhere, and a new hello has to come first.
                Some(NodeState::Down) | None => {
                    self.end_session(manager, number, true);
                    continue;
                }
            }
            leading.leases.confirmed(node, lease_sequence);
            leading.leases.granted(node, now_ms);
            leading.leases.sent(node, sequence);
            let ttl_ms = leading.leases.lease_ttl_ms();
            self.coverage.count("grants");
            self.send_down(connection, term, Down::Lease { sequence, ttl_ms });
        }
        if back.is_empty() { self.tell_silent(manager) } else { self.tell(manager, back, false) }
    }

    fn tell_silent(&mut self, manager: usize) {
        let now_ms = self.clock_ms(manager);
        let own = &mut self.managers[manager];
        let Some(leading) = own.leading.as_deref_mut() else { return };
        let due = leading.leases.due(now_ms, |node| is_leased(&own.state, node));
        let before = |node| own.state.node(node).map(|row| row.state);
        let due: Vec<Tell> = due.into_iter().map(|(node, state)| (node, state, before(node), false)).collect();
        if due.is_empty() { self.rest(manager) } else { self.tell(manager, due, true) }
    }

    /// Proposes states, and waits for all the answers.
    fn tell(&mut self, manager: usize, tells: Vec<Tell>, is_silence: bool) {
        let Some(leading) = self.leading(manager) else { return };
        let term = leading.term;
        leading.doing = Doing::Telling { left: tells.len(), has_failed: false, is_silence };
        for (node, state, before, is_back) in tells {
            let seen = self.managers[manager].state.node(node).map(|row| row.version);
            match seen {
                None => self.told(manager, (node, state, before, is_back), false),
                Some(seen_version) => {
                    let action = Action::SetNodeState { node, seen_version, state };
                    let purpose = Purpose::NodeState { node, state, before, is_back };
                    self.propose_action(manager, term, action, purpose);
                }
            }
        }
    }

    pub(super) fn told(&mut self, manager: usize, (node, state, before, is_back): Tell, is_told: bool) {
        if is_told && state == NodeState::Down {
            self.coverage.count("nodes down");
            self.end_session_of(manager, node);
        } else if is_told && state == NodeState::Disconnected {
            self.coverage.count("nodes disconnected");
        }
        let now_ms = self.clock_ms(manager);
        let Some(leading) = self.leading(manager) else { return };
        match before {
            _ if is_told || is_back => {}
            Some(before) => leading.leases.untold(node, before),
            None => leading.leases.forget(node, now_ms),
        }
        let Doing::Telling { left, has_failed, is_silence } = &mut leading.doing else { return };
        *left -= 1;
        *has_failed |= !is_told && before.is_some();
        let (is_done, has_failed, is_silence, term) = (*left == 0, *has_failed, *is_silence, leading.term);
        match (is_done, is_silence) {
            (false, _) => {}
            (true, false) => self.tell_silent(manager),
            (true, true) if has_failed => {
                leading.doing = Doing::Doubting;
                self.after(1, Event::Manager(manager, ManagerEvent::QuorumAsked { term }));
            }
            (true, true) => self.rest(manager),
        }
    }

    /// Until something comes, or something is due.
    fn rest(&mut self, manager: usize) {
        let now_ms = self.clock_ms(manager);
        let Some(leading) = self.leading(manager) else { return };
        leading.doing = Doing::Waiting;
        let term = leading.term;
        let freeze_ends = leading.freeze.map(|(_, until_ms)| until_ms.max(now_ms + MAX_WAIT_MS));
        let next = [leading.leases.next_deadline_ms(now_ms), freeze_ends].into_iter().flatten().min();
        let has_doubts = !leading.leases.doubtful(now_ms).is_empty();
        let has_come = !leading.beats.is_empty() || !leading.node_changes.is_empty() || !leading.reached.is_empty();
        let asks_now = has_doubts && !leading.is_asking;
        leading.is_asking |= has_doubts;
        let at_ms =
            if has_come { self.now_ms } else { next.map_or(u64::MAX, |at_ms| self.managers[manager].real_ms(at_ms)) };
        if asks_now {
            self.after(1, Event::Manager(manager, ManagerEvent::Opinions { term }));
        }
        let at_ms = at_ms.max(self.now_ms);
        if let Some(leading) = self.leading(manager) {
            leading.looks_at_ms = at_ms;
            leading.has_to_look = has_come;
        }
        if at_ms < u64::MAX {
            self.at(at_ms, Event::Manager(manager, ManagerEvent::Leases { term }));
        }
    }
}
