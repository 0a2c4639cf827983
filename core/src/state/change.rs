//! Change sets: what applying one command touched. Everything downstream reacts to these and never scans.

use serde::{Deserialize, Serialize};

use crate::model::{Cause, Desired, NodeId, NodeState, ServiceId, TaskId, TaskState};

/// Which rows a command touched. Empty for a refused or repeated command.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChangeSet {
    /// The log index of the command.
    pub index: u64,
    pub term: u64,
    /// The state's clock when it was applied (Unix ms).
    pub at_ms: u64,
    pub services: Vec<ServiceId>,
    pub tasks: Vec<TaskChange>,
    pub nodes: Vec<NodeChange>,
    /// Managers whose standing changed.
    pub managers: Vec<u64>,
    /// Certificate authorities, join secrets, or certificates that are refused.
    pub security: bool,
    /// From here on tasks are given out, as not since a snapshot was restored.
    pub settled: bool,
}

impl ChangeSet {
    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
            && self.tasks.is_empty()
            && self.nodes.is_empty()
            && self.managers.is_empty()
            && !self.security
            && !self.settled
    }
}

/// One task row before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskChange {
    pub task: TaskId,
    pub service: ServiceId,
    pub slot: u32,
    pub node: Option<NodeId>,
    /// None for a new row.
    pub from: Option<TaskState>,
    /// None for a forgotten row.
    pub to: Option<TaskState>,
    pub desired: Desired,
    pub cause: Cause,
    /// The task's reason or error, where it has one.
    pub detail: Option<String>,
}

/// One node row before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChange {
    pub node: NodeId,
    /// None for a new row.
    pub from: Option<NodeState>,
    /// None for a removed row.
    pub to: Option<NodeState>,
}

/// A row to write (`Some`) or delete (`None`) under a key; the same on every manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}
