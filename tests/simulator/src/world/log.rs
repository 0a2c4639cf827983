//! The managers' log, as Raft makes it: one order for all, one leader a term, nothing committed without a quorum, nothing
//! committed lost. What a leader had not committed when it was replaced may survive it, or not, in the order it had.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use goat_core::membership::is_quorum;
use goat_core::model::{NodeId, NodeState};
use goat_core::state::command::{Action, Command, Outcome};
use goat_core::state::{At, State};

use super::manager::Manager;
use super::{Event, ManagerEvent, World};
use crate::mischief::Place;
use crate::random::Random;
use crate::script::Shape;

/// As in the managers: a commit that takes so long has lost its quorum.
pub(crate) const COMMIT_TIMEOUT_MS: u64 = 1_800;

#[derive(Debug)]
pub(crate) struct Committed {
    pub index: u64,
    pub term: u64,
    pub command: Command,
    pub proposal: u64,
}

#[derive(Debug)]
pub(super) struct Pending {
    proposal: u64,
    command: Command,
    ready_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Raft {
    pub term: u64,
    /// Whom the last election made leader; it may be gone, or not know.
    pub leader: usize,
    /// It has crashed since: restarted, it has to be elected anew.
    pub is_headless: bool,
    pub log: Vec<Rc<Committed>>,
    pub(super) last_index: u64,
    pub(super) pending: VecDeque<Pending>,
    pub voters: BTreeSet<usize>,
    pub learners: BTreeSet<usize>,
    proposals: u64,
    pub(super) is_election_due: bool,
    pub(super) random: Random,
}

impl Raft {
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            term: 0,
            leader: 0,
            is_headless: false,
            log: Vec::new(),
            last_index: 0,
            pending: VecDeque::new(),
            voters: (0..shape.managers).collect(),
            learners: BTreeSet::new(),
            proposals: 0,
            is_election_due: false,
            random: Random::new(shape.seed, 5),
        }
    }

    pub(super) fn draw_chance(&mut self, seed: u64) {
        self.random = Random::new(seed, 5);
    }

    pub(crate) fn is_member(&self, manager: usize) -> bool {
        self.voters.contains(&manager) || self.learners.contains(&manager)
    }
}

/// Who waits for the answer, and what for.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    Nothing,
    Request(usize),
    Register { session: u64 },
    HelloReports { session: u64 },
    Reports { session: u64, sequence: u64 },
    Plan,
    NodeState { node: NodeId, state: NodeState, before: Option<NodeState>, is_back: bool },
    EndFreeze,
    Misreport,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub manager: usize,
    pub term: u64,
    pub purpose: Purpose,
}

impl World {
    /// Whether a manager and those that it exchanges messages with are a majority.
    pub(crate) fn has_quorum(&self, manager: usize) -> bool {
        let own = &self.managers[manager];
        if !own.is_up || own.is_frozen {
            return false;
        }
        let reaches = |other: &&usize| {
            let peer = &self.managers[**other];
            peer.is_up
                && !peer.is_frozen
                && self.net.is_open_both_ways(Place::Manager(manager), Place::Manager(**other))
        };
        is_quorum(self.raft.voters.iter().filter(reaches).count(), self.raft.voters.len())
    }

    pub(super) fn is_led(&self) -> bool {
        !self.raft.is_headless && self.has_quorum(self.raft.leader)
    }

    /// As this term's leader, which the manager may not be any more.
    pub(crate) fn propose(&mut self, manager: usize, term: u64, command: Command, purpose: Purpose) {
        self.raft.proposals += 1;
        let proposal = self.raft.proposals;
        self.waiting.insert(proposal, Waiting { manager, term, purpose });
        self.after(COMMIT_TIMEOUT_MS, Event::Manager(manager, ManagerEvent::Timeout { proposal }));
        if (self.raft.leader, self.raft.term) != (manager, term) {
            return;
        }
        let raft = &mut self.raft;
        let takes_ms = if raft.random.once_in(30) { raft.random.below(300) } else { 1 + raft.random.below(6) };
        let after_ms = raft.pending.back().map_or(0, |last| last.ready_ms);
        let ready_ms = after_ms.max(self.now_ms + takes_ms);
        raft.pending.push_back(Pending { proposal, command, ready_ms });
        self.at(ready_ms, Event::Commit);
    }

    pub(crate) fn propose_action(&mut self, manager: usize, term: u64, action: Action, purpose: Purpose) {
        let now_ms = self.managers[manager].wall_ms(self.now_ms);
        self.propose(manager, term, Command { now_ms, request: None, action }, purpose);
    }

    pub(super) fn commit(&mut self) {
        while self.raft.pending.front().is_some_and(|first| first.ready_ms <= self.now_ms) {
            if !self.is_led() {
                // Looked at again when something is mended.
                return;
            }
            let Some(first) = self.raft.pending.pop_front() else { return };
            self.append(first);
        }
    }

    pub(super) fn append(&mut self, pending: Pending) {
        let raft = &mut self.raft;
        raft.last_index += 1;
        let Pending { proposal, command, .. } = pending;
        let entry = Rc::new(Committed { index: raft.last_index, term: raft.term, command, proposal });
        raft.log.push(entry.clone());
        self.committed(&entry);
        for manager in 0..self.managers.len() {
            self.hear_of_commits(manager);
        }
    }

    /// A manager that hears of the leader applies what was committed, in its own time.
    pub(crate) fn hear_of_commits(&mut self, manager: usize) {
        let leader = self.raft.leader;
        let own = &self.managers[manager];
        let is_behind = own.applied < self.raft.log.len() && own.may_apply(self.raft.is_member(manager));
        if !is_behind || own.is_apply_due || !self.net.is_open(Place::Manager(leader), Place::Manager(manager)) {
            return;
        }
        let most_ms = if manager == leader { 3 } else { own.lag_ms };
        let wait_ms = 1 + self.raft.random.below(most_ms);
        self.managers[manager].is_apply_due = true;
        self.after(wait_ms, Event::Manager(manager, ManagerEvent::Apply));
    }

    pub(super) fn timed_out(&mut self, proposal: u64) {
        if let Some(waiting) = self.waiting.remove(&proposal) {
            self.not_answered(waiting);
        }
    }

    /// A manager applies one entry, as it does in production: rows to its store, the change set to what follows it.
    pub(super) fn apply_one(&mut self, manager: usize) {
        let entry = self.raft.log[self.managers[manager].applied].clone();
        let own = &mut self.managers[manager];
        let mut rows = Vec::new();
        let at = At { index: entry.index, term: entry.term };
        let (outcome, changes) = own.state.apply(at, &entry.command, &mut rows);
        own.applied += 1;
        own.write(rows);
        self.agrees(manager, &entry, &outcome);
        if self.managers[manager].leading.is_some() {
            self.leader_applied(manager, Rc::new(changes));
        }
        if let Some(waiting) = self.waiting.remove(&entry.proposal) {
            if waiting.manager == manager {
                self.answered_here(waiting, entry.index, outcome);
            } else {
                self.waiting.insert(entry.proposal, waiting);
            }
        }
    }

    fn answered_here(&mut self, waiting: Waiting, index: u64, outcome: Outcome) {
        if let Purpose::Request(request) = waiting.purpose {
            return self.answer_request(request, index, outcome);
        }
        let is_led = |manager: &Manager| manager.leading.as_ref().is_some_and(|now| now.term == waiting.term);
        if is_led(&self.managers[waiting.manager]) {
            self.proposal_done(waiting.manager, waiting.purpose, outcome);
        }
    }

    pub(super) fn not_answered(&mut self, waiting: Waiting) {
        if let Purpose::Request(request) = waiting.purpose {
            return self.request_failed(request);
        }
        let leading = self.managers[waiting.manager].leading.as_ref();
        if leading.is_some_and(|leading| leading.term == waiting.term) {
            self.proposal_failed(waiting.manager, waiting.purpose);
        }
    }

    /// The state as the log has it, after everything committed.
    pub(crate) fn truth(&self) -> &State {
        &self.judge.truth
    }
}
