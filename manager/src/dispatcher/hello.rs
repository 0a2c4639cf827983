//! A worker's first message: what it says of itself, and whether it is admitted.

use std::collections::{BTreeMap, HashMap, HashSet};

use goat_core::model::{ClusterId, Inventory, NodeId, TaskId, TaskState};
use goat_core::state::command::{Origin, Refusal, TaskReport};
use goat_proto::convert;
use goat_proto::v1;
use goat_tls::{Caller, Role};
use tonic::Status;

use super::{Active, limits};

/// A worker's first message, checked.
#[derive(Debug)]
pub(super) struct Hello {
    pub node: NodeId,
    cluster: Option<ClusterId>,
    term: u64,
    pub name: String,
    pub address: String,
    /// The agent's process; empty from an earlier version.
    pub instance: String,
    pub labels: BTreeMap<String, String>,
    pub inventory: Inventory,
    pub tasks: Vec<TaskReport>,
    pub origins: HashMap<TaskId, Origin>,
    stopping: HashSet<TaskId>,
    /// The worker understands that its registration is in progress.
    pub awaits_registration: bool,
    /// It puts full sets of assignments together from several messages.
    pub is_chunked: bool,
}

fn origin(wire: &v1::TaskOrigin) -> Result<(TaskId, Origin), Status> {
    let service = convert::parse("service_id", &wire.service_id)?;
    let v1::TaskOrigin { slot, attempt, spec_version, fencing_token, .. } = *wire;
    let origin = Origin { service, slot, attempt, spec_version, fencing_token };
    Ok((convert::parse("task_id", &wire.task_id)?, origin))
}

impl Hello {
    pub(super) fn read(wire: v1::Hello) -> Result<Self, Status> {
        let cluster = match wire.cluster_id.as_str() {
            "" => None,
            text => Some(convert::parse("cluster_id", text)?),
        };
        Ok(Self {
            node: convert::parse("node_id", &wire.node_id)?,
            awaits_registration: wire.awaits_registration,
            cluster,
            term: wire.term,
            name: wire.name,
            address: wire.address,
            instance: wire.instance_id,
            labels: wire.labels.into_iter().collect(),
            inventory: limits::inventory(wire.inventory.unwrap_or_default())?,
            is_chunked: wire.chunked_assignments,
            tasks: wire.tasks.into_iter().map(TaskReport::try_from).collect::<Result<_, _>>()?,
            origins: wire.origins.iter().map(origin).collect::<Result<_, _>>()?,
            stopping: wire.stopping.iter().map(|id| convert::parse("stopping", id)).collect::<Result<_, _>>()?,
        })
    }

    /// What runs and would run on.
    pub(super) fn running(&self) -> Vec<TaskId> {
        let runs = |report: &&TaskReport| report.state == TaskState::Running && !self.stopping.contains(&report.task);
        self.tasks.iter().filter(runs).map(|report| report.task).collect()
    }
}

/// Refuses a worker that calls itself another one. A manager passes on what a worker has said to it.
pub(super) fn check_certificate(caller: Option<Caller>, hello: &v1::Hello) -> Result<(), Status> {
    match caller.and_then(|caller| caller.subject) {
        Some(subject) if subject.role == Role::Worker && subject.id != hello.node_id => {
            Err(Status::permission_denied(format!(
                "node {} came with the certificate of node {}: this data directory was put together of two",
                hello.node_id, subject.id
            )))
        }
        _ => Ok(()),
    }
}

impl Active {
    /// Refuses a worker of another cluster, and one that has followed a newer leader.
    pub(super) fn admit(&self, hello: &Hello) -> Result<(), Status> {
        let own = self.group.view().read().cluster_id();
        let own = own.ok_or_else(|| Status::unavailable("the cluster has no id yet"))?;
        match hello.cluster {
            Some(other) if other != own => Err(Status::failed_precondition(format!(
                "this worker belongs to cluster {other}, and this is cluster {own}: give the worker the managers of its own \
                 cluster, or another data_dir to join this one"
            ))),
            _ if hello.term > self.term => Err(Status::unavailable("a newer leader was elected")),
            _ => Ok(()),
        }
    }
}

/// The refusal of a registration, as the worker gets it.
pub(super) fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::NodeNameTaken { .. } => Status::already_exists(refusal.to_string()),
        Refusal::Invalid { .. } => Status::invalid_argument(refusal.to_string()),
        _ => Status::failed_precondition(refusal.to_string()),
    }
}
