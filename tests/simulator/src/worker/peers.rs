//! Other workers, asked only when no manager answers.

use goat_core::isolation::{ANSWER_WITHIN_MS, ASK_AFTER_MS, ASK_EVERY_MS, EVIDENCE_MS, Evidence, evidence};

use super::{Agent, Machine};
use crate::mischief::Place;
use crate::script::Weather;
use crate::world::{Event, World};

impl Agent {
    /// When it has a reason to ask, by the machine's real time.
    pub(super) fn asks_peers_ms(&self, machine: &Machine) -> u64 {
        let Some(lease) = machine.lease else { return u64::MAX };
        let doubts_ms = machine.real_ms(lease.sent_ms + ASK_AFTER_MS);
        doubts_ms.max(machine.real_ms(self.peers_asked_ms + ASK_EVERY_MS))
    }
}

impl World {
    pub(super) fn ask_peers(&mut self, at: usize) {
        let now_ms = self.now_ms;
        let machine = &self.machines[at];
        let clock_ms = machine.clock_ms(now_ms);
        let is_any = machine.works.values().any(|work| work.is_alive && work.on_disconnect.is_leased());
        let Some(agent) = &machine.agent else { return };
        let is_due = machine.lease.is_some_and(|lease| clock_ms >= lease.sent_ms + ASK_AFTER_MS)
            && clock_ms >= agent.peers_asked_ms + ASK_EVERY_MS;
        if !is_due || !is_any || agent.is_asking_peers {
            return;
        }
        // Who has another identity by now does not answer for the one that was meant.
        let others = machine.peers.iter().filter_map(|id| self.machines.iter().find(|other| other.id == *id));
        let ages: Vec<Option<u64>> = others.filter_map(|other| self.answer_of(at, other.at)).collect();
        let wait_ms = if ages.is_empty() { ANSWER_WITHIN_MS } else { 5 + self.random.below(100) };
        if let Some(agent) = &mut self.machines[at].agent {
            (agent.peers_asked_ms, agent.is_asking_peers) = (clock_ms, true);
        }
        self.after(wait_ms, Event::Peers { worker: at, asked_ms: clock_ms, ages });
    }

    /// None where there is no answer; else the age of its last grant, if it has one.
    fn answer_of(&self, at: usize, other: usize) -> Option<Option<u64>> {
        let (peer, is_open) =
            (&self.machines[other], self.net.is_open_both_ways(Place::Worker(at), Place::Worker(other)));
        let answers = is_open && peer.hears() && self.script.shape.weather != Weather::Mute;
        answers.then(|| peer.lease.map(|lease| peer.clock_ms(self.now_ms).saturating_sub(lease.sent_ms)))
    }

    pub(crate) fn peers_answered(&mut self, at: usize, asked_ms: u64, ages: Vec<Option<u64>>) {
        let now_ms = self.now_ms;
        let machine = &mut self.machines[at];
        let hears = machine.hears();
        let Some(agent) = &mut machine.agent else { return };
        if agent.peers_asked_ms != asked_ms {
            // Another agent asked.
            return;
        }
        agent.is_asking_peers = false;
        // What comes while it stands still is looked at when it goes on, and counts to its end.
        if hears && evidence(ages) == Evidence::ManagersGone {
            machine.sheltered_until_ms = machine.sheltered_until_ms.max(asked_ms + EVIDENCE_MS);
            self.coverage.count("tasks sheltered by other workers");
        }
        self.wake_machine(at, now_ms);
    }
}
