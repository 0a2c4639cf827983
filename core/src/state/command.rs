//! Commands: the only way state changes. Each carries its time and the versions it saw; `apply` refuses stale or
//! impossible ones as a value.

mod known;
mod report;
mod size;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[cfg(feature = "next-format")]
use crate::codec::NEXT_FORMAT;
use crate::codec::{BOUNDED_FORMAT, FIRST_FORMAT, Versioned};
use crate::model::{
    Authority, Availability, Cause, ClusterId, Desired, Inventory, Invited, JoinSecrets, NodeId, NodeState, RequestId,
    Secret, ServiceId, ServiceSpec, Standing, TaskId,
};

pub use super::refusal::Refusal;
pub use known::{KnownTask, Origin};
pub use report::{MAX_REPORT_AHEAD_MS, MAX_REPORT_ERROR_BYTES, MAX_REPORT_WORD_BYTES, Reported, TaskReport};
pub use size::{MAX_COMMAND_BYTES, divided};

/// One replicated change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The proposer's clock (Unix ms). The state's own clock never goes back: it takes the larger.
    pub now_ms: u64,
    /// Given by the client for each mutation: a retry gets the first answer and changes nothing.
    pub request: Option<RequestId>,
    pub action: Action,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// The first command of a cluster's life; later ones are refused.
    InitCluster {
        id: ClusterId,
    },

    // A user's.
    CreateService {
        id: ServiceId,
        spec: Box<ServiceSpec>,
    },
    /// `seen_version`: refuse if the service has changed since.
    UpdateService {
        id: ServiceId,
        seen_version: Option<u64>,
        spec: Box<ServiceSpec>,
    },
    ScaleService {
        id: ServiceId,
        replicas: u32,
    },
    RemoveService {
        id: ServiceId,
    },
    /// All of it, or none: one that was seen otherwise is refused with all others.
    RestoreServices {
        changes: Vec<ServiceChange>,
    },
    SetAvailability {
        node: NodeId,
        availability: Availability,
    },
    /// As `SetAvailability` to `Drain`, but gently: its tasks go one of a service at a time, where another node has room,
    /// and those that are still there after so long in any case. Replaces an earlier deadline.
    DrainNode {
        node: NodeId,
        within_ms: u64,
    },
    /// Labels that a worker cannot give to itself: keys begin with [`crate::model::OPERATOR_LABEL_PREFIX`].
    SetNodeLabels {
        node: NodeId,
        set: BTreeMap<String, String>,
        remove: Vec<String>,
    },
    /// The node's certificate is refused from now on, whatever state the node is in. Its session ends, so that it goes down when
    /// its lease has run out, and can be removed.
    RevokeNode {
        node: NodeId,
    },
    /// Only a node that is down.
    RemoveNode {
        node: NodeId,
    },

    /// A manager that joins. It is given the next number.
    AddManager {
        name: String,
        /// `HOST:PORT`
        address: String,
    },
    /// The leader makes Raft's membership follow (see [`crate::membership`]).
    SetManager {
        id: u64,
        standing: Standing,
    },
    /// Where a manager is reached from now on. Accepted whether it is or not.
    SetManagerAddress {
        id: u64,
        /// `HOST:PORT`
        address: String,
    },
    /// Written into one manager's log while none runs, after all others are lost for good: it goes on alone.
    Recover {
        survivor: u64,
        /// `HOST:PORT`, where it is reached somewhere else from now on.
        address: Option<String>,
        /// Added to versions and fencing tokens: more than the lost managers can have given out unseen.
        leap: u64,
    },

    /// Written into a new manager's log over the rows of a saved snapshot, after all managers are lost with their data:
    /// it goes on alone.
    Refound {
        id: u64,
        name: String,
        /// `HOST:PORT`
        address: String,
        /// As in `Recover`.
        leap: u64,
    },

    RotateJoinSecret {
        invited: Invited,
        secret: Secret,
    },
    /// Begins a rotation: the new authority is believed beside the old one.
    AnnounceAuthority {
        authority: Authority,
    },

    /// A certificate for a user was issued. Refused if the name is revoked.
    IssueClient {
        name: String,
        expires_at_ms: u64,
    },
    /// Certificates of this name are refused from now on, and no other is issued.
    RevokeClient {
        name: String,
    },

    // The dispatcher's, for a worker.
    /// A worker's hello: a new node, or a known one that is back and therefore ready.
    RegisterNode {
        node: NodeId,
        name: String,
        address: String,
        labels: BTreeMap<String, String>,
        inventory: Inventory,
        /// Tasks that it says still run. Where it was down, those of `keep` services may be taken back; in the same
        /// command, so that no planner comes in between and gives away their place.
        #[serde(default)]
        running: Vec<TaskId>,
    },
    /// After a `Refound`, with each hello: all that the node knows, ended or not.
    TakeStock {
        node: NodeId,
        known: Vec<KnownTask>,
    },
    UpdateInventory {
        node: NodeId,
        inventory: Inventory,
    },
    ReportTasks {
        node: NodeId,
        reports: Vec<TaskReport>,
    },

    // The leader's.
    /// Once in a cluster's life, by the leader of its first term.
    InitSecurity {
        authority: Authority,
        secrets: JoinSecrets,
    },
    /// The next step of a rotation. Propose it only when every member is ready for it.
    AdvanceRotation {
        seen_version: u64,
    },
    /// `Down` makes the node's tasks `lost`: propose it only after their leases have run out (see `lease`).
    SetNodeState {
        node: NodeId,
        seen_version: u64,
        state: NodeState,
    },
    /// Leases last `for_ms` from now on: an announced outage of the managers stops nothing that is leased. Replaces an
    /// earlier one.
    Freeze {
        for_ms: u64,
    },
    /// A user's: no more leases for the length of the freeze. Those that were granted are waited for (see [`Freeze`]).
    ///
    /// [`Freeze`]: super::Freeze
    StopFreeze,
    /// No lease of that freeze can last any more. Proposed by a leader that has led for its whole length.
    EndFreeze {
        seen_version: u64,
    },
    /// Every node has said what it runs since a `Refound`, or has had its full time. From here on tasks are given out.
    SettleRestore {
        seen_version: u64,
    },
    /// From here on commands and rows may be of this format. Propose it only when every manager can read it: an older
    /// build stops at this command, and cannot open the directory any more.
    SetFormat {
        format: u8,
    },
    /// What a later version's command may be, in builds that play one.
    #[cfg(feature = "next-format")]
    Rehearse {
        text: String,
    },
    /// What a planner decided. Each step stands alone: a stale one is skipped, the others take effect.
    Plan {
        steps: Vec<Step>,
    },
}

impl Versioned for Command {
    fn format(&self) -> u8 {
        match self.action {
            #[cfg(feature = "next-format")]
            Action::Rehearse { .. } => NEXT_FORMAT,
            Action::StopFreeze
            | Action::IssueClient { .. }
            | Action::RevokeClient { .. }
            | Action::RevokeNode { .. }
            | Action::SetNodeLabels { .. } => BOUNDED_FORMAT,
            _ => FIRST_FORMAT,
        }
    }
}

/// What becomes of one service among many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChange {
    pub id: ServiceId,
    /// 0: there was none.
    pub seen_version: u64,
    /// None: it is removed.
    pub spec: Option<Box<ServiceSpec>>,
}

/// One decision of a planner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// A new task in a slot that has none that is wanted to run.
    CreateTask(NewTask),
    /// Gives a pending task to a node. Refused where resources, ports or the node's state do not allow it any more.
    Assign { task: TaskId, seen_version: u64, node: NodeId },
    /// Why a pending task cannot be placed.
    Explain { task: TaskId, seen_version: u64, error: String },
    /// Moves the desired state forward.
    Desire { task: TaskId, seen_version: u64, desired: Desired, cause: Cause },
    /// Forgets a task that has ended.
    Forget { task: TaskId, seen_version: u64 },
    /// Forgets a removed service whose tasks are all gone.
    ForgetService { service: ServiceId, seen_version: u64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewTask {
    pub id: TaskId,
    pub service: ServiceId,
    /// The service row's version that the plan was made on.
    pub seen_version: u64,
    pub slot: u32,
    /// The slot's newest task that this one follows, for the compare-and-set: None where the slot has never had one.
    pub previous: Option<TaskId>,
    pub attempt: u32,
    pub failures: u32,
    pub not_before_ms: u64,
    pub cause: Cause,
    /// Assigned at once, saving a round through the log; falls back to pending where it does not fit any more.
    pub node: Option<NodeId>,
}

/// The answer to a command, the same on every manager.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Done(Answer),
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Nothing,
    Cluster {
        id: ClusterId,
    },
    Service {
        id: ServiceId,
        version: u64,
    },
    Node {
        id: NodeId,
        version: u64,
    },
    Manager {
        id: u64,
        version: u64,
    },
    /// How many steps of a plan took effect and how many were stale.
    Counted {
        applied: u32,
        stale: u32,
    },
    Reported(Reported),
}
