//! Second opinions: before a silent worker is given up, others are asked whether they reach it.

use goat_core::model::NodeId;

use crate::mischief::Place;
use crate::world::{Event, ManagerEvent, World};

const ASK_EVERY_MS: u64 = 400;

impl World {
    /// Before a silent worker is called down, another manager and two workers are asked to reach it.
    pub(crate) fn ask_opinions(&mut self, manager: usize) {
        let (now_ms, clock_ms) = (self.now_ms, self.clock_ms(manager));
        let Some(leading) = self.leading(manager) else { return };
        let (doubtful, term) = (leading.leases.doubtful(clock_ms), leading.term);
        if doubtful.is_empty() {
            leading.is_asking = false;
            return;
        }
        for node in doubtful {
            if self.is_reached_by_another(manager, node)
                && let Some(leading) = self.leading(manager)
            {
                leading.reached.push((node, clock_ms));
            }
        }
        self.wake_leases(manager);
        self.at(now_ms + ASK_EVERY_MS, Event::Manager(manager, ManagerEvent::Opinions { term }));
    }

    fn is_reached_by_another(&mut self, manager: usize, node: NodeId) -> bool {
        let Some(at) = self.machines.iter().position(|machine| machine.id == node && machine.hears()) else {
            return false;
        };
        let to = Place::Worker(at);
        let by_manager = |other: usize| {
            let peer = &self.managers[other];
            let helps = other != manager && peer.is_up && !peer.is_frozen;
            helps
                && self.net.is_open_both_ways(Place::Manager(manager), Place::Manager(other))
                && self.net.is_open_both_ways(Place::Manager(other), to)
        };
        let by_worker = |other: usize| {
            other != at
                && self.machines[other].hears()
                && self.net.is_open_both_ways(Place::Manager(manager), Place::Worker(other))
                && self.net.is_open_both_ways(Place::Worker(other), to)
        };
        let helpers = [at + 1, at + 2].map(|other| other % self.machines.len());
        (0..self.managers.len()).any(by_manager) || helpers.into_iter().any(by_worker)
    }
}
