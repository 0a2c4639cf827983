//! Simulated machines: a clock that runs wrong, a lease, and processes that go their way.

use std::collections::BTreeMap;

use goat_core::lease::WorkerLease;
use goat_core::model::{NodeId, ServiceId, TaskId, TaskState};

use crate::support::Random;

#[derive(Debug, Clone)]
pub struct Assignment {
    pub task: TaskId,
    pub service: ServiceId,
    pub slot: u32,
    pub is_leased: bool,
    pub is_wanted: bool,
    pub is_new: bool,
}

#[derive(Debug)]
pub struct Process {
    pub service: ServiceId,
    pub slot: u32,
    pub is_leased: bool,
    pub state: TaskState,
    /// Real time at which it is gone, and as what.
    pub ends: Option<(u64, TaskState)>,
}

impl Process {
    pub fn is_alive(&self) -> bool {
        !self.state.is_terminal()
    }
}

#[derive(Debug)]
pub struct Machine {
    pub id: NodeId,
    pub number: u64,
    pub is_up: bool,
    pub is_linked: bool,
    /// Its clock's rate and offset.
    pub rate_ppm: u64,
    pub offset_ms: u64,
    pub lease: WorkerLease,
    /// Which life of its agent this is: what an earlier one sent says nothing of this one.
    pub session: u64,
    pub sends_at_ms: u64,
    pub processes: BTreeMap<TaskId, Process>,
}

/// By how much a machine's wall clock may be ahead.
const MAX_WRONG_MS: u64 = 86_400_000;

impl Machine {
    /// What it takes for the time of day.
    pub fn wall_ms(&self, now_ms: u64) -> u64 {
        now_ms + self.offset_ms % MAX_WRONG_MS
    }

    pub fn clock_ms(&self, real_ms: u64) -> u64 {
        self.offset_ms + real_ms * self.rate_ppm / 1_000_000
    }
}

/// A live process goes its way: forward, to its end, or down by itself.
pub fn advance(process: &mut Process, random: &mut Random, real_ms: u64, is_healed: bool) {
    if let Some((at_ms, state)) = process.ends {
        if at_ms <= real_ms {
            process.state = state;
        }
        return;
    }
    process.state = match process.state {
        TaskState::Preparing if random.once_in(4) => TaskState::Starting,
        TaskState::Starting if random.once_in(4) => TaskState::Running,
        _ if is_healed => process.state,
        TaskState::Preparing | TaskState::Starting if random.once_in(60) => TaskState::Failed,
        TaskState::Running if random.once_in(500) => TaskState::Failed,
        TaskState::Running if random.once_in(1_000) => TaskState::Complete,
        state => state,
    };
}
