//! What the other managers call: Raft's own messages, and what a follower asks of the leader.

use std::time::Instant;

use goat_core::codec;
use goat_core::state::command::Command;
use goat_proto::v1::raft_server::Raft as RaftService;
use goat_proto::v1::{
    ProgressReply, ProgressRequest, ProposeReply, RaftMessage, ReadIndexReply, ReadIndexRequest, SnapshotChunk,
};
use goat_raft_store::{IncomingSnapshot, TypeConfig};
use goat_tls::Caller;
use openraft::alias::{SnapshotMetaOf, SnapshotOf, VoteOf};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::seat::Seat;
use super::{Group, wire};
use crate::clock;

/// The service before and after this manager belongs to a group: until then it only tells how far it is.
#[derive(Debug, Clone)]
pub struct Service {
    pub seat: Seat,
}

impl Service {
    fn group(&self) -> Result<Group, Status> {
        self.seat.group().ok_or_else(|| Status::unavailable("this manager has not joined its group yet"))
    }

    /// Refuses what was meant for another manager or comes from another cluster.
    fn open<T: DeserializeOwned>(&self, caller: Option<Caller>, message: &RaftMessage) -> Result<(Group, T), Status> {
        let group = self.group()?;
        check_certificate(caller, message)?;
        group.check_sender(message)?;
        let body = wire::decode(&message.payload)?;
        Ok((group, body))
    }
}

fn opened<T>(request: Request<T>) -> (Option<Caller>, T) {
    let caller = request.extensions().get::<Caller>().cloned();
    (caller, request.into_inner())
}

/// Refuses a manager that speaks for another one.
fn check_certificate(caller: Option<Caller>, message: &RaftMessage) -> Result<(), Status> {
    match caller.and_then(|caller| caller.subject) {
        Some(subject) if subject.id != message.from.to_string() => Err(Status::permission_denied(format!(
            "a message from manager {} came with the certificate of manager {}",
            message.from, subject.id
        ))),
        _ => Ok(()),
    }
}

/// `since`: when the request arrived.
fn answer<T: Serialize>(group: &Group, to: u64, body: &T, since: Instant) -> Result<Response<RaftMessage>, Status> {
    let payload = wire::encode(body).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(RaftMessage {
        cluster_id: group.cluster().to_string(),
        to,
        from: group.id(),
        payload: payload.into(),
        handled_us: since.elapsed().as_micros() as u64,
    }))
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("raft has stopped: {error}"))
}

#[async_trait]
impl RaftService for Service {
    async fn append(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let since = Instant::now();
        let (caller, message) = opened(request);
        let (group, body) = self.open::<AppendEntriesRequest<TypeConfig>>(caller, &message)?;
        let reply = group.append(body).await.map_err(stopped)?;
        answer(&group, message.from, &reply, since)
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let since = Instant::now();
        let (caller, message) = opened(request);
        let (group, body) = self.open::<VoteRequest<TypeConfig>>(caller, &message)?;
        let reply = group.raft().vote(body).await.map_err(stopped)?;
        if reply.vote_granted {
            group.record_vote();
        }
        answer(&group, message.from, &reply, since)
    }

    async fn pre_vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let since = Instant::now();
        let (caller, message) = opened(request);
        let (group, body) = self.open::<VoteRequest<TypeConfig>>(caller, &message)?;
        let reply = group.raft().pre_vote(body).await.map_err(stopped)?;
        answer(&group, message.from, &reply, since)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<RaftMessage>, Status> {
        let since = Instant::now();
        let (caller, mut chunks) = opened(request);
        let first = chunks.message().await?.ok_or_else(|| Status::invalid_argument("a snapshot without a chunk"))?;
        let head = first.head.ok_or_else(|| Status::invalid_argument("a snapshot without a head"))?;
        let (group, (vote, meta)) = self.open::<(VoteOf<TypeConfig>, SnapshotMetaOf<TypeConfig>)>(caller, &head)?;
        let mut incoming = group.receive_snapshot().await.map_err(|error| Status::internal(error.to_string()))?;
        append_chunk(&mut incoming, 0, first.offset, &first.data).await?;
        let mut received = first.data.len() as u64;
        while let Some(chunk) = chunks.message().await? {
            append_chunk(&mut incoming, received, chunk.offset, &chunk.data).await?;
            received += chunk.data.len() as u64;
        }
        let file = incoming.finish().await.map_err(|error| Status::data_loss(error.to_string()))?;
        let snapshot = SnapshotOf::<TypeConfig, _> { meta, snapshot: file };
        let reply = group.raft().install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        answer(&group, head.from, &reply, since)
    }

    async fn transfer_leader(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let since = Instant::now();
        let (caller, message) = opened(request);
        let (group, body) = self.open::<TransferLeaderRequest<TypeConfig>>(caller, &message)?;
        let reply = group.raft().handle_transfer_leader(body).await.map_err(stopped)?;
        answer(&group, message.from, &reply, since)
    }

    async fn propose(&self, request: Request<RaftMessage>) -> Result<Response<ProposeReply>, Status> {
        let (caller, message) = opened(request);
        let group = self.group()?;
        check_certificate(caller, &message)?;
        group.check_sender(&message)?;
        let command: Command =
            codec::decode("command", &message.payload).map_err(|error| Status::invalid_argument(error.to_string()))?;
        // The leader's clock counts: the state's never goes back, and would stay where another manager's wrong clock is.
        let command = Command { now_ms: clock::now_ms(), ..command };
        let accepted = group.propose_here(&command).await.map_err(|error| error.into_status(&group))?;
        Ok(Response::new(ProposeReply { index: accepted.index, outcome: codec::encode(&accepted.outcome).into() }))
    }

    async fn read_index(&self, request: Request<ReadIndexRequest>) -> Result<Response<ReadIndexReply>, Status> {
        let group = self.group()?;
        if request.get_ref().to != group.id() {
            return Err(Status::failed_precondition("meant for another manager"));
        }
        let index = group.read_index_here().await.map_err(|error| error.into_status(&group))?;
        Ok(Response::new(ReadIndexReply { index }))
    }

    async fn progress(&self, request: Request<ProgressRequest>) -> Result<Response<ProgressReply>, Status> {
        Ok(Response::new(self.seat.progress(request.into_inner().from)))
    }
}

async fn append_chunk(incoming: &mut IncomingSnapshot, expected: u64, offset: u64, data: &[u8]) -> Result<(), Status> {
    if offset != expected {
        return Err(Status::data_loss(format!("a snapshot chunk at {offset} where {expected} was expected")));
    }
    incoming.append(data).await.map_err(|error| Status::internal(error.to_string()))
}
