//! An agent's session with the leader: found from any manager, held while it lasts, sought again when it is lost.

use goat_core::lease::WorkerLease;
use goat_core::model::NodeId;

use super::{Agent, Doing, Known, Machine, Open, Session};
use crate::mischief::{MAX_MANAGERS, Place};
use crate::script::Bug;
use crate::wire::{Down, Hello, Up};
use crate::world::World;

const SILENCE_MS: u64 = 1_000;
const DIAL_MS: u64 = 1_000;

impl Agent {
    /// When something is due in the agent itself.
    pub(super) fn next_ms(&self, machine: &Machine, is_anything_leased: bool, now_ms: u64) -> u64 {
        let session_ms = match &self.session {
            Session::None { dials_at_ms } => *dials_at_ms,
            Session::Dialing { until_ms, .. } => *until_ms,
            Session::Open(open) => open.beats_at_ms.min(open.heard_ms + SILENCE_MS),
        };
        let peers_ms = if is_anything_leased && !self.is_asking_peers { self.asks_peers_ms(machine) } else { u64::MAX };
        session_ms.min(peers_ms).max(now_ms)
    }

    /// Whoever was named, once; then all go on being asked in turn, lest two that name each other be all that is asked.
    fn choose(&mut self, managers: usize) -> usize {
        if let Some(named) = self.hint.take() {
            self.tried = Some(named);
            return named;
        }
        let next = self.next_manager % managers;
        self.next_manager = (self.next_manager + 1) % MAX_MANAGERS;
        next
    }
}

impl World {
    pub(super) fn agent_acts(&mut self, at: usize) {
        // What is to be stopped is being stopped before anything is said of it.
        self.work(at);
        self.keep_session(at);
        self.ask_peers(at);
        self.send_reports(at);
    }

    fn keep_session(&mut self, at: usize) {
        let now_ms = self.now_ms;
        let Some(agent) = &self.machines[at].agent else { return };
        match &agent.session {
            Session::None { dials_at_ms } if *dials_at_ms <= now_ms => self.dial(at),
            Session::Dialing { until_ms, .. } if *until_ms <= now_ms => self.lose_session(at, 20),
            Session::Open(open) if open.heard_ms + SILENCE_MS <= now_ms => self.lose_session(at, 1),
            Session::Open(open) if open.beats_at_ms <= now_ms => self.beat(at),
            _ => {}
        }
    }

    fn dial(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let tasks = machine.works.iter().filter_map(|(task, work)| work.report(*task, None)).collect();
        let is_stopping = |known: &Known| matches!(known.doing, Doing::Stopping { .. });
        let stopping = machine.works.iter().filter(|(_, work)| work.known.as_ref().is_some_and(is_stopping));
        let stopping = stopping.map(|(task, _)| *task).collect();
        let (id, term, count) = (machine.id, machine.term, self.managers.len());
        let Some(agent) = &mut machine.agent else { return };
        let relay = agent.relay.take();
        if relay.is_some() {
            // Once: what it names again is asked itself, and then all go on being asked.
            agent.tried = None;
        }
        let manager = relay.unwrap_or_else(|| agent.choose(count));
        let connection = self.connections.open(at, manager);
        let until_ms = self.now_ms + DIAL_MS;
        agent.session = Session::Dialing { connection, until_ms };
        let is_there = self.managers[manager].is_up && self.raft.is_member(manager);
        let is_open = self.net.is_open_both_ways(Place::Worker(at), Place::Manager(manager));
        if is_there && !is_open {
            // Nothing is said before the other end has answered.
            self.connections.leave_up(connection);
        } else if is_there {
            let hello = Hello { node: id, term, tasks, stopping, is_relay: relay.is_some() };
            self.send_up(connection, Up::Hello(Box::new(hello)));
        } else {
            // Refused at once.
            self.connections.leave_up(connection);
            self.lose_session(at, 30);
        }
    }

    /// The way is lost, or was none; another manager is tried next.
    pub(super) fn lose_session(&mut self, at: usize, wait_ms: u64) {
        let (now_ms, random) = (self.now_ms, self.machines[at].random.below(wait_ms.max(1)));
        let Some(agent) = &mut self.machines[at].agent else { return };
        let dials_at_ms = now_ms + 1 + random;
        let before = std::mem::replace(&mut agent.session, Session::None { dials_at_ms });
        if let Session::Dialing { connection, .. } | Session::Open(Open { connection, .. }) = before {
            self.send_up(connection, Up::Bye);
            self.connections.leave_down(connection);
        }
        self.wake_machine(at, dials_at_ms);
    }

    fn beat(&mut self, at: usize) {
        let (now_ms, heartbeat_ms) = (self.now_ms, self.policy.heartbeat_ms);
        let clock_ms = self.machines[at].clock_ms(now_ms);
        let Some(Agent { session: Session::Open(open), .. }) = &mut self.machines[at].agent else { return };
        open.beat += 1;
        open.beats_at_ms = now_ms + heartbeat_ms;
        open.sent.insert(open.beat, clock_ms);
        let (connection, sequence, lease_sequence) = (open.connection, open.beat, open.leased_from);
        self.send_up(connection, Up::Heartbeat { sequence, lease_sequence });
    }

    fn send_reports(&mut self, at: usize) {
        let Some(Agent { session: Session::Open(open), outbox, .. }) = &mut self.machines[at].agent else { return };
        let connection = open.connection;
        if let Some((sequence, reports)) = outbox.take_batch() {
            self.send_up(connection, Up::Reports { sequence, reports });
        }
    }

    pub(crate) fn agent_hears(&mut self, at: usize, connection: u32, term: u64, message: Down) {
        let is_current = match self.machines[at].agent.as_ref().map(|agent| &agent.session) {
            Some(Session::Dialing { connection: own, .. } | Session::Open(Open { connection: own, .. })) => {
                *own == connection
            }
            _ => false,
        };
        if !is_current {
            return;
        }
        match message {
            Down::Redirect(leader) => return self.redirected(at, connection, leader),
            Down::Bye => return self.lose_session(at, 30),
            Down::Removed => return self.removed(at),
            _ => {}
        }
        let machine = &mut self.machines[at];
        if term < machine.term {
            self.coverage.count("stale leaders turned away by workers");
            return self.lose_session(at, 30);
        }
        machine.term = machine.term.max(term);
        if let Some(Agent { session: Session::Open(open), .. }) = &mut machine.agent {
            open.heard_ms = self.now_ms;
        }
        self.obey(at, connection, message);
        self.wake_machine(at, self.now_ms);
    }

    fn obey(&mut self, at: usize, connection: u32, message: Down) {
        let (now_ms, has_blind_eye) = (self.now_ms, self.has(Bug::GapNotNoticed));
        let machine = &mut self.machines[at];
        let Some(agent) = &mut machine.agent else { return };
        if matches!(message, Down::Welcome) {
            agent.outbox.begin_session();
            (agent.session, agent.tried) = (Session::Open(Open::new(connection, now_ms)), None);
            return;
        }
        let Session::Open(open) = &mut agent.session else { return };
        match message {
            Down::Assignments { sequence, tasks } => {
                open.sequence = Some(sequence);
                agent.assigned = Some(tasks.into_iter().map(|told| (told.task, told)).collect());
            }
            Down::Changes { sequence, .. } if open.sequence != sequence.checked_sub(1) && !has_blind_eye => {
                self.coverage.count("gaps noticed");
                self.lose_session(at, 1);
            }
            Down::Changes { sequence, set, removed } => {
                open.sequence = Some(sequence);
                let assigned = agent.assigned.get_or_insert_default();
                for task in removed {
                    assigned.remove(&task);
                }
                assigned.extend(set.into_iter().map(|told| (told.task, told)));
            }
            Down::Ack(sequence) => agent.outbox.acked(sequence),
            Down::Peers(peers) => machine.peers = peers,
            Down::Lease { sequence, ttl_ms } => {
                let sent_ms = open.sent.get(&sequence).copied();
                open.sent = open.sent.split_off(&(sequence + 1));
                if let Some(sent_ms) = sent_ms {
                    open.leased_from = open.leased_from.max(sequence);
                    self.granted(at, sent_ms, ttl_ms);
                }
            }
            Down::Welcome | Down::Redirect(_) | Down::Removed | Down::Bye => {}
        }
    }

    fn granted(&mut self, at: usize, sent_ms: u64, ttl_ms: u64) {
        let counts_from_receipt = self.has(Bug::LeaseFromReceipt);
        let machine = &mut self.machines[at];
        let sent_ms = if counts_from_receipt { machine.clock_ms(self.now_ms) } else { sent_ms };
        if machine.lease.is_none_or(|lease| lease.sent_ms < sent_ms) {
            machine.lease = Some(WorkerLease { sent_ms, ttl_ms });
        }
    }

    fn redirected(&mut self, at: usize, connection: u32, leader: Option<usize>) {
        let from = self.connections.all.get(&connection).map(|connection| connection.manager);
        let was_open = matches!(&self.machines[at].agent, Some(Agent { session: Session::Open(_), .. }));
        self.lose_session(at, if was_open { 5 } else { 60 });
        let Some(agent) = &mut self.machines[at].agent else { return };
        if let Some(leader) = leader {
            // Through whom it was named, should the leader itself not be reached.
            let is_second_try = agent.tried == Some(leader) && !was_open;
            agent.hint = Some(leader);
            agent.relay = from.filter(|_| is_second_try || self.random.once_in(6));
        }
    }

    /// What it runs is nobody's any more. Its data is thrown away, and its machine joins anew.
    fn removed(&mut self, at: usize) {
        self.coverage.count("nodes removed");
        self.lose_session(at, 3_000);
        let machine = &mut self.machines[at];
        machine.lives += 1;
        machine.id = NodeId::from_random(machine.at as u64 + 1 + 100 * machine.lives);
        machine.works.clear();
        machine.gone.clear();
        (machine.lease, machine.sheltered_until_ms, machine.term) = (None, 0, 0);
        machine.peers.clear();
        if let Some(agent) = &mut machine.agent {
            (agent.assigned, agent.outbox) = (None, Default::default());
        }
    }
}
