//! What workers and managers say to each other, and the connections on which they do: ordered streams that a cut holds up
//! and does not lose, as TCP does.

use std::collections::{BTreeMap, VecDeque};

use goat_core::model::{Desired, NodeId, OnDisconnect, ServiceId, TaskId};
use goat_core::state::command::TaskReport;

/// From a worker.
#[derive(Debug, Clone)]
pub enum Up {
    Hello(Box<Hello>),
    Heartbeat {
        sequence: u64,
        /// The heartbeat from whose grant its lease counts; 0 for none.
        lease_sequence: u64,
    },
    Reports {
        sequence: u64,
        reports: Vec<TaskReport>,
    },
    /// The connection was closed.
    Bye,
}

#[derive(Debug, Clone)]
pub struct Hello {
    pub node: NodeId,
    /// The highest it has accepted.
    pub term: u64,
    pub tasks: Vec<TaskReport>,
    /// Those that still run and are being stopped.
    pub stopping: Vec<TaskId>,
    /// To be passed on to the leader, whom the worker does not reach.
    pub is_relay: bool,
}

/// From a manager, with its term.
#[derive(Debug, Clone)]
pub enum Down {
    Welcome,
    Redirect(Option<usize>),
    Assignments {
        sequence: u64,
        tasks: Vec<Assignment>,
    },
    Changes {
        sequence: u64,
        set: Vec<Assignment>,
        removed: Vec<TaskId>,
    },
    Lease {
        sequence: u64,
        ttl_ms: u64,
    },
    Ack(u64),
    /// Other workers, to be asked when no manager answers.
    Peers(Vec<NodeId>),
    /// This node was removed from the cluster.
    Removed,
    Bye,
}

#[derive(Debug, Clone)]
pub struct Assignment {
    pub task: TaskId,
    pub service: ServiceId,
    pub slot: u32,
    pub desired: Desired,
    pub on_disconnect: OnDisconnect,
    pub has_health: bool,
    pub stop_grace_ms: u64,
}

/// One worker's connection to a manager, perhaps by way of another.
#[derive(Debug)]
pub struct Connection {
    pub worker: usize,
    pub manager: usize,
    pub via: Option<usize>,
    pub up: Stream<Up>,
    pub down: Stream<(u64, Down)>,
}

#[derive(Debug)]
pub struct Stream<T> {
    /// With the time of arrival, should nothing hold it up.
    pub messages: VecDeque<(u64, T)>,
    pub last_ms: u64,
    /// Whoever reads it is there.
    pub is_read: bool,
}

impl<T> Stream<T> {
    fn new() -> Self {
        Self { messages: VecDeque::new(), last_ms: 0, is_read: true }
    }

    /// When it will arrive: after what was sent before.
    pub fn push(&mut self, arrives_ms: u64, message: T) -> u64 {
        self.last_ms = self.last_ms.max(arrives_ms);
        self.messages.push_back((self.last_ms, message));
        self.last_ms
    }

    pub fn pop_due(&mut self, now_ms: u64) -> Option<T> {
        if self.messages.front().is_none_or(|(at_ms, _)| *at_ms > now_ms) {
            return None;
        }
        self.messages.pop_front().map(|(_, message)| message)
    }
}

/// All of them, by number.
#[derive(Debug, Default)]
pub struct Connections {
    pub all: BTreeMap<u32, Connection>,
    last: u32,
}

impl Connections {
    pub fn open(&mut self, worker: usize, manager: usize) -> u32 {
        self.last += 1;
        let connection = Connection { worker, manager, via: None, up: Stream::new(), down: Stream::new() };
        self.all.insert(self.last, connection);
        self.last
    }

    /// Nobody reads what is sent down any more. Gone when nobody reads either way, or nothing is left to read.
    pub fn leave_down(&mut self, number: u32) {
        if let Some(connection) = self.all.get_mut(&number) {
            connection.down.is_read = false;
        }
        self.tidy(number);
    }

    pub fn leave_up(&mut self, number: u32) {
        if let Some(connection) = self.all.get_mut(&number) {
            connection.up.is_read = false;
        }
        self.tidy(number);
    }

    fn tidy(&mut self, number: u32) {
        if self.all.get(&number).is_some_and(|both| !both.up.is_read && !both.down.is_read) {
            self.all.remove(&number);
        }
    }
}
