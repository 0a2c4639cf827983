//! The replicated state: tables, their indexes, and how commands change them.
//!
//! Only `apply` writes. It is total and deterministic: the same commands in the same order give the same rows on every
//! manager, and a stale or impossible command is refused as a value.

mod apply;
pub mod change;
mod clients;
mod cluster;
pub mod command;
mod index;
mod managers;
mod nodes;
mod parts;
mod plan_steps;
mod refusal;
mod reports;
mod restore;
mod rows;
mod security;
mod services;
mod undo;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::{FIRST_FORMAT, Versioned};
use crate::model::{
    ClusterId, Manager, Node, NodeId, Protocol, RequestId, Resources, ServiceId, ServiceSpec, Task, TaskId, TaskState,
};
use command::Outcome;
use index::Indexes;

pub use clients::{Client, MAX_CLIENT_NAME_BYTES, MAX_CLIENTS};
pub use index::NodeUse;
pub use managers::MAX_MANAGERS;
pub use restore::Restored;
pub use rows::{LoadError, Table, newest_version_in};
pub use security::{Rotation, Security};

/// How many requests are remembered for the sake of retries.
pub const REQUESTS_REMEMBERED: usize = 20_000;

/// Where in the log a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    pub index: u64,
    pub term: u64,
}

/// A service's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub id: ServiceId,
    pub spec: Arc<ServiceSpec>,
    /// The log index at which what its tasks run last changed; a mere change of the count leaves it.
    pub spec_version: u64,
    /// Its tasks are being stopped; the row goes with the last of them.
    pub removed: bool,
    pub created_at_ms: u64,
    pub updated_at_ms: u64,
    /// The log index of its last change.
    pub version: u64,
}

/// Facts about the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    cluster: Option<ClusterId>,
    clock_ms: u64,
    applied_index: u64,
    #[serde(default)]
    freeze: Option<Freeze>,
    /// None: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<u8>,
    /// Added to the log's indexes: what rows bear (versions, fencing tokens) goes on above what was given out before,
    /// also where the log does not: after a recovery, and after rows of another log were restored.
    #[serde(default, skip_serializing_if = "is_zero")]
    index_base: u64,
    /// The next manager's number is not below; 0 for no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    next_manager: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restored: Option<Restored>,
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Versioned for Meta {
    /// Whoever opens the directory reads this row, so that a build that is too old notices at once.
    fn format(&self) -> u8 {
        self.format.unwrap_or(FIRST_FORMAT)
    }
}

/// An announced outage: what is leased outlives it (see `lease`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    pub for_ms: u64,
    /// By the state's clock (Unix ms), for people: leaders count by their own clocks.
    pub began_at_ms: u64,
    /// The log index at which it began.
    pub version: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Remembered {
    index: u64,
    outcome: Outcome,
}

/// A removed node's row.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Revoked {
    at_ms: u64,
}

impl Versioned for Revoked {}
impl Versioned for Service {}
impl Versioned for Remembered {}

#[derive(Debug, Clone)]
struct OldSpec {
    spec: Arc<ServiceSpec>,
    /// Tasks of this spec, ended ones that are remembered included: the row goes with the last of them.
    tasks: usize,
    /// Those among them that have not ended.
    live: usize,
}

/// Every table, with its indexes.
#[derive(Debug, Default)]
pub struct State {
    meta: Meta,
    services: BTreeMap<ServiceId, Service>,
    /// Specs that a service has moved on from and tasks still run.
    old_specs: BTreeMap<(ServiceId, u64), OldSpec>,
    tasks: BTreeMap<TaskId, Task>,
    nodes: BTreeMap<NodeId, Node>,
    managers: BTreeMap<u64, Manager>,
    /// Nodes that were removed and may still have a certificate, and when (Unix ms).
    revoked: BTreeMap<NodeId, u64>,
    /// None where the managers run unencrypted.
    security: Option<Security>,
    /// By name.
    clients: BTreeMap<String, Client>,
    requests: HashMap<RequestId, Remembered>,
    /// Oldest first.
    request_order: VecDeque<(u64, RequestId)>,
    index: Indexes,
}

impl State {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// The last command applied; 0 for none.
    pub const fn applied_index(&self) -> u64 {
        self.meta.applied_index
    }

    /// The largest version that a row may bear, or fencing token: those of a command at log index `i` are `i` and what
    /// recoveries and restores have added.
    pub const fn newest_version(&self) -> u64 {
        self.meta.index_base.saturating_add(self.meta.applied_index)
    }

    /// The state's clock (Unix ms): the largest time any command carried.
    pub const fn clock_ms(&self) -> u64 {
        self.meta.clock_ms
    }

    /// The cluster's id, once it has been given one.
    pub const fn cluster_id(&self) -> Option<ClusterId> {
        self.meta.cluster
    }

    /// The newest format that commands and rows may have.
    pub fn format(&self) -> u8 {
        Versioned::format(&self.meta)
    }

    /// What certificates rest on; None where the managers run unencrypted.
    pub const fn security(&self) -> Option<&Security> {
        self.security.as_ref()
    }

    /// The announced outage, while one is on.
    pub const fn freeze(&self) -> Option<Freeze> {
        self.meta.freeze
    }

    /// All services, removed ones that still have tasks included.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Service> {
        self.services.values()
    }

    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(&id)
    }

    pub fn service_by_name(&self, name: &str) -> Option<&Service> {
        self.index.service_names.get(name).and_then(|id| self.services.get(id))
    }

    /// All tasks, ended ones that are remembered included.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = &Task> {
        self.tasks.values()
    }

    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(&id)
    }

    /// A service's slots that have or had a task, in order; each slot's tasks oldest first.
    pub fn slots(&self, service: ServiceId) -> impl Iterator<Item = (u32, &[TaskId])> {
        self.index.slots.get(&service).into_iter().flatten().map(|(slot, tasks)| (*slot, tasks.as_slice()))
    }

    /// A slot's tasks, oldest first.
    pub fn slot(&self, service: ServiceId, slot: u32) -> &[TaskId] {
        self.index.slots.get(&service).and_then(|slots| slots.get(&slot)).map_or(&[], Vec::as_slice)
    }

    /// A service's tasks by slot, each slot's oldest first.
    pub fn tasks_of_service(&self, service: ServiceId) -> impl Iterator<Item = &Task> {
        self.slots(service).flat_map(|(_, tasks)| tasks).filter_map(|id| self.tasks.get(id))
    }

    /// A node's tasks, ended ones that are remembered included, in the order of their ids.
    pub fn tasks_of_node(&self, node: NodeId) -> impl Iterator<Item = &Task> {
        self.tasks_of_node_in(node, ..)
    }

    /// Tasks that are wanted to run and have no node, in the order of their ids.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = TaskId> {
        self.index.pending.iter().copied()
    }

    /// What a task runs.
    pub fn spec_of(&self, task: &Task) -> Option<&Arc<ServiceSpec>> {
        let service = self.services.get(&task.service)?;
        if service.spec_version == task.spec_version {
            return Some(&service.spec);
        }
        self.old_specs.get(&(task.service, task.spec_version)).map(|old| &old.spec)
    }

    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.values()
    }

    /// All other nodes, in a ring that begins after this one: each node has other neighbours.
    pub fn nodes_after(&self, id: NodeId) -> impl Iterator<Item = &Node> {
        let after = self.nodes.range((Bound::Excluded(id), Bound::Unbounded));
        after.chain(self.nodes.range(..id)).map(|(_, node)| node)
    }

    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    pub fn node_by_name(&self, name: &str) -> Option<&Node> {
        self.index.node_names.get(name).and_then(|id| self.nodes.get(id))
    }

    /// Whether the node was removed, and its certificate may still be valid.
    pub fn is_revoked(&self, id: NodeId) -> bool {
        self.revoked.contains_key(&id)
    }

    /// What a node's tasks hold.
    pub fn node_use(&self, node: NodeId) -> &NodeUse {
        static NOTHING: std::sync::LazyLock<NodeUse> = std::sync::LazyLock::new(NodeUse::default);
        self.index.node_use.get(&node).unwrap_or(&NOTHING)
    }

    /// What is reserved on a node.
    pub fn reserved_on(&self, node: NodeId) -> Resources {
        self.node_use(node).reserved
    }

    /// The task that holds a host port on a node.
    pub fn port_holder(&self, node: NodeId, port: u16, protocol: Protocol) -> Option<TaskId> {
        self.node_use(node).ports.get(&(port, protocol)).copied()
    }

    /// Whether some tasks of a service run an older spec than it has; ended ones do not count.
    pub fn is_updating(&self, service: ServiceId) -> bool {
        self.old_specs.range((service, 0)..=(service, u64::MAX)).any(|(_, old)| old.live > 0)
    }

    /// How many tasks are in each state, ended ones that are remembered included; states without one are left out.
    pub const fn tasks_by_state(&self) -> &BTreeMap<TaskState, usize> {
        &self.index.by_state
    }

    /// How many tasks of a service run.
    pub fn running(&self, service: ServiceId) -> u32 {
        self.index.running.get(&service).copied().unwrap_or(0)
    }
}
