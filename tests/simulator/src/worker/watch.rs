//! What goes on on a machine by itself: processes end, the watchdog ends what is leased and has outlived its lease.

use goat_core::lease::WATCHDOG_AFTER_MS;
use goat_core::model::{OnDisconnect, TaskState};

use super::Machine;
use crate::random::Random;
use crate::script::Bug;
use crate::world::{Event, World};

/// From when it looks to when nothing of it runs. Well within K, with the watchdog's own wait before.
const KILL_MS: u64 = 500;

impl World {
    /// It is looked at at `at_ms`, or earlier where that was said before.
    pub(crate) fn wake_machine(&mut self, at: usize, at_ms: u64) {
        if self.machines[at].wakes_at_ms > at_ms {
            self.machines[at].wakes_at_ms = at_ms.max(self.now_ms);
            self.at(at_ms, Event::Machine(at));
        }
    }

    pub(crate) fn machine_wakes(&mut self, at: usize) {
        if self.machines[at].wakes_at_ms != self.now_ms {
            // Something earlier has been told since.
            return;
        }
        self.machines[at].wakes_at_ms = u64::MAX;
        let chance = self.random.draw() ^ at as u64;
        let machine = &mut self.machines[at];
        machine.random = Random::new(chance, 200);
        if !machine.is_up || machine.is_suspended {
            return;
        }
        self.processes_end(at);
        self.watch(at);
        if self.machines[at].hears() {
            self.agent_acts(at);
        }
        let next_ms = self.machines[at].next_ms(self.now_ms);
        if next_ms < u64::MAX {
            self.wake_machine(at, next_ms.max(self.now_ms + 1));
        }
    }

    fn processes_end(&mut self, at: usize) {
        let (machine, now_ms) = (&mut self.machines[at], self.now_ms);
        for work in machine.works.values_mut() {
            if let Some((_, state)) = work.ends.filter(|(at_ms, _)| work.is_alive && *at_ms <= now_ms) {
                (work.is_alive, work.exit, work.ends) = (false, Some(state), None);
            }
        }
    }

    fn watch(&mut self, at: usize) {
        let has_none = self.has(Bug::NoWatchdog);
        let (machine, now_ms) = (&mut self.machines[at], self.now_ms);
        if !machine.has_watchdog && machine.watchdog_comes_ms <= now_ms && machine.hears() {
            (machine.has_watchdog, machine.watchdog_comes_ms) = (true, u64::MAX);
        }
        if !machine.has_watchdog || has_none {
            return;
        }
        let clock_ms = machine.clock_ms(now_ms);
        let ends_ms = |on_disconnect| machine.lease_ends_ms(on_disconnect).saturating_add(WATCHDOG_AFTER_MS);
        let (leased_ms, sheltered_ms) = (ends_ms(OnDisconnect::Stop), ends_ms(OnDisconnect::StopIfIsolated));
        let mut killed = 0;
        for work in machine.works.values_mut().filter(|work| work.is_alive) {
            let end_ms = match work.on_disconnect {
                OnDisconnect::Keep => continue,
                OnDisconnect::Stop => leased_ms,
                OnDisconnect::StopIfIsolated => sheltered_ms,
            };
            let by_then = now_ms + KILL_MS;
            if clock_ms >= end_ms && work.ends.is_none_or(|(at_ms, _)| at_ms > by_then) {
                let takes_ms = 1 + machine.random.below(KILL_MS);
                work.ends = Some((now_ms + takes_ms, TaskState::Stopped));
                killed += 1;
            }
        }
        self.coverage.add("lease ends by the watchdog", killed);
    }
}

impl Machine {
    /// When something is due here next, whoever does it.
    fn next_ms(&self, now_ms: u64) -> u64 {
        let mut next_ms = u64::MAX;
        let mut due = |at_ms: u64| next_ms = next_ms.min(at_ms);
        let hears = self.hears();
        if !self.has_watchdog {
            due(self.watchdog_comes_ms);
        }
        let mut is_anything_leased = false;
        for work in self.works.values() {
            if work.is_alive {
                due(work.ends.map_or(u64::MAX, |(at_ms, _)| at_ms));
                if work.on_disconnect.is_leased() {
                    is_anything_leased = true;
                    let end_ms = self.real_ms(self.lease_ends_ms(work.on_disconnect));
                    let watched_ms = self.real_ms(self.lease_ends_ms(work.on_disconnect) + WATCHDOG_AFTER_MS);
                    // The agent looks at its clock every so often, not at the very moment.
                    due(if end_ms + 60 > now_ms && hears { end_ms + 60 } else { u64::MAX });
                    due(if watched_ms > now_ms { watched_ms } else { u64::MAX });
                }
            }
            if let Some(known) = work.known.as_ref().filter(|known| hears && !known.state.is_terminal()) {
                due(known.next_ms);
            }
        }
        if let Some(agent) = self.agent.as_ref().filter(|_| hears) {
            due(agent.next_ms(self, is_anything_leased, now_ms));
        }
        next_ms
    }
}
