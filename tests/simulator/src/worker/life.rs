//! The life of machines and agents: crashes, freezes, sleep; and what a new agent makes of what it finds.

use goat_core::model::{OnDisconnect, TaskState};

use super::{Agent, Doing, Known, Session};
use crate::mischief::Place;
use crate::script::Bug;
use crate::wire::Up;
use crate::world::World;

/// From waking to the end of what has slept through the end of its lease: the watchdog's and the agent's moments.
const WAKE_MS: u64 = 800;

impl World {
    pub(crate) fn crash_machine(&mut self, at: usize) {
        self.drop_connections_of(Place::Worker(at));
        let machine = &mut self.machines[at];
        (machine.is_up, machine.is_suspended, machine.is_agent_frozen, machine.agent) = (false, false, false, None);
        // In this boot of the machine there was no grant yet.
        (machine.lease, machine.sheltered_until_ms) = (None, 0);
        for work in machine.works.values_mut() {
            work.known = None;
            if work.is_alive {
                (work.is_alive, work.exit, work.ends) = (false, Some(TaskState::Failed), None);
            }
        }
    }

    pub(crate) fn start_machine(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        if !machine.is_up {
            (machine.is_up, machine.has_watchdog) = (true, true);
            self.start_agent(at);
        }
    }

    /// The process alone: its kernel closes its connections.
    pub(crate) fn kill_agent(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        // Who kills agent and watchdog both has switched fencing off.
        if !machine.is_up || machine.is_suspended || !machine.has_watchdog {
            return;
        }
        machine.is_agent_frozen = false;
        let Some(agent) = machine.agent.take() else { return };
        for work in machine.works.values_mut() {
            work.known = None;
        }
        if let Session::Dialing { connection, .. } | Session::Open(super::Open { connection, .. }) = agent.session {
            self.send_up(connection, Up::Bye);
            self.connections.leave_down(connection);
        }
        self.wake_machine(at, self.now_ms);
    }

    pub(crate) fn start_agent(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        if !machine.is_up || machine.is_suspended || machine.agent.is_some() {
            return;
        }
        machine.agent = Some(Agent::new(at));
        machine.gone.retain(|_, is_on_disk| *is_on_disk);
        self.coverage.count("agents restarted");
        self.adopt(at);
        self.wake_machine(at, self.now_ms);
    }

    /// Journal and containers side by side, as the worker's own adoption.
    fn adopt(&mut self, at: usize) {
        let (forgets_all, forgets_ends) = (self.has(Bug::AdoptionForgets), self.has(Bug::JournalForgets));
        let (machine, now_ms) = (&mut self.machines[at], self.now_ms);
        if forgets_all {
            return;
        }
        // A container that never ran is removed, and begun anew when it is assigned.
        machine.works.retain(|_, work| work.journal.is_some() || work.is_alive || work.exit.is_some());
        let mut adopted = 0;
        for work in machine.works.values_mut() {
            let (state, doing) = match (work.journal, work.is_alive, work.exit) {
                (Some(ended), ..) if ended.is_terminal() => {
                    if forgets_ends {
                        continue;
                    }
                    (ended, Doing::Nothing)
                }
                (journal, true, _) => {
                    adopted += 1;
                    let is_ready = !work.has_health || journal == Some(TaskState::Running);
                    (if is_ready { TaskState::Running } else { TaskState::Starting }, Doing::Running)
                }
                // It has ended unseen: told as soon as this agent looks.
                (_, false, _) => (TaskState::Starting, Doing::Running),
            };
            work.known = Some(Known { state, doing, next_ms: now_ms, at_ms: now_ms });
        }
        self.coverage.add("tasks adopted", adopted);
    }

    pub(crate) fn freeze_agent(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.is_agent_frozen = machine.agent.is_some() && machine.has_watchdog;
    }

    pub(crate) fn thaw_agent(&mut self, at: usize) {
        self.machines[at].is_agent_frozen = false;
        self.look_at_streams();
        let wait_ms = self.reads_first_ms();
        self.wake_machine(at, self.now_ms + wait_ms);
    }

    /// Who goes on after a while reads what has come meanwhile, or looks at the clock first.
    fn reads_first_ms(&mut self) -> u64 {
        if self.random.once_in(2) { 2 } else { 0 }
    }

    /// The agent starts another one; nothing leased is begun meanwhile.
    pub(crate) fn kill_watchdog(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        if machine.hears() && machine.has_watchdog {
            machine.has_watchdog = false;
            machine.watchdog_comes_ms = self.now_ms + 200 + machine.random.below(1_000);
            self.wake_machine(at, self.now_ms);
        }
    }

    pub(crate) fn suspend(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.is_suspended = machine.is_up;
    }

    pub(crate) fn resume(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        if std::mem::take(&mut machine.is_suspended) {
            let now_ms = self.now_ms;
            let over = [OnDisconnect::Stop, OnDisconnect::StopIfIsolated].map(|bound| !machine.allows(bound, now_ms));
            for work in machine.works.values_mut() {
                let is_over = match work.on_disconnect {
                    OnDisconnect::Keep => false,
                    OnDisconnect::Stop => over[0],
                    OnDisconnect::StopIfIsolated => over[1],
                };
                work.overslept_until_ms = if is_over { now_ms + WAKE_MS } else { 0 };
            }
            self.look_at_streams();
            let wait_ms = self.reads_first_ms();
            self.wake_machine(at, self.now_ms + wait_ms);
        }
    }
}
