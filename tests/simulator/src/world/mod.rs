//! The world: its clock, its queue of events, its machines and the ways between them. What an event does is told in the
//! files beside this one, each for one kind of actor.

mod deeds;
mod elections;
mod lies;
mod log;
mod manager;
mod net;
mod queue;
mod users;

use std::collections::BTreeMap;

use goat_core::lease::LeasePolicy;
use goat_core::scheduler::mix;

use crate::coverage::Coverage;
use crate::judge::Judge;
use crate::mischief::MAX_MANAGERS;
use crate::random::Random;
use crate::script::{Bug, Script};
use crate::wire::Connections;
use crate::worker::Machine;
use log::Raft;
pub(crate) use log::{Committed, Purpose};
pub(crate) use manager::{EPOCH_MS, Manager};
use net::Net;
use queue::Queue;
use users::Request;

/// From healing to rest: the longest freeze, a full lease for each, backoffs and rolling updates have room in it.
const REST_MS: u64 = 240_000;
const LOOK_FOR_REST_MS: u64 = 500;

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// The next of the script.
    Deed(usize),
    Heal,
    LookForRest,
    Arrive {
        connection: u32,
        is_up: bool,
    },
    Machine(usize),
    /// The log's next entry may be committed.
    Commit,
    Election,
    Lead {
        manager: usize,
        term: u64,
    },
    Deposed {
        manager: usize,
        term: u64,
    },
    Manager(usize, ManagerEvent),
    Try(usize),
    Answer {
        request: usize,
        index: u64,
    },
    /// Peers' answers have come, or have not.
    Peers {
        worker: usize,
        asked_ms: u64,
        ages: Vec<Option<u64>>,
    },
}

/// What happens inside a manager; while it stands still, it waits.
#[derive(Debug)]
pub(crate) enum ManagerEvent {
    Apply,
    Timeout {
        proposal: u64,
    },
    QuorumAsked {
        term: u64,
    },
    Quorum {
        term: u64,
        is_confirmed: bool,
    },
    Leases {
        term: u64,
    },
    Planner {
        term: u64,
    },
    Opinions {
        term: u64,
    },
    Members {
        term: u64,
    },
    Introduce {
        term: u64,
        session: u64,
    },
    /// More is told on a session where a part got lost; everything, where that is known.
    Missed {
        term: u64,
        connection: u32,
        is_known: bool,
    },
    /// A user's request came, from its client or passed on by another manager.
    Request {
        request: usize,
        try_number: u32,
        is_forwarded: bool,
    },
}

#[derive(Debug)]
pub struct World {
    pub(crate) script: Script,
    pub(crate) now_ms: u64,
    queue: Queue,
    pub(crate) is_healed: bool,
    pub(crate) policy: LeasePolicy,
    moment_ms: u64,
    same_moment: u64,
    pub(crate) random: Random,
    pub(crate) net: Net,
    pub(crate) connections: Connections,
    pub(crate) raft: Raft,
    pub(crate) managers: Vec<Manager>,
    pub(crate) machines: Vec<Machine>,
    requests: Vec<Request>,
    /// Waiting for the answer to a proposal.
    waiting: BTreeMap<u64, log::Waiting>,
    pub(crate) judge: Judge,
    pub(crate) coverage: Coverage,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What must not be; None for a good end.
    pub failure: Option<String>,
    pub simulated_ms: u64,
    pub coverage: Coverage,
    /// Of the managers' state at the end: the same for the same script.
    pub hash: u64,
}

impl World {
    pub fn new(script: Script) -> Self {
        let shape = &script.shape;
        let policy = LeasePolicy { rate_error_ppm: shape.rate_error_ppm, ..LeasePolicy::default() };
        let mut world = Self {
            now_ms: 0,
            queue: Queue::default(),
            is_healed: false,
            policy,
            moment_ms: 0,
            same_moment: 0,
            random: Random::new(shape.seed, 3),
            net: Net::new(shape),
            connections: Connections::default(),
            raft: Raft::new(shape),
            managers: (0..MAX_MANAGERS).map(|at| Manager::new(at, shape)).collect(),
            machines: (0..shape.workers).map(|at| Machine::new(at, shape)).collect(),
            requests: Vec::new(),
            waiting: BTreeMap::new(),
            judge: Judge::new(),
            coverage: Coverage::default(),
            script,
        };
        world.found();
        world
    }

    /// The cluster comes to be.
    fn found(&mut self) {
        self.at(self.script.shape.heal_at_ms, Event::Heal);
        self.elect(0);
        for at in 0..self.machines.len() {
            self.wake_machine(at, 100 + 37 * at as u64);
        }
    }

    pub fn run(mut self) -> Ended {
        let until_ms = self.script.shape.heal_at_ms + REST_MS;
        while self.judge.failure.is_none() && !self.judge.is_over {
            let Some((at_ms, event)) = self.queue.next(&self.script) else { break };
            self.now_ms = at_ms;
            if self.now_ms > until_ms {
                let left = self.what_is_left();
                self.fail(format!("no rest {REST_MS} ms after everything was mended: {left}"));
                break;
            }
            self.draw_chance();
            self.happen(event);
        }
        Ended {
            failure: self.judge.failure.take().map(|text| format!("at {} ms: {text}", self.now_ms)),
            simulated_ms: self.now_ms,
            hash: self.judge.truth.hash(),
            coverage: self.coverage,
        }
    }

    /// Chance depends on the moment and on nothing that went before, so that a run without some of its events is else the
    /// same.
    fn draw_chance(&mut self) {
        self.same_moment = if self.moment_ms == self.now_ms { self.same_moment + 1 } else { 0 };
        self.moment_ms = self.now_ms;
        let seed = mix(self.script.shape.seed ^ mix(self.now_ms ^ (self.same_moment << 40)));
        self.random = Random::new(seed, 3);
        self.net.draw_chance(seed);
        self.raft.draw_chance(seed);
    }

    pub(crate) fn at(&mut self, at_ms: u64, event: Event) {
        self.queue.push(at_ms.max(self.now_ms), event);
    }

    pub(crate) fn after(&mut self, wait_ms: u64, event: Event) {
        self.at(self.now_ms + wait_ms, event);
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.script.shape.bug == Some(bug)
    }

    /// The first failure is told; what comes of it is not.
    pub(crate) fn fail(&mut self, text: String) {
        self.judge.failure.get_or_insert(text);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deed(at) => self.deed(at),
            Event::Heal => self.heal(),
            Event::LookForRest => self.look_for_rest(),
            Event::Arrive { connection, is_up } => self.arrive(connection, is_up),
            Event::Machine(at) => self.machine_wakes(at),
            Event::Commit => self.commit(),
            Event::Election => self.election(),
            Event::Lead { manager, term } => self.lead(manager, term),
            Event::Deposed { manager, term } => self.deposed(manager, term),
            Event::Manager(manager, event) => self.manager_event(manager, event),
            Event::Try(request) => self.try_request(request),
            Event::Answer { request, index } => self.answered(request, index),
            Event::Peers { worker, asked_ms, ages } => self.peers_answered(worker, asked_ms, ages),
        }
    }

    fn look_for_rest(&mut self) {
        if self.is_at_rest() {
            self.judge_the_end();
            self.judge.is_over = true;
        } else {
            self.after(LOOK_FOR_REST_MS, Event::LookForRest);
        }
    }
}
