//! What goatctl calls, on any manager: reads are answered from the applied state after a read index, mutations are
//! proposed at the leader. One file per resource.

mod cluster;
mod debug;
mod events;
mod logs;
mod lookup;
mod managers;
mod nodes;
mod pages;
mod services;
mod snapshot;
mod tasks;

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use goat_core::model::RequestId;
use goat_core::state::State;
use goat_core::state::command::{Action, Answer, Command, Outcome, Refusal};
use goat_proto::v1::control_server::Control as ControlService;
use goat_proto::v1::{self, ReadInfo, ReadOptions};
use goat_proto::{LOG_INDEX, READ_INDEX, convert};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

use crate::clock;
use crate::debug::Debug;
use crate::dispatcher::Desk;
use crate::events::Events as EventLog;
use crate::quota::Quota;
use crate::raft::Group;
use crate::raft::seat::Seat;

pub use lookup::MAX_REFERENCE_BYTES;

/// Largest request. A command is smaller than half of it, and a spec much smaller.
pub const MAX_REQUEST_BYTES: usize = 2 << 20;

type Reply<T> = Result<Response<T>, Status>;
type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The control service of this manager.
#[derive(Debug, Clone)]
pub struct Control {
    seat: Seat,
    desk: Desk,
    events: EventLog,
    /// Streams end with it.
    stopping: CancellationToken,
    saving: Arc<Semaphore>,
    relayed_logs: Quota,
    debug: Debug,
}

impl Control {
    /// Answers once the group runs; until then callers are told to wait.
    pub fn new(seat: Seat, desk: Desk, events: EventLog, debug: Debug, stopping: CancellationToken) -> Self {
        Self { seat, desk, events, stopping, saving: snapshot::room(), relayed_logs: logs::relayed(), debug }
    }

    fn group(&self) -> Result<Group, Status> {
        self.seat
            .group()
            .filter(Group::has_members)
            .ok_or_else(|| Status::unavailable("this manager has not heard from a leader yet"))
    }

    /// The group, with a view as new as asked for.
    async fn reading(&self, options: Option<ReadOptions>) -> Result<(Group, ReadInfo), Status> {
        let group = self.group()?;
        let is_stale = options.unwrap_or_default().stale;
        if !is_stale {
            group.linearize().await.map_err(|error| error.into_status(&group))?;
        }
        let index = *group.view().applied().borrow();
        // Never heard: as old as anything can be.
        let age_ms = if is_stale { group.age_ms().unwrap_or(u64::MAX) } else { 0 };
        Ok((group, ReadInfo { index, age_ms }))
    }

    /// Proposes a client's mutation and waits for its answer.
    async fn mutate(&self, group: &Group, request_id: &str, action: Action) -> Result<(Answer, u64), Status> {
        let request: RequestId = convert::parse("request_id", request_id)?;
        let command = Command { now_ms: clock::now_ms(), request: Some(request), action };
        let accepted = group.propose(&command).await.map_err(|error| error.into_status(group))?;
        match accepted.outcome {
            Outcome::Done(answer) => Ok((answer, accepted.index)),
            Outcome::Refused(refusal) => Err(marked(refused(&refusal), LOG_INDEX, accepted.index)),
        }
    }
}

/// Where a state was read that may have moved on since its index was looked up: by now it holds everything up to the
/// larger index, and nothing beyond.
fn seen(read: ReadInfo, state: &State) -> ReadInfo {
    ReadInfo { index: read.index.max(state.applied_index()), ..read }
}

/// A refusal that says where in the log it belongs.
fn marked(mut status: Status, key: &'static str, index: u64) -> Status {
    status.metadata_mut().insert(key, index.into());
    status
}

/// What was looked up in a state, and where where it is not there.
fn looked_up<T>(found: Result<T, Status>, read: ReadInfo, state: &State) -> Result<T, Status> {
    found.map_err(|status| marked(status, READ_INDEX, seen(read, state).index))
}

/// As a client sees it.
pub(crate) fn refused(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::NameTaken { .. }
        | Refusal::NameInRemoval { .. }
        | Refusal::ClusterExists { .. }
        | Refusal::NodeNameTaken { .. }
        | Refusal::ManagerNameTaken { .. }
        | Refusal::ManagerAddressTaken { .. } => Status::already_exists(text),
        Refusal::NoSuchService { .. } | Refusal::NoSuchNode { .. } | Refusal::NoSuchManager { .. } => {
            Status::not_found(text)
        }
        Refusal::Stale { .. } => Status::aborted(text),
        Refusal::Invalid { .. } => Status::invalid_argument(text),
        Refusal::ServiceRemoved { .. }
        | Refusal::NodeNotDown { .. }
        | Refusal::NodeRemoved { .. }
        | Refusal::ManagerRemoved { .. }
        | Refusal::LastManager { .. }
        | Refusal::Impossible { .. } => Status::failed_precondition(text),
    }
}

#[async_trait]
impl ControlService for Control {
    async fn create_service(&self, request: Request<v1::CreateServiceRequest>) -> Reply<v1::ServiceReply> {
        self.create_service_(request.into_inner()).await.map(Response::new)
    }

    async fn update_service(&self, request: Request<v1::UpdateServiceRequest>) -> Reply<v1::ServiceReply> {
        self.update_service_(request.into_inner()).await.map(Response::new)
    }

    async fn scale_service(&self, request: Request<v1::ScaleServiceRequest>) -> Reply<v1::ServiceReply> {
        self.scale_service_(request.into_inner()).await.map(Response::new)
    }

    async fn remove_service(&self, request: Request<v1::RemoveServiceRequest>) -> Reply<v1::ServiceReply> {
        self.remove_service_(request.into_inner()).await.map(Response::new)
    }

    async fn list_services(&self, request: Request<v1::ListServicesRequest>) -> Reply<v1::ListServicesReply> {
        self.list_services_(request.into_inner()).await.map(Response::new)
    }

    async fn get_service(&self, request: Request<v1::GetServiceRequest>) -> Reply<v1::Service> {
        self.get_service_(request.into_inner()).await.map(Response::new)
    }

    async fn list_tasks(&self, request: Request<v1::ListTasksRequest>) -> Reply<v1::ListTasksReply> {
        self.list_tasks_(request.into_inner()).await.map(Response::new)
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Reply<v1::TaskDetail> {
        self.get_task_(request.into_inner()).await.map(Response::new)
    }

    type TaskLogsStream = Events<v1::LogChunk>;

    async fn task_logs(&self, request: Request<v1::TaskLogsRequest>) -> Reply<Self::TaskLogsStream> {
        self.task_logs_(request.into_inner()).await.map(Response::new)
    }

    async fn list_nodes(&self, request: Request<v1::ListNodesRequest>) -> Reply<v1::ListNodesReply> {
        self.list_nodes_(request.into_inner()).await.map(Response::new)
    }

    async fn get_node(&self, request: Request<v1::GetNodeRequest>) -> Reply<v1::Node> {
        self.get_node_(request.into_inner()).await.map(Response::new)
    }

    async fn set_node_labels(&self, request: Request<v1::SetNodeLabelsRequest>) -> Reply<v1::NodeReply> {
        self.set_node_labels_(request.into_inner()).await.map(Response::new)
    }

    async fn set_node_availability(&self, request: Request<v1::SetNodeAvailabilityRequest>) -> Reply<v1::NodeReply> {
        self.set_node_availability_(request.into_inner()).await.map(Response::new)
    }

    async fn remove_node(&self, request: Request<v1::RemoveNodeRequest>) -> Reply<v1::NodeReply> {
        self.remove_node_(request.into_inner()).await.map(Response::new)
    }

    async fn freeze(&self, request: Request<v1::FreezeRequest>) -> Reply<v1::FreezeReply> {
        self.freeze_(request.into_inner()).await.map(Response::new)
    }

    async fn upgrade_cluster(&self, request: Request<v1::UpgradeClusterRequest>) -> Reply<v1::UpgradeClusterReply> {
        self.upgrade_cluster_(request.into_inner()).await.map(Response::new)
    }

    async fn get_status(&self, request: Request<v1::GetStatusRequest>) -> Reply<v1::Status> {
        self.get_status_(request.into_inner()).await.map(Response::new)
    }

    type WatchEventsStream = Events<v1::Event>;

    async fn watch_events(&self, request: Request<v1::WatchEventsRequest>) -> Reply<Self::WatchEventsStream> {
        self.watch_events_(request.into_inner()).await.map(Response::new)
    }

    type SaveSnapshotStream = Events<v1::SnapshotPiece>;

    async fn save_snapshot(&self, _: Request<v1::SaveSnapshotRequest>) -> Reply<Self::SaveSnapshotStream> {
        self.save_snapshot_().await.map(Response::new)
    }

    type GetDebugStream = Events<v1::DebugReport>;

    async fn get_debug(&self, request: Request<v1::GetDebugRequest>) -> Reply<Self::GetDebugStream> {
        self.get_debug_(request.into_inner()).await.map(Response::new)
    }

    async fn restore_services(&self, request: Request<v1::RestoreServicesRequest>) -> Reply<v1::RestoreServicesReply> {
        self.restore_services_(request.into_inner()).await.map(Response::new)
    }

    async fn list_peers(&self, _: Request<v1::ListPeersRequest>) -> Reply<v1::ListPeersReply> {
        self.list_peers_().await.map(Response::new)
    }

    async fn set_manager(&self, request: Request<v1::SetManagerRequest>) -> Reply<v1::SetManagerReply> {
        self.set_manager_(request.into_inner()).await.map(Response::new)
    }

    async fn set_manager_address(&self, request: Request<v1::SetManagerAddressRequest>) -> Reply<v1::SetManagerReply> {
        self.set_manager_address_(request.into_inner()).await.map(Response::new)
    }

    async fn transfer_leader(&self, request: Request<v1::TransferLeaderRequest>) -> Reply<v1::TransferLeaderReply> {
        self.transfer_leader_(request.into_inner()).await.map(Response::new)
    }
}
