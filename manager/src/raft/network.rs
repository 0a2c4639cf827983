//! openraft's network over gRPC: one unary call an append, so that each has its own deadline and a dead link cannot hold
//! a stream; openraft packs the entries that were added meanwhile into the next call.
//!
//! ```text
//! heartbeats, votes  own connection   deadline 2 s    whether a peer is reached; waits for no fsync
//! entries            own connection   10 s and more   cut into batches that the link transmits in 0.2 s
//! snapshots          own connection   30 s a chunk
//! ```
//! Calls on the last two end early if heartbeats have not been answered for 4 s: their connections may be dead.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};

use goat_core::model::ClusterId;
use goat_proto::v1::{self, raft_client::RaftClient};
use goat_raft_store::{Member, SnapshotFile, TypeConfig};
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::entry::RaftEntry as _;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::batch::{self, BatchSize};
use super::election::LeaderContact;
use super::peers::{Peers, Purpose};
use super::reach::Reach;
use super::timing::{HEARTBEAT_TIMEOUT, append_timeout};
use super::wire;
use crate::machine::View;

/// openraft ends a call at its hard limit without a word. Ours ends before that, so that it is recorded.
const BEFORE_HARD_LIMIT: Duration = Duration::from_millis(50);
/// An unreachable peer is tried again so often: a follower that is back must hear from the leader before its election
/// timeout, else it asks for votes.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Makes a [`Link`] to each peer.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub id: u64,
    pub peers: Peers,
    pub cluster: ClusterId,
    pub reach: Reach,
    /// Knows where managers have moved before the membership does.
    pub view: View,
    /// Learns that a voter has a longer log than this manager.
    pub contact: Arc<LeaderContact>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, member: &Member) -> Link {
        let address = self.address_of(target).unwrap_or_else(|| member.address.clone());
        Link { network: self.clone(), target, address, batch: BatchSize::default() }
    }
}

impl Network {
    fn address_of(&self, id: u64) -> Option<String> {
        // Never waits for the state's lock.
        self.view.directory().address(id).map(str::to_owned)
    }
}

/// The way to one peer.
#[derive(Debug)]
pub(super) struct Link {
    pub network: Network,
    pub target: u64,
    pub address: String,
    batch: BatchSize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// An append without entries: a heartbeat, a probe, or news of what is committed.
    Heartbeat,
    Append,
    Vote,
    PreVote,
    TransferLeader,
}

impl Call {
    const fn purpose(self) -> Purpose {
        match self {
            Self::Append => Purpose::Log,
            Self::Heartbeat | Self::Vote | Self::PreVote | Self::TransferLeader => Purpose::Raft,
        }
    }
}

/// A peer's answer, and how long it took.
struct Answer<T> {
    body: T,
    elapsed: Duration,
    /// Of it, the time at the peer.
    handled: Duration,
}

impl<T> Answer<T> {
    fn on_the_way(&self) -> Duration {
        self.elapsed.saturating_sub(self.handled)
    }
}

impl Link {
    pub fn message<T: Serialize>(&self, body: &T) -> Result<v1::RaftMessage, RPCError<TypeConfig>> {
        let payload = wire::encode(body).map_err(|error| NetworkError::new(&error))?;
        Ok(v1::RaftMessage {
            cluster_id: self.network.cluster.to_string(),
            to: self.target,
            from: self.network.id,
            payload: payload.into(),
            handled_us: 0,
        })
    }

    /// Heartbeats and votes: whether they are answered is whether the peer is reached.
    async fn call<T, U>(&mut self, call: Call, body: &T, timeout: Duration) -> Result<U, RPCError<TypeConfig>>
    where
        T: Serialize,
        U: DeserializeOwned,
    {
        let outcome = self.ask(call, body, timeout).await;
        let reach = &self.network.reach;
        match outcome {
            Ok(answer) => {
                reach.record_answer(self.target, &self.address, answer.on_the_way());
                Ok(answer.body)
            }
            Err(error) => {
                reach.record_failure(self.target, &self.address, &error);
                self.look_up_address();
                Err(error)
            }
        }
    }

    pub(super) async fn append_batch(
        &mut self,
        request: &AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        if request.entries.is_empty() {
            return self.call(Call::Heartbeat, request, HEARTBEAT_TIMEOUT - BEFORE_HARD_LIMIT).await;
        }
        let bytes = batch::request_bytes(request);
        match self.ask(Call::Append, request, append_timeout(bytes)).await {
            Ok(answer) => {
                let shortest = self.network.reach.shortest_round_trip(self.target);
                let transmission = answer.on_the_way().saturating_sub(shortest);
                self.batch.record_success(bytes, transmission);
                Ok(answer.body)
            }
            Err(error) => {
                self.batch.record_failure();
                self.look_up_address();
                Err(error)
            }
        }
    }

    fn look_up_address(&mut self) {
        if let Some(address) = self.network.address_of(self.target) {
            self.address = address;
        }
    }

    async fn ask<T, U>(&self, call: Call, body: &T, timeout: Duration) -> Result<Answer<U>, RPCError<TypeConfig>>
    where
        T: Serialize,
        U: DeserializeOwned,
    {
        let message = self.message(body)?;
        let client = self.network.peers.raft_for(call.purpose(), &self.address);
        let (connection, client) = client.map_err(|error| Unreachable::new(&error))?;
        let since = Instant::now();
        let reply = tokio::select! {
            reply = tokio::time::timeout(timeout, send(client, call, message)) => {
                reply.map_err(|elapsed| Unreachable::new(&elapsed).into()).and_then(|reply| {
                    reply.map_err(|status| {
                        if status.code() == Code::FailedPrecondition {
                            self.network.reach.record_refusal(self.target, &self.address, &status);
                        }
                        rpc_error(&status)
                    })
                })
            }
            () = self.network.reach.lost(self.target), if call == Call::Append => Err(Unreachable::new(&Lost).into()),
        };
        let elapsed = since.elapsed();
        let answer = reply.and_then(|reply| {
            let body = wire::decode(&reply.payload).map_err(|status| NetworkError::new(&status))?;
            Ok(Answer { body, elapsed, handled: Duration::from_micros(reply.handled_us) })
        });
        if answer.is_err() {
            // Nothing may ever come on this connection again.
            self.network.peers.forget_failed(call.purpose(), &self.address, connection);
        }
        answer
    }

    async fn ask_for_vote(
        &mut self,
        call: Call,
        request: VoteRequest<TypeConfig>,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let reply: VoteResponse<TypeConfig> = self.call(call, &request, before_limit(option)).await?;
        if reply.last_log_id > request.last_log_id {
            self.network.contact.record_longer_log();
        }
        Ok(reply)
    }
}

async fn send(
    mut client: RaftClient<Channel>,
    call: Call,
    message: v1::RaftMessage,
) -> Result<v1::RaftMessage, Status> {
    let reply = match call {
        Call::Heartbeat | Call::Append => client.append(message).await,
        Call::Vote => client.vote(message).await,
        Call::PreVote => client.pre_vote(message).await,
        Call::TransferLeader => client.transfer_leader(message).await,
    };
    reply.map(Response::into_inner)
}

/// The peer does not answer heartbeats.
#[derive(Debug, thiserror::Error)]
#[error("the peer has not answered heartbeats for a while")]
pub(super) struct Lost;

/// The time that a call may take so that it ends before openraft drops it.
fn before_limit(option: &RPCOption) -> Duration {
    let hard = option.hard_ttl();
    hard.saturating_sub(BEFORE_HARD_LIMIT).max(hard / 2)
}

pub(super) fn rpc_error(status: &Status) -> RPCError<TypeConfig> {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::FailedPrecondition => {
            Unreachable::new(status).into()
        }
        _ => NetworkError::new(status).into(),
    }
}

pub(super) fn into_streaming(error: RPCError<TypeConfig>) -> StreamingError<TypeConfig> {
    match error {
        RPCError::Timeout(error) => error.into(),
        RPCError::Unreachable(error) => error.into(),
        RPCError::Network(error) => error.into(),
        RPCError::RemoteError(error) => NetworkError::new(&error).into(),
    }
}

/// The rest of a stream of appends: what was cut off the last request, and the requests to come.
struct Appends<'s, S> {
    link: &'s mut Link,
    rest: Option<AppendEntriesRequest<TypeConfig>>,
    input: S,
}

type Appended = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Appends<'_, S> {
    /// Sends the next batch. After an error nothing more is sent.
    async fn next(mut self) -> Option<(Appended, Option<Self>)> {
        let request = match self.rest.take() {
            Some(rest) => rest,
            None => self.input.next().await?,
        };
        let (request, rest) = batch::split(request, self.link.batch.bytes());
        self.rest = rest;
        let previous = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id()).or(previous);
        let reply = match self.link.append_batch(&request).await {
            Ok(reply) => reply,
            Err(error) => return Some((Err(error), None)),
        };
        let goes_on = match &reply {
            AppendEntriesResponse::Success => true,
            AppendEntriesResponse::PartialSuccess(upto) => *upto == last,
            AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => false,
        };
        Some((Ok(reply.into_stream_result(previous, last)), goes_on.then_some(self)))
    }
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.append_batch(&request).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Appended>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let appends = Appends { link: self, rest: None, input };
        let appended = stream::unfold(Some(appends), |appends| async move { appends?.next().await });
        Box::pin(async move { Ok(appended.boxed()) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(Call::Vote, request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(Call::PreVote, request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            answer = self.send_snapshot(vote, snapshot, &option) => answer,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Call::TransferLeader, &request, before_limit(&option)).await
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY_AFTER)))
    }
}
