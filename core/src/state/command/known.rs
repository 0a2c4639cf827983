//! What a worker tells of a task so that managers who have lost it can take it in again.

use serde::{Deserialize, Serialize};

use crate::model::{ServiceId, TaskId, TaskState};

/// A task as its worker knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTask {
    pub task: TaskId,
    pub service: ServiceId,
    pub slot: u32,
    pub attempt: u32,
    pub spec_version: u64,
    pub fencing_token: u64,
    pub state: TaskState,
    pub container_id: Option<String>,
    /// When it came into `state`, by the worker's clock (Unix ms).
    pub at_ms: u64,
}
