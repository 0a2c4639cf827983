//! What a worker says of its tasks, and what becomes of it.

use serde::{Deserialize, Serialize};

use crate::model::{TaskId, TaskState};

/// The longest error text of a report; whoever takes a longer one from a worker cuts it. Longer ones are refused.
pub const MAX_REPORT_ERROR_BYTES: usize = 4_096;
/// The longest word of a report: its reason, the id of its container.
pub const MAX_REPORT_WORD_BYTES: usize = 256;
/// A worker's clock may be wrong by hours. What is further ahead than a year is no time.
pub const MAX_REPORT_AHEAD_MS: u64 = 365 * 24 * 3_600_000;

/// What a worker says of one of its tasks. Its words and times are believed within limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    pub task: TaskId,
    pub state: TaskState,
    pub exit_code: Option<i32>,
    /// Constant word (`exit`, `oom-killed`, `image-not-found`, `disk-full`, `runtime-down`, `unhealthy`, ...).
    pub reason: Option<String>,
    pub error: Option<String>,
    pub container_id: Option<String>,
    /// By the worker's clock (Unix ms); taken for now where it is later.
    pub at_ms: u64,
}

/// What became of a worker's reports. Only those applied have changed anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reported {
    pub applied: u32,
    /// Said before, or of a task that has ended: a worker that has lost its connection says things twice.
    pub stale: u32,
    /// Of a task that there is not. One that was away for long cannot know what was forgotten meanwhile.
    pub unknown: u32,
    /// Of another node's task.
    pub foreign: u32,
    /// A state behind the one that was reported before, or one that is not a worker's to say.
    pub backwards: u32,
    /// A text or a time beyond the limits.
    pub absurd: u32,
}

impl Reported {
    /// How many say that the worker is broken, or lies.
    pub const fn untrue(&self) -> u32 {
        self.foreign.saturating_add(self.backwards).saturating_add(self.absurd)
    }
}
