//! What a manager that a test makes up answers: the world as it is, unless a fault comes first.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use goat_proto::v1::control_server::Control;
use goat_proto::v1::*;
use parking_lot::Mutex;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt, iter};
use tonic::{Request, Response, Status as Refusal};

use crate::fake::{LongLog, State, World};
use crate::server::Fault;

#[derive(Debug)]
pub struct Fake {
    pub world: Arc<World>,
    pub faults: Arc<Mutex<VecDeque<Fault>>>,
    pub always: Arc<Mutex<Option<Fault>>>,
}

/// Sends the output as it is read, and says when it is not.
fn pieces_of(long: LongLog) -> Stream_<LogChunk> {
    let (sender, pieces) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let data = long.line.repeat(long.lines_a_piece);
        for _ in 0..long.pieces {
            let piece = Ok(LogChunk { data: data.clone().into(), stream: "stdout".into(), ..Default::default() });
            match tokio::time::timeout(long.stalled, sender.reserve()).await {
                Ok(Ok(permit)) => permit.send(piece),
                // The connection was given up.
                Ok(Err(_)) => return long.is_stalled.notify_one(),
                Err(_) => {
                    long.is_stalled.notify_one();
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    Box::pin(tokio_stream::wrappers::ReceiverStream::new(pieces))
}

type Reply<T> = Result<Response<T>, Refusal>;
type Stream_<T> = Pin<Box<dyn Stream<Item = Result<T, Refusal>> + Send>>;

impl Fake {
    /// `act`, unless a fault comes first.
    async fn reply<T>(&self, act: impl FnOnce(&mut State) -> Result<T, Refusal>) -> Reply<T> {
        let fault = self.faults.lock().pop_front().or_else(|| self.always.lock().clone());
        match fault {
            None | Some(Fault::None) => act(&mut self.world.state.lock()).map(Response::new),
            Some(Fault::Refuse(code, why)) => Err(Refusal::new(code, why)),
            Some(Fault::DoAndFail) => {
                act(&mut self.world.state.lock())?;
                Err(Refusal::unavailable("this manager has lost its place as the leader"))
            }
            Some(Fault::Silent) => std::future::pending().await,
        }
    }

    async fn mutate(
        &self,
        name: &'static str,
        request_id: String,
        act: impl FnOnce(&mut State) -> Result<ServiceReply, Refusal>,
    ) -> Reply<ServiceReply> {
        self.reply(|state| {
            state.mutations.push((name, request_id.clone()));
            if let Some(answer) = state.answers.get(&request_id) {
                return Ok(answer.clone());
            }
            let answer = act(state)?;
            state.answers.insert(request_id, answer.clone());
            Ok(answer)
        })
        .await
    }
}

#[tonic::async_trait]
impl Control for Fake {
    async fn create_service(&self, request: Request<CreateServiceRequest>) -> Reply<ServiceReply> {
        let request = request.into_inner();
        let spec = request.spec.unwrap_or_default();
        self.mutate("create", request.request_id, |state| match state.find(&spec.name) {
            Ok(_) => Err(Refusal::already_exists(format!("a service named {:?} exists already", spec.name))),
            Err(_) => Ok(state.create(spec)),
        })
        .await
    }

    async fn update_service(&self, request: Request<UpdateServiceRequest>) -> Reply<ServiceReply> {
        let request = request.into_inner();
        self.mutate("update", request.request_id.clone(), |state| {
            state.updates.push(request.clone());
            let (at, index) = (state.find(&request.reference)?, state.next());
            let index = state.let_rival_change(at, index);
            let service = &mut state.services[at];
            if request.seen_version.is_some_and(|seen| seen != service.version) {
                return Err(Refusal::aborted("it has changed meanwhile; look again and repeat"));
            }
            service.replicas_desired = request.spec.as_ref().map_or(0, |spec| spec.replicas);
            let name = request.spec.as_ref().map(|spec| spec.name.clone()).unwrap_or_default();
            (service.spec, service.spec_version, service.version) = (request.spec, index, index);
            let id = service.id.clone();
            state.tasks.retain(|task| task.service_id != id);
            state.settle();
            Ok(ServiceReply { id, version: index, index, name })
        })
        .await
    }

    async fn scale_service(&self, request: Request<ScaleServiceRequest>) -> Reply<ServiceReply> {
        let request = request.into_inner();
        self.mutate("scale", request.request_id, |state| {
            let (at, index) = (state.find(&request.reference)?, state.next());
            let service = &mut state.services[at];
            service.replicas_desired = request.replicas;
            if let Some(spec) = &mut service.spec {
                spec.replicas = request.replicas;
            }
            state.settle();
            Ok(state.reply(at, index))
        })
        .await
    }

    async fn remove_service(&self, request: Request<RemoveServiceRequest>) -> Reply<ServiceReply> {
        let request = request.into_inner();
        self.mutate("remove", request.request_id, |state| {
            let (at, index) = (state.find(&request.reference)?, state.next());
            state.services[at].removed = true;
            Ok(state.reply(at, index))
        })
        .await
    }

    async fn list_services(&self, _: Request<ListServicesRequest>) -> Reply<ListServicesReply> {
        self.reply(|state| Ok(ListServicesReply { services: state.services.clone(), ..Default::default() })).await
    }

    async fn get_service(&self, request: Request<GetServiceRequest>) -> Reply<Service> {
        self.reply(|state| {
            let at = state.find(&request.get_ref().reference)?;
            let service = state.services[at].clone();
            // Each look at one that is being removed sees one task less, and then the service goes.
            if service.removed && state.tasks_stay() {
                return Ok(service);
            }
            if service.removed {
                match state.tasks.iter().position(|task| task.service_id == service.id) {
                    Some(task) => drop(state.tasks.remove(task)),
                    None => drop(state.services.remove(at)),
                }
            } else {
                state.settle();
            }
            Ok(if service.removed { service } else { state.services[at].clone() })
        })
        .await
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Reply<ListTasksReply> {
        self.reply(|state| Ok(state.list_tasks(&request.into_inner()))).await
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Reply<TaskDetail> {
        self.reply(|state| {
            let task = state.tasks.iter().find(|task| task.id == request.get_ref().reference).cloned();
            let task = task.ok_or_else(|| Refusal::not_found("no such task"))?;
            let spec = state.services.first().and_then(|service| service.spec.clone());
            let filters = vec![FilterCount { filter: "memory".into(), nodes: 3, text: "lack memory".into() }];
            Ok(TaskDetail { history: vec![task.clone()], task: Some(task), spec, filters })
        })
        .await
    }

    type TaskLogsStream = Stream_<LogChunk>;

    async fn task_logs(&self, request: Request<TaskLogsRequest>) -> Reply<Self::TaskLogsStream> {
        self.reply(|state| {
            state.log_requests.push(request.into_inner());
            if let Some(long) = state.long_log.clone() {
                return Ok(pieces_of(long));
            }
            let chunk = |data: &'static str, stream: &str| {
                Ok(LogChunk { data: data.into(), stream: stream.into(), ..Default::default() })
            };
            Ok(Box::pin(iter([chunk("to out\n", "stdout"), chunk("to err\n", "stderr")])) as Self::TaskLogsStream)
        })
        .await
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Reply<ListNodesReply> {
        self.reply(|state| Ok(ListNodesReply { nodes: state.nodes.clone(), ..Default::default() })).await
    }

    async fn get_node(&self, request: Request<GetNodeRequest>) -> Reply<Node> {
        self.reply(|state| {
            let stays = state.tasks_stay();
            let node = state.node(&request.get_ref().reference)?;
            let seen = node.clone();
            // Each look at one that is being drained sees one task less.
            if node.availability == "drain" && !stays {
                node.tasks = node.tasks.saturating_sub(1);
            }
            Ok(seen)
        })
        .await
    }

    async fn set_node_labels(&self, request: Request<SetNodeLabelsRequest>) -> Reply<NodeReply> {
        self.reply(|state| {
            let request = request.into_inner();
            let index = state.next();
            let node = state.node(&request.reference)?;
            node.labels.extend(request.set);
            node.labels.retain(|key, _| !request.remove.contains(key));
            Ok(NodeReply { id: node.id.clone(), version: index, index, name: node.name.clone() })
        })
        .await
    }

    async fn set_node_availability(&self, request: Request<SetNodeAvailabilityRequest>) -> Reply<NodeReply> {
        self.reply(|state| {
            let request = request.into_inner();
            let index = state.next();
            let node = state.node(&request.reference)?;
            node.availability = request.availability;
            Ok(NodeReply { id: node.id.clone(), version: index, index, name: node.name.clone() })
        })
        .await
    }

    async fn remove_node(&self, request: Request<RemoveNodeRequest>) -> Reply<NodeReply> {
        self.reply(|state| state.remove_node(&request.get_ref().reference)).await
    }

    async fn freeze(&self, _: Request<FreezeRequest>) -> Reply<FreezeReply> {
        Err(tonic::Status::unimplemented("freeze"))
    }

    async fn upgrade_cluster(&self, _: Request<UpgradeClusterRequest>) -> Reply<UpgradeClusterReply> {
        Ok(Response::new(UpgradeClusterReply { before: 1, format: 2 }))
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Reply<Status> {
        // A stale read needs no leader.
        if request.get_ref().read.is_some_and(|read| read.stale) {
            let read = Some(ReadInfo { index: 7, age_ms: 4_000 });
            return Ok(Response::new(Status { leader: String::new(), read, ..self.world.state.lock().status.clone() }));
        }
        self.reply(|state| Ok(state.status.clone())).await
    }

    type WatchEventsStream = Stream_<Event>;

    async fn watch_events(&self, request: Request<WatchEventsRequest>) -> Reply<Self::WatchEventsStream> {
        let request = request.into_inner();
        let live = self.world.events.subscribe();
        self.reply(|state| {
            let since = request.since_index;
            let mut past: Vec<_> = state.past.iter().filter(|event| event.index >= since).cloned().collect();
            if let Some(tail) = request.tail {
                past.drain(..past.len().saturating_sub(tail as usize));
            }
            let past = iter(past.into_iter().map(Ok));
            if !request.follow {
                return Ok(Box::pin(past) as Self::WatchEventsStream);
            }
            let live = BroadcastStream::new(live).filter_map(|event| event.ok().map(Ok));
            Ok(Box::pin(past.chain(live)) as Self::WatchEventsStream)
        })
        .await
    }

    type SaveSnapshotStream = Stream_<SnapshotPiece>;

    async fn save_snapshot(&self, _: Request<SaveSnapshotRequest>) -> Reply<Self::SaveSnapshotStream> {
        self.reply(|state| {
            let broken = state.breaks.then(|| Err(Refusal::unavailable("gone")));
            let pieces: Vec<_> = state.pieces.iter().cloned().map(Ok).chain(broken).collect();
            Ok(Box::pin(iter(pieces)) as Self::SaveSnapshotStream)
        })
        .await
    }

    type GetDebugStream = Stream_<DebugReport>;

    async fn get_debug(&self, _: Request<GetDebugRequest>) -> Reply<Self::GetDebugStream> {
        let reports = |state: &mut State| state.reports.clone().into_iter().map(Ok);
        self.reply(|state| Ok(Box::pin(iter(reports(state))) as Self::GetDebugStream)).await
    }

    async fn restore_services(&self, request: Request<RestoreServicesRequest>) -> Reply<RestoreServicesReply> {
        let request = request.into_inner();
        self.reply(|state| {
            state.restores.push(request);
            Ok(RestoreServicesReply { index: state.next() })
        })
        .await
    }

    async fn list_peers(&self, _: Request<ListPeersRequest>) -> Reply<ListPeersReply> {
        self.reply(|state| Ok(ListPeersReply { peers: state.peers.clone() })).await
    }

    async fn set_manager_address(&self, request: Request<SetManagerAddressRequest>) -> Reply<SetManagerReply> {
        let request = request.into_inner();
        self.reply(|state| {
            let peer = state.peers.iter_mut().find(|peer| peer.name == request.reference);
            let peer = peer.ok_or_else(|| Refusal::not_found(format!("no manager {:?}", request.reference)))?;
            peer.address = request.address.clone();
            Ok(SetManagerReply { id: peer.id, name: peer.name.clone(), index: 9, advice: String::new() })
        })
        .await
    }

    async fn set_manager(&self, request: Request<SetManagerRequest>) -> Reply<SetManagerReply> {
        let request = request.into_inner();
        self.reply(|state| {
            let at = state.peers.iter().position(|peer| peer.name == request.reference);
            let at = at.ok_or_else(|| Refusal::not_found(format!("no manager {:?}", request.reference)))?;
            let (id, name) = (state.peers[at].id, state.peers[at].name.clone());
            match request.standing.as_str() {
                "removed" => drop(state.peers.remove(at)),
                "learner" => state.peers[at].role = "learner".into(),
                _ => state.peers[at].role = "follower".into(),
            }
            let voters = state.peers.iter().filter(|peer| peer.role != "learner").count();
            let advice = if voters % 2 == 0 { format!("{voters} voting managers") } else { String::new() };
            Ok(SetManagerReply { id, name, index: 9, advice })
        })
        .await
    }

    async fn transfer_leader(&self, request: Request<TransferLeaderRequest>) -> Reply<TransferLeaderReply> {
        self.reply(|_| Ok(TransferLeaderReply { leader: request.into_inner().to, term: 4 })).await
    }
}
