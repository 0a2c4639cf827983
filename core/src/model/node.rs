//! A worker as the cluster knows it. Heartbeats and leases are not here: they live in the leader's memory.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Driver, NodeId, Resources};

/// Labels whose keys begin with this are an operator's to set. A worker cannot give them to itself.
pub const OPERATOR_LABEL_PREFIX: &str = "operator/";
/// Operator's labels of one node.
pub const MAX_OPERATOR_LABELS: usize = 32;
/// Of an operator's label: its key, and its value.
pub const MAX_OPERATOR_LABEL_BYTES: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    /// Unique in the cluster.
    pub name: String,
    /// Where its tasks' published ports are reached: a host name or an IP address.
    pub address: String,
    pub labels: BTreeMap<String, String>,
    pub state: NodeState,
    pub availability: Availability,
    /// While it drains gently: what is still there by then is stopped in any case (Unix ms, by the state's clock).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_until_ms: Option<u64>,
    pub inventory: Inventory,
    pub registered_at_ms: u64,
    /// When `state` last changed (Unix ms).
    pub state_since_ms: u64,
    /// The version at which it last said all that it has, to managers who had lost the rest; 0 for never.
    #[serde(default, skip_serializing_if = "is_never")]
    pub stocked: u64,
    /// The log index of its last change.
    pub version: u64,
}

const fn is_never(version: &u64) -> bool {
    *version == 0
}

/// What managers know of a worker's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    Ready,
    /// Heartbeats are missed: nothing new is placed, nothing moved yet.
    Disconnected,
    /// Fenced: its tasks are lost and replaced.
    Down,
}

impl NodeState {
    /// The word used in output, JSON and the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Disconnected => "disconnected",
            Self::Down => "down",
        }
    }
}

/// What the operator wants of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    #[default]
    Active,
    /// Runs nothing: its tasks are moved elsewhere, at once or until a deadline.
    Drain,
}

impl Availability {
    /// The word used in output, JSON and the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Drain => "drain",
        }
    }
}

/// What a worker says of itself. Only what scheduling needs is replicated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// The machine's, less what is reserved for the system.
    pub total: Resources,
    pub drivers: BTreeSet<Driver>,
    pub images: Vec<ImageInfo>,
    /// Free bytes on the file system of the runtime's root, to the nearest 64 MiB.
    pub disk_free_bytes: u64,
    pub agent_version: String,
    /// Constant words for what is wrong (`runtime-down`, `disk-pressure`); nothing new is placed while one stands.
    pub conditions: BTreeSet<String>,
    /// `HOST:PORT` where the agent answers pings; empty where it does not.
    pub agent_address: String,
    /// Most tasks at one time; 0 from a worker that does not say. [`Inventory::task_limit`] is what counts.
    #[serde(skip_serializing_if = "is_unset")]
    pub max_tasks: u32,
}

const fn is_unset(max_tasks: &u32) -> bool {
    *max_tasks == 0
}

/// Tasks for each CPU that a node offers, unless its worker says otherwise. Kubernetes and Docker put about 110 on a node.
const TASKS_PER_CPU: u64 = 125;
/// Memory for each task: no container gets by with less.
const MEMORY_PER_TASK_BYTES: u64 = 16 << 20;
/// The default of a node is not below this, however small it is.
const MIN_DEFAULT_TASKS: u32 = 16;
/// The highest limit that a node can have. All that such a node says of its tasks fits into commands.
pub const MAX_NODE_TASKS: u32 = 5_000;

/// The task limit of a node that offers `total` and whose worker sets none: 125 a CPU and one for each 16 MiB of memory,
/// whichever is less, between 16 and [`MAX_NODE_TASKS`].
pub fn default_task_limit(total: Resources) -> u32 {
    let by_cpu = total.cpu_millis.saturating_mul(TASKS_PER_CPU) / 1_000;
    let by_memory = total.memory_bytes / MEMORY_PER_TASK_BYTES;
    let limit = by_cpu.min(by_memory).clamp(MIN_DEFAULT_TASKS.into(), MAX_NODE_TASKS.into());
    u32::try_from(limit).expect("it was clamped below the greatest u32")
}

impl Inventory {
    /// Most tasks that the scheduler gives to the node at one time.
    pub fn task_limit(&self) -> u32 {
        match self.max_tasks {
            0 => default_task_limit(self.total),
            max_tasks => max_tasks.min(MAX_NODE_TASKS),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// A reference under which the image is present, tag included.
    pub reference: String,
    pub size_bytes: u64,
}
