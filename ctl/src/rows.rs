//! The JSON that scripts read. Field names here are stable: they are added to, never renamed or removed.
//!
//! What is absent is null, never the empty text; times are RFC 3339 in UTC.

mod task;

use std::collections::BTreeMap;

use goat_core::model::{Inventory, ServiceSpec};
use goat_proto::v1;
use serde::Serialize;

use crate::exit::Failure;
use crate::output::rfc3339;

pub use task::{TaskPage, TaskRow};

/// A row of `service ls`.
#[derive(Debug, Serialize)]
pub struct ServiceRow {
    pub id: String,
    pub name: String,
    pub replicas_desired: u32,
    pub replicas_running: u32,
    pub image: String,
}

impl From<&v1::Service> for ServiceRow {
    fn from(service: &v1::Service) -> Self {
        Self {
            id: service.id.clone(),
            name: name_of(service).into(),
            replicas_desired: service.replicas_desired,
            replicas_running: service.replicas_running,
            image: service.spec.as_ref().map(|spec| spec.image.clone()).unwrap_or_default(),
        }
    }
}

/// A service's name.
pub fn name_of(service: &v1::Service) -> &str {
    service.spec.as_ref().map_or("", |spec| spec.name.as_str())
}

/// A row of `node ls`.
#[derive(Debug, Serialize)]
pub struct NodeRow {
    pub id: String,
    pub name: String,
    pub state: String,
    pub availability: String,
    /// While it drains gently: what is left then is stopped.
    pub drain_until: Option<String>,
    pub address: String,
    pub labels: BTreeMap<String, String>,
    pub tasks: u32,
    /// Most tasks at one time.
    pub max_tasks: u32,
    /// What is wrong there, as in `disk-pressure`; none where nothing is.
    pub problems: Vec<String>,
}

impl From<&v1::Node> for NodeRow {
    fn from(node: &v1::Node) -> Self {
        Self {
            id: node.id.clone(),
            name: node.name.clone(),
            state: node.state.clone(),
            availability: node.availability.clone(),
            drain_until: node.drain_until_ms.and_then(rfc3339),
            address: node.address.clone(),
            labels: node.labels.clone().into_iter().collect(),
            tasks: node.tasks,
            max_tasks: Inventory::from(node.inventory.clone().unwrap_or_default()).task_limit(),
            problems: node.inventory.as_ref().map(|inventory| inventory.conditions.clone()).unwrap_or_default(),
        }
    }
}

/// A row of `manager ls` and `operator raft list-peers`.
#[derive(Debug, Serialize)]
pub struct PeerRow {
    pub id: u64,
    pub name: String,
    pub address: String,
    pub role: String,
    /// What it is meant to be.
    pub standing: String,
    pub reachable: bool,
    pub term: Option<u64>,
    pub last_log_index: Option<u64>,
    pub applied_index: Option<u64>,
    pub version: Option<String>,
    /// The newest format of replicated bytes that it reads.
    pub format: Option<u32>,
    /// A heartbeat from the leader and its answer (us), on average lately.
    pub round_trip_us: Option<u64>,
    /// How long its log takes to become durable (us), on average lately.
    pub fsync_us: Option<u64>,
    /// Why it does not take part although it answers.
    pub problem: Option<String>,
}

impl From<&v1::Peer> for PeerRow {
    fn from(peer: &v1::Peer) -> Self {
        Self {
            id: peer.id,
            name: peer.name.clone(),
            address: peer.address.clone(),
            role: peer.role.clone(),
            standing: peer.standing.clone(),
            reachable: peer.reachable,
            term: peer.reachable.then_some(peer.term),
            last_log_index: peer.reachable.then_some(peer.last_log_index),
            applied_index: peer.reachable.then_some(peer.applied_index),
            version: peer.reachable.then(|| peer.version.clone()),
            format: peer.reachable.then_some(peer.format),
            round_trip_us: (peer.round_trip_us > 0).then_some(peer.round_trip_us),
            fsync_us: (peer.fsync_us > 0).then_some(peer.fsync_us),
            problem: (!peer.problem.is_empty()).then(|| peer.problem.clone()),
        }
    }
}

/// `status`.
#[derive(Debug, Serialize)]
pub struct StatusRow {
    pub cluster_id: String,
    pub leader: Option<String>,
    pub term: u64,
    pub managers: ManagersRow,
    pub nodes: BTreeMap<String, u32>,
    pub services: u32,
    pub tasks: BTreeMap<String, u32>,
    /// Of the manager that answered.
    pub version: String,
    /// Of replicated bytes, in use.
    pub format: u32,
    pub warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct ManagersRow {
    pub total: u32,
    pub reachable: u32,
}

impl From<&v1::Status> for StatusRow {
    fn from(status: &v1::Status) -> Self {
        let managers = status.managers.unwrap_or_default();
        Self {
            cluster_id: status.cluster_id.clone(),
            leader: present(&status.leader),
            term: status.term,
            managers: ManagersRow { total: managers.total, reachable: managers.reachable },
            nodes: status.nodes.clone().into_iter().collect(),
            services: status.services,
            tasks: status.tasks.clone().into_iter().collect(),
            version: status.version.clone(),
            format: status.format,
            warnings: status.warnings.clone(),
        }
    }
}

/// A line of `events`.
#[derive(Debug, Serialize)]
pub struct EventRow<'a> {
    pub index: u64,
    pub at: Option<String>,
    pub kind: &'a str,
    pub id: &'a str,
    pub name: &'a str,
    pub node: Option<&'a str>,
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
    pub cause: Option<&'a str>,
    pub detail: Option<&'a str>,
}

impl<'a> From<&'a v1::Event> for EventRow<'a> {
    fn from(event: &'a v1::Event) -> Self {
        let some = |text: &'a str| Some(text).filter(|text| !text.is_empty());
        Self {
            index: event.index,
            at: rfc3339(event.at_ms),
            kind: &event.kind,
            id: &event.id,
            name: &event.name,
            node: some(&event.node),
            from: some(&event.from),
            to: some(&event.to),
            cause: some(&event.cause),
            detail: some(&event.detail),
        }
    }
}

/// `service inspect`: the row, and everything else.
#[derive(Debug, Serialize)]
pub struct ServicePage {
    #[serde(flatten)]
    pub row: ServiceRow,
    pub spec: ServiceSpec,
    pub removed: bool,
    pub spec_version: u64,
    pub version: u64,
    pub created_at: Option<String>,
    pub updated_at: Option<String>,
}

impl ServicePage {
    pub fn new(service: &v1::Service) -> Result<Self, Failure> {
        Ok(Self {
            row: service.into(),
            spec: spec_of(service.spec.as_ref())?,
            removed: service.removed,
            spec_version: service.spec_version,
            version: service.version,
            created_at: rfc3339(service.created_at_ms),
            updated_at: rfc3339(service.updated_at_ms),
        })
    }
}

/// `node inspect`: the row, and everything else.
#[derive(Debug, Serialize)]
pub struct NodePage {
    #[serde(flatten)]
    pub row: NodeRow,
    pub inventory: goat_core::model::Inventory,
    pub reserved: goat_core::model::Resources,
    pub registered_at: Option<String>,
    pub state_since: Option<String>,
    pub version: u64,
}

impl From<&v1::Node> for NodePage {
    fn from(node: &v1::Node) -> Self {
        Self {
            row: node.into(),
            inventory: node.inventory.clone().unwrap_or_default().into(),
            reserved: node.reserved.unwrap_or_default().into(),
            registered_at: rfc3339(node.registered_at_ms),
            state_since: rfc3339(node.state_since_ms),
            version: node.version,
        }
    }
}

/// A spec from a manager; one that this build cannot read is a newer manager's.
pub fn spec_of(spec: Option<&v1::ServiceSpec>) -> Result<ServiceSpec, Failure> {
    spec.cloned().unwrap_or_default().try_into().map_err(|error: goat_proto::convert::Error| {
        Failure::failed(format!("the manager's answer is not understood: {error}"))
            .with_hint("this goatctl is older than the manager: use one of the same version")
    })
}

fn present(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
