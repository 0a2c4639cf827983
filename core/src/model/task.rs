//! One attempt to run one slot on one node.
//!
//! ```text
//! pending -> assigned -> preparing -> starting -> running -> complete | failed | stopped
//!                                                            rejected (the node refused it) | lost (managers only)
//! ```
//! Observed state only moves forward and belongs to the worker (`lost` and the first two to managers); desired state
//! belongs to managers and only moves forward too.
//!
//! One exception: a task of a `keep` service is not fenced when its node is given up, so `lost` is a guess. When that very
//! node registers again and still runs it, it is taken back, `lost -> running`, and what was started in its place is
//! stopped. It is then the newest attempt of its slot again, under its old fencing token. What was leased stays lost.

use serde::{Deserialize, Serialize};

use super::{NodeId, Port, Resources, ServiceId, TaskId};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub service: ServiceId,
    /// From 1.
    pub slot: u32,
    /// The version of the service's spec that this task runs.
    pub spec_version: u64,
    pub node: Option<NodeId>,
    pub desired: Desired,
    pub state: TaskState,
    /// From 1; which try in its slot this is, over the slot's whole life. One that is taken back counts anew.
    pub attempt: u32,
    /// Restarts in a row without a stable run, this one included; what the backoff counts.
    pub failures: u32,
    /// Not assigned before (Unix ms); the wait of the backoff, which so survives a leader change.
    pub not_before_ms: u64,
    /// Why this task was made.
    pub cause: Cause,
    /// The task before it in its slot.
    pub previous: Option<TaskId>,
    pub created_at_ms: u64,
    pub started_at_ms: Option<u64>,
    pub finished_at_ms: Option<u64>,
    pub exit_code: Option<i32>,
    /// Constant word for why it ended (`oom-killed`, `exit`, `image-not-found`, ...).
    pub reason: Option<String>,
    /// What the runtime said, or why it cannot be placed.
    pub error: Option<String>,
    pub container_id: Option<String>,
    /// Reserved on its node while it may run. Copied from the spec so that accounting needs one row.
    pub reservations: Resources,
    pub ports: Vec<Port>,
    /// The log index at which it was assigned; grows with each task that is made for a slot.
    pub fencing_token: u64,
    /// Why it is not wanted to run any more; None while it is.
    #[serde(default)]
    pub stop_cause: Option<Cause>,
    /// It was leased when it was lost, so that it had ended by then; or it was not taken back when its node came back, which
    /// then stops it. Whatever is said of it later, it stays lost.
    #[serde(default)]
    pub fenced: bool,
    /// The log index at which it was last taken back from `lost`; 0 for never.
    #[serde(default)]
    pub returned: u64,
    /// The log index of its last change; a command that saw another loses.
    pub version: u64,
}

impl Task {
    /// Whether it holds its node's resources and ports: assigned, and not known to have ended.
    pub fn holds_resources(&self) -> bool {
        self.node.is_some() && !self.state.is_terminal()
    }

    /// Whether it ended because its health check failed.
    pub fn was_unhealthy(&self) -> bool {
        matches!(self.reason.as_deref(), Some(reason::NEVER_READY | reason::UNHEALTHY))
    }
}

/// What managers want of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    Running,
    /// Stop it; the row stays as history.
    Stopped,
    /// Stop it, and forget it once it has ended.
    Removed,
}

/// What its worker last reported of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    Pending,
    Assigned,
    /// The image is being pulled.
    Preparing,
    Starting,
    Running,
    /// Ended by itself with exit code 0.
    Complete,
    /// Ended by itself otherwise, or could not be started.
    Failed,
    /// Ended because managers wanted it to.
    Stopped,
    /// The node refused it before trying.
    Rejected,
    /// Its node is gone. What was leased cannot run any more; what was not may, unseen.
    Lost,
}

impl TaskState {
    /// All of them, in the order of a task's life.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Assigned,
        Self::Preparing,
        Self::Starting,
        Self::Running,
        Self::Complete,
        Self::Failed,
        Self::Stopped,
        Self::Rejected,
        Self::Lost,
    ];

    /// Whether it counts as ended: nothing is expected of it any more.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Stopped | Self::Rejected | Self::Lost)
    }

    /// The word used in output, JSON and the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Rejected => "rejected",
            Self::Lost => "lost",
        }
    }
}

/// Constant words for why a task ended, as far as decisions depend on them.
pub mod reason {
    /// Its health check never passed.
    pub const NEVER_READY: &str = "never-ready";
    /// Its health check had passed, and then failed too often in a row.
    pub const UNHEALTHY: &str = "unhealthy";
    /// Its node was given up.
    pub const NODE_LOST: &str = "node-lost";
    /// Its node knows nothing of it any more, as managers found out that had been restored from a snapshot.
    pub const NOT_THERE: &str = "not-there";
}

/// Why a task was made or changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Someone asked for it.
    #[default]
    User,
    /// Its predecessor ended.
    Exit,
    /// Its predecessor was unhealthy.
    Health,
    NodeLost,
    Drain,
    Update,
    /// More or fewer were wanted than there were.
    Scale,
    /// A node that was given up is back with the task it had.
    NodeBack,
}

impl Cause {
    /// The word used in output, JSON and the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Exit => "exit",
            Self::Health => "health",
            Self::NodeLost => "node-lost",
            Self::Drain => "drain",
            Self::Update => "update",
            Self::Scale => "scale",
            Self::NodeBack => "node-back",
        }
    }
}
