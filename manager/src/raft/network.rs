//! openraft's network over gRPC: one unary call an append, so that each has its own timeout and a dead link cannot hold
//! a stream; openraft packs what has piled up meanwhile into the next call.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use goat_core::model::ClusterId;
use goat_proto::v1;
use goat_raft_store::{Member, SnapshotFile, TypeConfig};
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tracing::{info, warn};

use super::peers::Peers;
use super::wire;
use crate::machine::View;

/// A piece of a snapshot on the wire.
const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;
const SNAPSHOT_CHUNKS_AHEAD: usize = 4;
/// An unreachable peer is tried again so often: a follower that is back must hear from the leader before its election
/// timeout, else it asks for votes.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Makes a [`Link`] to each peer.
#[derive(Debug, Clone)]
pub struct Network {
    pub id: u64,
    pub peers: Peers,
    pub cluster: ClusterId,
    pub reach: Reach,
    /// Knows where managers have moved before the membership does.
    pub view: View,
}

/// Which peers could not be reached last time: said once, and once more when they are back, and not for every try.
#[derive(Debug, Clone, Default)]
pub struct Reach(Arc<Mutex<Missed>>);

#[derive(Debug, Default)]
struct Missed {
    peers: BTreeSet<u64>,
    /// Those that answer, and refuse: why.
    refusals: BTreeMap<u64, String>,
}

impl Reach {
    /// Whether Raft's last message to the peer did not get through.
    pub fn is_missed(&self, peer: u64) -> bool {
        self.0.lock().peers.contains(&peer)
    }

    /// It is there, and somebody other than it should be: whoever runs it has to know.
    fn refused(&self, peer: u64, address: &str, status: &Status) {
        let why = status.message();
        if self.0.lock().refusals.insert(peer, why.to_owned()).as_deref() != Some(why) {
            warn!(manager_id = peer, address, error = why, "a manager refuses to talk to this one");
        }
    }

    fn told<T>(&self, peer: u64, address: &str, outcome: &Result<T, RPCError<TypeConfig>>) {
        match outcome {
            Ok(_) => {
                let mut missed = self.0.lock();
                missed.refusals.remove(&peer);
                if missed.peers.remove(&peer) {
                    info!(manager_id = peer, address, "a manager is reached again");
                }
            }
            Err(error) => {
                if self.0.lock().peers.insert(peer) {
                    warn!(manager_id = peer, address, %error, "a manager cannot be reached");
                }
            }
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, member: &Member) -> Link {
        let address = self.address_of(target).unwrap_or_else(|| member.address.clone());
        Link { network: self.clone(), target, address }
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
pub struct Link {
    network: Network,
    target: u64,
    address: String,
}

#[derive(Debug, Clone, Copy)]
enum Call {
    Append,
    Vote,
    PreVote,
    TransferLeader,
}

impl Link {
    fn message<T: Serialize>(&self, body: &T) -> Result<v1::RaftMessage, RPCError<TypeConfig>> {
        let payload = wire::encode(body).map_err(|error| NetworkError::new(&error))?;
        Ok(v1::RaftMessage {
            cluster_id: self.network.cluster.to_string(),
            to: self.target,
            from: self.network.id,
            payload: payload.into(),
        })
    }

    async fn call<T, U>(&mut self, call: Call, body: &T, option: RPCOption) -> Result<U, RPCError<TypeConfig>>
    where
        T: Serialize,
        U: DeserializeOwned,
    {
        let outcome = self.ask(call, body, option).await;
        self.network.reach.told(self.target, &self.address, &outcome);
        if outcome.is_err()
            && let Some(address) = self.network.address_of(self.target)
        {
            self.address = address;
        }
        outcome
    }

    async fn ask<T, U>(&self, call: Call, body: &T, option: RPCOption) -> Result<U, RPCError<TypeConfig>>
    where
        T: Serialize,
        U: DeserializeOwned,
    {
        let message = self.message(body)?;
        let mut client = self.network.peers.raft(&self.address).map_err(|error| Unreachable::new(&error))?;
        let answer = async {
            match call {
                Call::Append => client.append(message).await,
                Call::Vote => client.vote(message).await,
                Call::PreVote => client.pre_vote(message).await,
                Call::TransferLeader => client.transfer_leader(message).await,
            }
        };
        let answer = tokio::time::timeout(option.soft_ttl(), answer)
            .await
            .map_err(|elapsed| Unreachable::new(&elapsed))?
            .map_err(|status| {
                if status.code() == Code::FailedPrecondition {
                    self.network.reach.refused(self.target, &self.address, &status);
                }
                rpc_error(&status)
            })?;
        wire::decode(&answer.into_inner().payload).map_err(|status| NetworkError::new(&status).into())
    }

    async fn send_snapshot(
        &self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, SnapshotFile>,
        option: &RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let head = self.message(&(vote, snapshot.meta)).map_err(into_streaming)?;
        let mut client = self.network.peers.raft(&self.address).map_err(|error| Unreachable::new(&error))?;
        let mut file = snapshot.snapshot.open().await.map_err(|error| NetworkError::new(&error))?;
        let (chunks, receiver) = mpsc::channel(SNAPSHOT_CHUNKS_AHEAD);
        let send = async {
            let mut head = Some(head);
            let mut offset = 0;
            loop {
                let data = file.read_chunk(SNAPSHOT_CHUNK_BYTES).await.map_err(|error| NetworkError::new(&error))?;
                let is_last = data.is_empty();
                let sent = data.len() as u64;
                if is_last && head.is_none() {
                    drop(chunks);
                    return Ok::<_, StreamingError<TypeConfig>>(());
                }
                let chunk = v1::SnapshotChunk { head: head.take(), offset, data };
                // The peer takes no chunk for so long: give up, the next try starts anew.
                match tokio::time::timeout(option.hard_ttl(), chunks.send(chunk)).await {
                    Ok(Ok(())) => offset += sent,
                    Ok(Err(_)) => return Ok(()), // the call has ended and says why
                    Err(elapsed) => return Err(Unreachable::new(&elapsed).into()),
                }
            }
        };
        let call = client.install_snapshot(ReceiverStream::new(receiver));
        let (sent, answer) = tokio::join!(send, call);
        let answer = answer.map_err(|status| into_streaming(rpc_error(&status)))?;
        sent?;
        wire::decode(&answer.into_inner().payload).map_err(|status| NetworkError::new(&status).into())
    }
}

fn rpc_error(status: &Status) -> RPCError<TypeConfig> {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::FailedPrecondition => {
            Unreachable::new(status).into()
        }
        _ => NetworkError::new(status).into(),
    }
}

fn into_streaming(error: RPCError<TypeConfig>) -> StreamingError<TypeConfig> {
    match error {
        RPCError::Timeout(error) => error.into(),
        RPCError::Unreachable(error) => error.into(),
        RPCError::Network(error) => error.into(),
        RPCError::RemoteError(error) => NetworkError::new(&error).into(),
    }
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Call::Append, &request, option).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Call::Vote, &request, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Call::PreVote, &request, option).await
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
        self.call(Call::TransferLeader, &request, option).await
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY_AFTER)))
    }
}
