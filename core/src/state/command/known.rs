//! What a worker tells of a task so that managers who have lost it can take it in again.

use serde::{Deserialize, Serialize};

use crate::model::{ServiceId, TaskId, TaskState};

/// A task as its worker knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTask {
    pub task: TaskId,
    /// None: it is there, and its worker is too old to say more.
    pub origin: Option<Origin>,
    pub state: TaskState,
    pub container_id: Option<String>,
    /// When it came into `state`, by the worker's clock (Unix ms).
    pub at_ms: u64,
}

/// What a task was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub service: ServiceId,
    pub slot: u32,
    pub attempt: u32,
    pub spec_version: u64,
    pub fencing_token: u64,
}
