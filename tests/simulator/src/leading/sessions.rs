//! Workers' sessions at the leader.
//!
//! ```text
//! hello ─► RegisterNode ─► ReportTasks ─► Welcome, Assignments ─► heartbeats, reports up; changes, grants, acks down
//! ```
//! A newer session of a node ends the older one before anything of it is proposed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use goat_core::model::{Driver, Inventory, NodeId, Resources, TaskId, TaskState};
use goat_core::state::change::ChangeSet;
use goat_core::state::command::{Action, Outcome, Refusal, TaskReport};

use super::book::Book;
use crate::mischief::Place;
use crate::wire::{Down, Hello, Up};
use crate::world::{Event, ManagerEvent, Purpose, World};

#[derive(Debug)]
pub(super) struct Session {
    pub node: NodeId,
    pub connection: u32,
    hello: Option<Vec<TaskReport>>,
    pub book: Option<Book>,
    writes: VecDeque<(u64, Vec<TaskReport>)>,
    is_writing: bool,
    /// The others that it was told of.
    pub introduced: Option<Vec<NodeId>>,
}

impl Session {
    fn new(node: NodeId, connection: u32, hello: Vec<TaskReport>) -> Self {
        let (book, writes, is_writing, introduced) = (None, VecDeque::new(), false, None);
        Self { node, connection, hello: Some(hello), book, writes, is_writing, introduced }
    }
}

/// One increment in so many gets lost.
const LOST: u64 = 400;

/// Four CPUs: room for a few tasks, and sometimes not.
fn inventory() -> Inventory {
    Inventory {
        total: Resources { cpu_millis: 4_000, memory_bytes: 4 << 30, disk_bytes: 10 << 30 },
        drivers: [Driver::Docker].into(),
        disk_free_bytes: 10 << 30,
        ..Inventory::default()
    }
}

impl World {
    pub(crate) fn manager_hears(&mut self, manager: usize, connection: u32, message: Up) {
        if !self.managers[manager].is_up {
            return;
        }
        if let Up::Hello(hello) = message {
            return self.hello(manager, connection, *hello);
        }
        let Some(leading) = self.leading(manager) else { return };
        let Some(number) = leading.by_connection.get(&connection).copied() else { return };
        match message {
            Up::Heartbeat { sequence, lease_sequence } => {
                leading.beats.push((number, (sequence, lease_sequence)));
                self.wake_leases(manager);
            }
            Up::Reports { sequence, reports } => {
                if let Some(session) = leading.sessions.get_mut(&number) {
                    session.writes.push_back((sequence, reports));
                }
                self.write(manager, number);
            }
            Up::Bye => self.end_session(manager, number, false),
            Up::Hello(_) => {}
        }
    }

    fn hello(&mut self, manager: usize, connection: u32, hello: Hello) {
        let Some(leading) = self.leading(manager) else {
            return self.turn_away(manager, connection, hello);
        };
        let term = leading.term;
        if hello.term > term {
            // It has followed a newer leader.
            self.send_down(connection, 0, Down::Bye);
            return self.connections.leave_up(connection);
        }
        leading.last_session += 1;
        let number = leading.last_session;
        let older = leading.by_node.insert(hello.node, number);
        leading.by_connection.insert(connection, number);
        let running = hello.tasks.iter().filter(|report| report.state == TaskState::Running);
        let running = running.filter(|report| !hello.stopping.contains(&report.task));
        let running: Vec<TaskId> = running.map(|report| report.task).collect();
        let node = hello.node;
        leading.sessions.insert(number, Session::new(node, connection, hello.tasks));
        if let Some(older) = older {
            self.end_session(manager, older, true);
        }
        self.coverage.count("sessions");
        let name = self.connections.all.get(&connection).map_or(0, |connection| connection.worker);
        let register = Action::RegisterNode {
            node,
            name: format!("w{name}"),
            address: format!("10.0.1.{name}"),
            labels: BTreeMap::new(),
            inventory: inventory(),
            running,
        };
        self.propose_action(manager, term, register, Purpose::Register { session: number });
    }

    /// A manager that does not lead says who does, or passes the session on.
    fn turn_away(&mut self, manager: usize, connection: u32, hello: Hello) {
        let leader = self.leader_known_to(manager).filter(|_| self.raft.is_member(manager));
        if let Some(leader) = leader.filter(|_| hello.is_relay)
            && self.net.is_open_both_ways(Place::Manager(manager), Place::Manager(leader))
            && let Some(passed_on) = self.connections.all.get_mut(&connection)
        {
            (passed_on.manager, passed_on.via) = (leader, Some(manager));
            self.coverage.count("relayed sessions");
            return self.send_up(connection, Up::Hello(Box::new(hello)));
        }
        self.send_down(connection, 0, Down::Redirect(leader));
        self.connections.leave_up(connection);
    }

    /// `is_told`: the worker's end is closed as well.
    pub(super) fn end_session(&mut self, manager: usize, number: u64, is_told: bool) {
        let Some(leading) = self.leading(manager) else { return };
        let Some(session) = leading.sessions.remove(&number) else { return };
        if leading.by_node.get(&session.node) == Some(&number) {
            leading.by_node.remove(&session.node);
        }
        leading.by_connection.remove(&session.connection);
        if is_told {
            self.send_down(session.connection, 0, Down::Bye);
        }
        self.connections.leave_up(session.connection);
    }

    pub(super) fn registered(&mut self, manager: usize, number: u64, outcome: &Outcome) {
        let Some(leading) = self.leading(manager) else { return };
        let term = leading.term;
        let Some(session) = leading.sessions.get_mut(&number) else { return };
        let (node, connection) = (session.node, session.connection);
        if let Outcome::Refused(refusal) = outcome {
            if matches!(refusal, Refusal::NodeRemoved { .. }) {
                self.send_down(connection, term, Down::Removed);
            }
            return self.end_session(manager, number, true);
        }
        let reports = session.hello.take().unwrap_or_default();
        self.introduce_all(manager);
        if reports.is_empty() {
            return self.welcome(manager, number);
        }
        let action = Action::ReportTasks { node, reports };
        self.propose_action(manager, term, action, Purpose::HelloReports { session: number });
    }

    pub(super) fn welcome(&mut self, manager: usize, number: u64) {
        let own = &mut self.managers[manager];
        let Some(leading) = own.leading.as_deref_mut() else { return };
        let term = leading.term;
        let Some(session) = leading.sessions.get_mut(&number) else { return };
        let mut book = Book::new(session.node);
        let (connection, full) = (session.connection, book.full(&own.state));
        session.book = Some(book);
        self.coverage.count("assignments sent in full");
        self.send_down(connection, term, Down::Welcome);
        self.send_down(connection, term, full);
        self.begin_introducing(manager, number);
    }

    fn write(&mut self, manager: usize, number: u64) {
        let Some(leading) = self.leading(manager) else { return };
        let term = leading.term;
        let Some(session) = leading.sessions.get_mut(&number) else { return };
        if session.is_writing || session.book.is_none() {
            return;
        }
        // What has come while a proposal was under way goes into one.
        let Some(sequence) = session.writes.back().map(|(sequence, _)| *sequence) else { return };
        let reports = session.writes.drain(..).flat_map(|(_, reports)| reports).collect();
        session.is_writing = true;
        let action = Action::ReportTasks { node: session.node, reports };
        self.propose_action(manager, term, action, Purpose::Reports { session: number, sequence });
    }

    pub(super) fn reports_written(&mut self, manager: usize, number: u64, sequence: u64) {
        let Some(leading) = self.leading(manager) else { return };
        let term = leading.term;
        let Some(session) = leading.sessions.get_mut(&number) else { return };
        session.is_writing = false;
        let connection = session.connection;
        self.send_down(connection, term, Down::Ack(sequence));
        self.write(manager, number);
    }

    /// Tells each session which of its tasks a command has touched.
    pub(super) fn route(&mut self, manager: usize, changes: &ChangeSet) {
        let mut touched: BTreeMap<NodeId, BTreeSet<TaskId>> = BTreeMap::new();
        for change in &changes.tasks {
            if let Some(node) = change.node {
                touched.entry(node).or_default().insert(change.task);
            }
        }
        let own = &mut self.managers[manager];
        for task in changes.services.iter().flat_map(|service| own.state.tasks_of_service(*service)) {
            if let Some(node) = task.node {
                touched.entry(node).or_default().insert(task.id);
            }
        }
        let Some(leading) = own.leading.as_deref_mut() else { return };
        let term = leading.term;
        let mut news = Vec::new();
        for (node, tasks) in touched {
            let session = leading.by_node.get(&node).and_then(|number| leading.sessions.get_mut(number));
            if let Some(session) = session
                && let Some(book) = &mut session.book
                && let Some(message) = book.changes(&own.state, tasks)
            {
                news.push((session.connection, message));
            }
        }
        for (connection, message) in news {
            if self.is_healed || !self.random.once_in(LOST) {
                self.send_down(connection, term, message);
            } else {
                // Whoever knows that he fell behind tells everything anew. Else the worker has to notice, by the next one.
                let wait_ms = self.random.between(500, 8_000);
                let is_known = self.random.once_in(2);
                self.after(wait_ms, Event::Manager(manager, ManagerEvent::Missed { term, connection, is_known }));
            }
        }
    }

    /// What comes on a session after an increment that got lost: everything, or another increment.
    pub(crate) fn tell_after_a_loss(&mut self, manager: usize, connection: u32, is_known: bool) {
        let own = &mut self.managers[manager];
        let Some(leading) = own.leading.as_deref_mut() else { return };
        let term = leading.term;
        let session = leading.by_connection.get(&connection).and_then(|number| leading.sessions.get_mut(number));
        if let Some(book) = session.and_then(|session| session.book.as_mut()) {
            let message = if is_known { book.full(&own.state) } else { book.nothing() };
            self.send_down(connection, term, message);
        }
    }

    /// The node was given up: a new hello has to come first.
    pub(super) fn end_session_of(&mut self, manager: usize, node: NodeId) {
        let number = self.leading(manager).and_then(|leading| leading.by_node.get(&node).copied());
        if let Some(number) = number {
            self.end_session(manager, number, true);
        }
    }
}
