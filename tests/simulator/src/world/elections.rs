//! Who leads, and who knows: a term has one leader, and an older one goes on until it hears of it.

use super::log::Waiting;
use super::{Event, Purpose, World};
use crate::mischief::Place;

impl World {
    /// Something has changed between managers.
    pub(crate) fn look_at_raft(&mut self) {
        if self.is_led() {
            self.after(1, Event::Commit);
        } else if !self.raft.is_election_due {
            self.raft.is_election_due = true;
            let wait_ms = 150 + self.raft.random.below(900);
            self.after(wait_ms, Event::Election);
        }
        for manager in 0..self.managers.len() {
            self.hear_of_commits(manager);
            self.hear_of_leader(manager);
        }
    }

    pub(super) fn election(&mut self) {
        self.raft.is_election_due = false;
        if self.is_led() {
            return;
        }
        let able: Vec<usize> = self.raft.voters.iter().copied().filter(|voter| self.has_quorum(*voter)).collect();
        match self.raft.random.pick(&able) {
            Some(winner) => self.elect(winner),
            None => {
                // Nobody can: the next look is when something is mended.
            }
        }
    }

    pub(crate) fn elect(&mut self, winner: usize) {
        let pending = std::mem::take(&mut self.raft.pending);
        if self.raft.term > 0 {
            self.coverage.count("elections");
            let survivors = self.raft.random.below(pending.len() as u64 + 1) as usize;
            self.coverage.add("proposals that outlived their leader", survivors as u64);
            for survivor in pending.into_iter().take(survivors) {
                self.append(survivor);
            }
        }
        let before = self.raft.leader;
        let raft = &mut self.raft;
        // Its first entry is blank.
        (raft.term, raft.leader, raft.is_headless, raft.last_index) =
            (raft.term + 1, winner, false, raft.last_index + 1);
        let (term, wait_ms) = (raft.term, 1 + raft.random.below(40));
        self.after(wait_ms, Event::Lead { manager: winner, term });
        for manager in 0..self.managers.len() {
            self.hear_of_commits(manager);
            self.hear_of_leader(manager);
        }
        if before != winner && self.managers[before].leading.is_some() {
            self.coverage.count("leaders that did not know they were deposed");
        }
    }

    /// Whoever is reached by the new leader knows soon.
    fn hear_of_leader(&mut self, manager: usize) {
        let (leader, term) = (self.raft.leader, self.raft.term);
        let own = &self.managers[manager];
        let is_news = own.knows.is_none_or(|(_, known)| known < term);
        let is_reached = self.managers[leader].is_up
            && !self.managers[leader].is_frozen
            && self.net.is_open(Place::Manager(leader), Place::Manager(manager));
        if own.is_up && is_news && is_reached && self.raft.is_member(manager) {
            let wait_ms = 5 + self.raft.random.below(300);
            self.after(wait_ms, Event::Deposed { manager, term });
        }
    }

    /// A manager hears of a term.
    pub(super) fn deposed(&mut self, manager: usize, term: u64) {
        let leader = self.raft.leader;
        let is_reached = self.net.is_open(Place::Manager(leader), Place::Manager(manager));
        let own = &mut self.managers[manager];
        if !own.is_up || own.is_frozen || !is_reached || term != self.raft.term {
            // Looked at again when something is mended.
            return;
        }
        own.knows = Some((leader, term));
        if own.leading.as_ref().is_some_and(|leading| leading.term < term) {
            self.step_down(manager);
        }
    }

    pub(crate) fn step_down(&mut self, manager: usize) {
        let Some(leading) = self.managers[manager].leading.take() else { return };
        for connection in leading.connections() {
            self.send_down(connection, leading.term, crate::wire::Down::Redirect(self.leader_known_to(manager)));
            self.connections.leave_up(connection);
        }
        let own = |waiting: &Waiting| waiting.manager == manager && waiting.term == leading.term;
        let left: Vec<u64> =
            self.waiting.iter().filter(|(_, waiting)| own(waiting)).map(|(proposal, _)| *proposal).collect();
        for proposal in left {
            if let Some(Waiting { purpose: Purpose::Request(request), .. }) = self.waiting.remove(&proposal) {
                self.request_failed(request);
            }
        }
    }

    /// Whom a manager takes for the leader, itself excepted.
    pub(crate) fn leader_known_to(&self, manager: usize) -> Option<usize> {
        self.managers[manager].knows.map(|(leader, _)| leader).filter(|leader| *leader != manager)
    }
}
