//! A manager's process: its rows, its state, its clocks, and what it does while it leads.

use std::collections::BTreeMap;

use goat_core::state::State;
use goat_core::state::change::RowChange;

use super::{Event, ManagerEvent, World};
use crate::leading::Leading;
use crate::mischief::Place;
use crate::random::Random;
use crate::script::Shape;

#[derive(Debug)]
pub(crate) struct Manager {
    /// It is a member, or is about to be one.
    pub is_up: bool,
    pub is_frozen: bool,
    frozen_at_ms: u64,
    /// How long it stood still, until somebody notices.
    pub stood_still_ms: u64,
    pub state: State,
    /// What is on disk.
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Entries of the log that are in them.
    pub applied: usize,
    pub is_apply_due: bool,
    /// How far it may be behind.
    pub lag_ms: u64,
    rate_ppm: u64,
    pub(super) wall_ahead_ms: u64,
    pub leading: Option<Box<Leading>>,
    /// Whom it takes for the leader, and of which term.
    pub knows: Option<(usize, u64)>,
    /// What has come while it stood still.
    held: Vec<ManagerEvent>,
}

/// The time of day when the world begins (Unix ms).
pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;

impl Manager {
    pub(super) fn new(at: usize, shape: &Shape) -> Self {
        let mut random = Random::new(shape.seed, 100 + at as u64);
        let error = shape.rate_error_ppm;
        Self {
            is_up: at < shape.managers,
            is_frozen: false,
            frozen_at_ms: 0,
            stood_still_ms: 0,
            state: State::new(),
            rows: BTreeMap::new(),
            applied: 0,
            is_apply_due: false,
            lag_ms: [3, 20, 200, 2_000][random.below(4) as usize],
            rate_ppm: 1_000_000 - error + random.below(2 * error + 1),
            wall_ahead_ms: random.below(shape.wall_error_ms + 1),
            leading: None,
            knows: None,
            held: Vec::new(),
        }
    }

    /// Its clock that counts time alone.
    pub(crate) fn clock_ms(&self, now_ms: u64) -> u64 {
        1_000_000 + now_ms * self.rate_ppm / 1_000_000
    }

    /// When its clock will say so.
    pub(crate) fn real_ms(&self, clock_ms: u64) -> u64 {
        (clock_ms.saturating_sub(1_000_000) * 1_000_000).div_ceil(self.rate_ppm)
    }

    /// What it takes for the time of day.
    pub(crate) fn wall_ms(&self, now_ms: u64) -> u64 {
        EPOCH_MS + self.wall_ahead_ms + now_ms
    }

    /// When its time of day will be so.
    pub(crate) fn real_of_wall_ms(&self, wall_ms: u64) -> u64 {
        wall_ms.saturating_sub(EPOCH_MS + self.wall_ahead_ms)
    }

    pub(super) fn may_apply(&self, is_member: bool) -> bool {
        self.is_up && !self.is_frozen && is_member
    }

    pub(super) fn write(&mut self, rows: Vec<RowChange>) {
        for row in rows {
            match row.value {
                Some(value) => drop(self.rows.insert(row.key, value)),
                None => drop(self.rows.remove(&row.key)),
            }
        }
    }

    /// What a start makes of the rows.
    pub(crate) fn reloaded(&self) -> Result<State, String> {
        State::from_rows(&self.rows).map_err(|error| error.to_string())
    }
}

impl World {
    pub(super) fn manager_event(&mut self, manager: usize, event: ManagerEvent) {
        let own = &mut self.managers[manager];
        if own.is_frozen {
            own.held.push(event);
            return;
        }
        match event {
            ManagerEvent::Apply => self.apply(manager),
            ManagerEvent::Timeout { proposal } => self.timed_out(proposal),
            ManagerEvent::Request { request, try_number, is_forwarded } => {
                self.request_arrives(manager, request, try_number, is_forwarded);
            }
            ManagerEvent::QuorumAsked { term } if self.leads(manager, term) => self.quorum_asked(manager, term),
            ManagerEvent::Quorum { term, is_confirmed } if self.leads(manager, term) => {
                self.quorum(manager, is_confirmed);
            }
            ManagerEvent::Leases { term } if self.leads(manager, term) => self.look_at_leases(manager),
            ManagerEvent::Planner { term } if self.leads(manager, term) => self.plan(manager),
            ManagerEvent::Opinions { term } if self.leads(manager, term) => self.ask_opinions(manager),
            ManagerEvent::Missed { term, connection, is_known } if self.leads(manager, term) => {
                self.tell_after_a_loss(manager, connection, is_known);
            }
            ManagerEvent::Members { term } if self.leads(manager, term) => self.look_at_members(manager),
            ManagerEvent::Introduce { term, session } if self.leads(manager, term) => {
                self.look_for_gone(manager, session);
            }
            _ => {}
        }
    }

    fn leads(&self, manager: usize, term: u64) -> bool {
        self.managers[manager].leading.as_ref().is_some_and(|leading| leading.term == term)
    }

    fn apply(&mut self, manager: usize) {
        self.managers[manager].is_apply_due = false;
        let most = 1 + self.random.below(20) as usize;
        for _ in 0..most {
            let own = &self.managers[manager];
            if !own.is_up || own.applied >= self.raft.log.len() {
                return;
            }
            self.apply_one(manager);
        }
        self.hear_of_commits(manager);
    }

    /// Its disk is nobody's any more.
    pub(crate) fn remove_manager(&mut self, manager: usize) {
        self.step_down(manager);
        self.crash_manager(manager);
    }

    pub(super) fn crash_manager(&mut self, manager: usize) {
        if !self.managers[manager].is_up {
            return;
        }
        self.drop_connections_of(Place::Manager(manager));
        self.waiting.retain(|_, waiting| waiting.manager != manager);
        let own = &mut self.managers[manager];
        (own.is_up, own.is_frozen, own.is_apply_due, own.stood_still_ms) = (false, false, false, 0);
        (own.leading, own.knows) = (None, None);
        own.held.clear();
        self.raft.is_headless |= self.raft.leader == manager;
        self.look_at_raft();
    }

    /// It reads its rows; the rest of the log comes from the others.
    pub(super) fn start_manager(&mut self, manager: usize) {
        let own = &mut self.managers[manager];
        if own.is_up || !self.raft.is_member(manager) {
            return;
        }
        own.is_up = true;
        if !own.rows.is_empty() {
            match own.reloaded() {
                Ok(state) => own.state = state,
                Err(error) => return self.fail(format!("m{manager} does not start from its own rows: {error}")),
            }
            self.coverage.count("managers restarted from their rows");
        }
        self.look_at_raft();
    }

    /// One that was never there, or was removed, comes with an empty disk and is given a snapshot.
    pub(crate) fn newcomer(&mut self, manager: usize, from: usize) {
        let given = (self.managers[from].reloaded(), self.managers[from].rows.clone(), self.managers[from].applied);
        let own = &mut self.managers[manager];
        let (Ok(state), rows, applied) = given else {
            return self.fail(format!("the snapshot of m{from} does not make a state"));
        };
        (own.state, own.rows, own.applied) = (state, rows, applied);
        (own.is_up, own.is_frozen, own.is_apply_due, own.leading, own.knows) = (true, false, false, None, None);
        self.look_at_raft();
    }

    pub(super) fn freeze_manager(&mut self, manager: usize) {
        let own = &mut self.managers[manager];
        if own.is_up && !own.is_frozen {
            (own.is_frozen, own.frozen_at_ms) = (true, self.now_ms);
            self.look_at_raft();
        }
    }

    pub(super) fn thaw_manager(&mut self, manager: usize) {
        let now_ms = self.now_ms;
        let own = &mut self.managers[manager];
        if !own.is_frozen {
            return;
        }
        own.is_frozen = false;
        own.stood_still_ms = now_ms - own.frozen_at_ms;
        for event in std::mem::take(&mut own.held) {
            self.at(now_ms, Event::Manager(manager, event));
        }
        self.look_at_streams();
        self.look_at_raft();
    }
}
