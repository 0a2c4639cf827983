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
mod requests;
mod restore;
mod rows;
mod security;
mod services;
mod undo;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::{BOUNDED_FORMAT, FIRST_FORMAT, Versioned};
use crate::model::{
    ClusterId, Manager, Node, NodeId, Protocol, Resources, ServiceId, ServiceSpec, Task, TaskId, TaskState,
};
use index::Indexes;
use requests::Requests;

pub use clients::{Client, MAX_CLIENT_NAME_BYTES, MAX_CLIENTS};
pub use index::NodeUse;
pub use managers::MAX_MANAGERS;
pub use nodes::MAX_REVOKED;
pub use restore::Restored;
pub use rows::{LoadError, RowHash, Table, newest_version_in};
pub use security::{Rotation, Security};

/// The requests that are remembered for the sake of retries however old they are; under the first format no others are.
pub const REQUESTS_REMEMBERED: usize = 20_000;
/// A request is remembered for so long, by the state's clock, however many follow it: longer than any client repeats one.
pub const REQUESTS_REMEMBERED_MS: u64 = 5 * 60_000;
/// The most that remembered requests take in memory, by estimate. The oldest are forgotten beyond, whatever their number and
/// age: at 3,400 requests a second those of the last 45 s are left.
pub const REQUESTS_REMEMBERED_BYTES: usize = 32 << 20;

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
    /// Leases are granted for their ordinary length again. Longer ones may have been granted before, and are waited for
    /// until their workers confirm shorter ones, or until the freeze would have ended.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stopped: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// A removed node's row.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Revoked {
    at_ms: u64,
    /// The version at which it was removed; 0 under the first format.
    #[serde(default, skip_serializing_if = "is_zero")]
    version: u64,
}

impl Versioned for Revoked {}
impl Versioned for Service {}

/// Every table, with its indexes.
#[derive(Debug, Default)]
pub struct State {
    meta: Meta,
    services: BTreeMap<ServiceId, Service>,
    /// Specs that a service has moved on from. The row goes with the last task of it, ended ones that are remembered included.
    old_specs: BTreeMap<(ServiceId, u64), Arc<ServiceSpec>>,
    tasks: BTreeMap<TaskId, Task>,
    nodes: BTreeMap<NodeId, Node>,
    managers: BTreeMap<u64, Manager>,
    /// Nodes that were removed and may still have a certificate.
    revoked: BTreeMap<NodeId, Revoked>,
    /// None where the managers run unencrypted.
    security: Option<Security>,
    /// By name.
    clients: BTreeMap<String, Client>,
    requests: Requests,
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

    /// Whether commands are applied as [`BOUNDED_FORMAT`] says.
    pub(crate) fn is_bounded(&self) -> bool {
        self.format() >= BOUNDED_FORMAT
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
        self.old_specs.get(&(task.service, task.spec_version))
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
        self.old_specs.range((service, 0)..=(service, u64::MAX)).any(|(key, _)| self.index.is_live(*key))
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
