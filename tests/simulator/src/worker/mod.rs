//! Workers: a machine with its clock, its containers, its watchdog and its disk; and the agent on it, which may be dead or
//! stand still while the rest goes on.

mod agent;
mod hands;
mod life;
mod outbox;
mod peers;
mod plan;
mod watch;

use std::collections::BTreeMap;

use goat_core::lease::WorkerLease;
use goat_core::model::{NodeId, OnDisconnect, ServiceId, TaskId, TaskState};

use crate::random::Random;
use crate::script::Shape;
use crate::wire::Assignment;
use outbox::Outbox;

#[derive(Debug)]
pub(crate) struct Machine {
    pub at: usize,
    /// Another one after it was removed from the cluster.
    pub id: NodeId,
    lives: u64,
    pub is_up: bool,
    is_suspended: bool,
    rate_ppm: u64,
    offset_ms: u64,
    random: Random,
    /// When it is looked at next, if that was said.
    wakes_at_ms: u64,
    pub works: BTreeMap<TaskId, Work>,
    /// None until it comes again.
    has_watchdog: bool,
    watchdog_comes_ms: u64,
    /// As the lease's file has it.
    lease: Option<WorkerLease>,
    sheltered_until_ms: u64,
    /// What was forgotten here; whether that is on disk, as it is where it had been begun.
    gone: BTreeMap<TaskId, bool>,
    /// On disk: the highest it has accepted.
    term: u64,
    /// On disk: the other workers that it was told of.
    peers: Vec<NodeId>,
    agent: Option<Agent>,
    is_agent_frozen: bool,
}

/// What there is of a task on a machine.
#[derive(Debug)]
pub(crate) struct Work {
    pub service: ServiceId,
    pub slot: u32,
    pub on_disconnect: OnDisconnect,
    stop_grace_ms: u64,
    has_health: bool,
    // The world's.
    pub is_alive: bool,
    has_container: bool,
    /// When and as what it ends, by itself or by force.
    ends: Option<(u64, TaskState)>,
    /// It has slept through the end of its lease, and is given until then to end.
    overslept_until_ms: u64,
    /// It has ended so.
    exit: Option<TaskState>,
    // The disk's.
    journal: Option<TaskState>,
    // The agent's; gone with it.
    known: Option<Known>,
}

/// What an agent knows of a task, and is doing about it.
#[derive(Debug)]
struct Known {
    state: TaskState,
    doing: Doing,
    /// When it comes into its next state.
    next_ms: u64,
    at_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// It has ended, or was never begun.
    Nothing,
    Running,
    Stopping {
        grace_ms: u64,
    },
}

#[derive(Debug)]
struct Agent {
    session: Session,
    /// Whom it tries next: one after the other.
    next_manager: usize,
    /// Named by one of them, to be tried before.
    hint: Option<usize>,
    /// The last that was named and tried.
    tried: Option<usize>,
    /// A manager through which the leader may be reached.
    relay: Option<usize>,
    assigned: Option<BTreeMap<TaskId, Assignment>>,
    outbox: Outbox,
    peers_asked_ms: u64,
    is_asking_peers: bool,
}

#[derive(Debug)]
enum Session {
    None { dials_at_ms: u64 },
    Dialing { connection: u32, until_ms: u64 },
    Open(Open),
}

#[derive(Debug)]
struct Open {
    connection: u32,
    heard_ms: u64,
    beats_at_ms: u64,
    beat: u64,
    sent: BTreeMap<u64, u64>,
    /// The heartbeat from whose grant the lease counts; 0 for none of this session.
    leased_from: u64,
    sequence: Option<u64>,
}

impl Machine {
    pub(crate) fn new(at: usize, shape: &Shape) -> Self {
        let mut random = Random::new(shape.seed, 200 + at as u64);
        let error = shape.rate_error_ppm;
        let rate_ppm = match random.below(3) {
            0 => 1_000_000 - error,
            1 => 1_000_000 + error,
            _ => 1_000_000 - error + random.below(2 * error + 1),
        };
        Self {
            at,
            id: NodeId::from_random(at as u64 + 1),
            lives: 0,
            is_up: true,
            is_suspended: false,
            rate_ppm,
            offset_ms: random.below(1 << 40),
            random,
            wakes_at_ms: u64::MAX,
            works: BTreeMap::new(),
            has_watchdog: true,
            watchdog_comes_ms: u64::MAX,
            lease: None,
            sheltered_until_ms: 0,
            gone: BTreeMap::new(),
            term: 0,
            peers: Vec::new(),
            agent: Some(Agent::new(at)),
            is_agent_frozen: false,
        }
    }

    /// CLOCK_BOOTTIME: it counts suspend.
    fn clock_ms(&self, now_ms: u64) -> u64 {
        self.offset_ms + now_ms * self.rate_ppm / 1_000_000
    }

    fn real_ms(&self, clock_ms: u64) -> u64 {
        (clock_ms.saturating_sub(self.offset_ms) * 1_000_000).div_ceil(self.rate_ppm)
    }

    /// Whether its agent takes in what is sent to it.
    pub(crate) fn hears(&self) -> bool {
        self.is_up && !self.is_suspended && self.agent.is_some() && !self.is_agent_frozen
    }

    /// By its clock: until when what is bound so may run.
    fn lease_ends_ms(&self, on_disconnect: OnDisconnect) -> u64 {
        let lease_ms = self.lease.map_or(0, |lease| lease.deadline_ms());
        match on_disconnect {
            OnDisconnect::Keep => u64::MAX,
            OnDisconnect::Stop => lease_ms,
            OnDisconnect::StopIfIsolated => lease_ms.max(self.sheltered_until_ms),
        }
    }

    fn allows(&self, on_disconnect: OnDisconnect, now_ms: u64) -> bool {
        self.clock_ms(now_ms) < self.lease_ends_ms(on_disconnect)
    }

    /// Whether a process of it runs, as far as it counts: what has slept through the end of its lease is given the moment
    /// in which its watchdog wakes.
    pub(crate) fn runs(&self, work: &Work, now_ms: u64) -> bool {
        self.is_up && !self.is_suspended && work.is_alive && now_ms >= work.overslept_until_ms
    }
}

impl Open {
    fn new(connection: u32, now_ms: u64) -> Self {
        Self {
            connection,
            heard_ms: now_ms,
            beats_at_ms: now_ms,
            beat: 0,
            sent: BTreeMap::new(),
            leased_from: 0,
            sequence: None,
        }
    }
}

impl Agent {
    fn new(at: usize) -> Self {
        Self {
            session: Session::None { dials_at_ms: 0 },
            next_manager: at,
            hint: None,
            tried: None,
            relay: None,
            assigned: None,
            outbox: Outbox::default(),
            peers_asked_ms: 0,
            is_asking_peers: false,
        }
    }
}
