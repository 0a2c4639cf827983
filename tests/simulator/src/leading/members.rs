//! Raft's membership follows the managers' rows, one step at a time; and the rotation of the authority goes on.

use std::collections::{BTreeMap, BTreeSet};

use goat_core::membership::{Group, Step, next};
use goat_core::state::Rotation;
use goat_core::state::command::Action;

use crate::mischief::{MAX_MANAGERS, Place};
use crate::world::{Event, ManagerEvent, Purpose, World};

const EVERY_MS: u64 = 400;

/// The simulated manager of a row's name.
fn manager_named(name: &str) -> Option<usize> {
    name.strip_prefix('m')?.parse().ok().filter(|at| *at < MAX_MANAGERS)
}

impl World {
    /// The simulated manager of a row: rows bear numbers that are never used again, names are.
    fn manager_of_row(&self, manager: usize, id: u64) -> Option<usize> {
        manager_named(&self.managers[manager].state.manager(id)?.name)
    }

    pub(crate) fn look_at_members(&mut self, manager: usize) {
        let Some(leading) = self.leading(manager) else { return };
        let term = leading.term;
        self.after(EVERY_MS, Event::Manager(manager, ManagerEvent::Members { term }));
        if (self.raft.leader, self.raft.term) != (manager, term) || !self.has_quorum(manager) {
            return;
        }
        let Some(group) = self.group(manager) else { return };
        if let Some(step) = next(self.managers[manager].state.managers(), &group) {
            self.take_step(manager, step);
        }
        self.go_on_with_rotation(manager, term);
    }

    /// Raft's members under the numbers of their rows. None while a row is missing: the view is old.
    fn group(&self, manager: usize) -> Option<Group> {
        let state = &self.managers[manager].state;
        let number = |at: usize| {
            let rows = state.managers().filter(|row| manager_named(&row.name) == Some(at));
            // The newest of its name: the one before was removed.
            rows.map(|row| row.id).max()
        };
        let numbers =
            |members: &BTreeSet<usize>| members.iter().map(|at| number(*at)).collect::<Option<BTreeSet<u64>>>();
        let is_reached = |at: &usize| {
            let peer = &self.managers[*at];
            peer.is_up && !peer.is_frozen && self.net.is_open_both_ways(Place::Manager(manager), Place::Manager(*at))
        };
        let members = self.raft.voters.iter().chain(&self.raft.learners).copied();
        let reached: BTreeSet<usize> = members.filter(is_reached).collect();
        let is_caught_up = |at: &usize| self.raft.log.len() - self.managers[*at].applied < 20;
        Some(Group {
            leader: number(manager)?,
            voters: numbers(&self.raft.voters)?,
            learners: numbers(&self.raft.learners)?,
            is_joint: false,
            reached: numbers(&reached)?,
            caught_up: numbers(&reached.iter().copied().filter(is_caught_up).collect())?,
            // Nobody moves in this world.
            addresses: BTreeMap::new(),
        })
    }

    fn take_step(&mut self, manager: usize, step: Step) {
        let of_row = |id| self.manager_of_row(manager, id);
        match step {
            Step::Settle | Step::Readdress(_) => {}
            Step::Add(id) => {
                if let Some(at) = of_row(id) {
                    self.raft.learners.insert(at);
                    self.coverage.count("managers added");
                    self.newcomer(at, manager);
                }
            }
            Step::Promote(id) => {
                if let Some(at) = of_row(id) {
                    self.raft.learners.remove(&at);
                    self.raft.voters.insert(at);
                }
            }
            Step::Demote(id) => {
                if let Some(at) = of_row(id) {
                    self.raft.voters.remove(&at);
                    self.raft.learners.insert(at);
                }
            }
            Step::Remove(id) => {
                if let Some(at) = of_row(id) {
                    self.raft.voters.remove(&at);
                    self.raft.learners.remove(&at);
                    self.coverage.count("managers removed");
                    self.remove_manager(at);
                }
            }
            Step::HandOver(id) => {
                if let Some(at) = of_row(id).filter(|at| self.has_quorum(*at)) {
                    self.elect(at);
                }
            }
        }
        self.look_at_raft();
    }

    fn go_on_with_rotation(&mut self, manager: usize, term: u64) {
        let Some(security) = self.managers[manager].state.security() else { return };
        let (rotation, seen_version) = (security.rotation(), security.version);
        if rotation == Rotation::None || !self.random.once_in(8) {
            return;
        }
        if rotation == Rotation::Signing {
            self.coverage.count("rotations of the authority ended");
        }
        self.propose_action(manager, term, Action::AdvanceRotation { seen_version }, Purpose::Nothing);
    }
}
