//! A Raft group in one process: real stores, real openraft, and calls in place of a network.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goat_raft_store::{MachineStore, Member, Payload, SnapshotFile, TypeConfig};
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{
    ClientWriteError, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{Config, SnapshotPolicy};
use parking_lot::Mutex;

use super::{Store, Toy, reopen};

pub type Raft = openraft::Raft<TypeConfig, MachineStore<Toy>>;

/// Who can be called.
#[derive(Clone, Default)]
pub struct Net(Arc<Mutex<BTreeMap<u64, (Raft, goat_raft_store::LogStore)>>>);

pub struct Link {
    net: Net,
    target: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("manager {0} is not there")]
struct Away(u64);

impl Link {
    fn target(&self) -> Result<(Raft, goat_raft_store::LogStore), Unreachable<TypeConfig>> {
        self.net.0.lock().get(&self.target).cloned().ok_or_else(|| Unreachable::new(&Away(self.target)))
    }
}

impl RaftNetworkFactory<TypeConfig> for Net {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _: &Member) -> Link {
        Link { net: self.clone(), target }
    }
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let (raft, _) = self.target()?;
        Ok(raft.append_entries(request).await.map_err(|error| NetworkError::new(&error))?)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let (raft, _) = self.target()?;
        Ok(raft.vote(request).await.map_err(|error| NetworkError::new(&error))?)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, SnapshotFile>,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let (raft, log) = self.target()?;
        let received = receive(&log, &snapshot.snapshot).await.map_err(|error| NetworkError::new(&error))?;
        let received = SnapshotOf::<TypeConfig, _> { meta: snapshot.meta, snapshot: received };
        Ok(raft.install_full_snapshot(vote, received).await.map_err(|error| NetworkError::new(&error))?)
    }
}

async fn receive(
    log: &goat_raft_store::LogStore,
    snapshot: &SnapshotFile,
) -> Result<SnapshotFile, goat_raft_store::Error> {
    let mut incoming = log.receive_snapshot().await?;
    let mut reader = snapshot.open().await?;
    loop {
        let chunk = reader.read_chunk(64 << 10).await?;
        if chunk.is_empty() {
            return incoming.finish().await;
        }
        incoming.append(&chunk).await?;
    }
}

/// One manager of the group.
pub struct Manager {
    pub raft: Raft,
    pub toy: Toy,
}

/// Starts manager `id` on its directory.
pub async fn start(net: &Net, dir: &Path, id: u64) -> Manager {
    let config = Config {
        heartbeat_interval: 50,
        election_timeout_min: 300,
        election_timeout_max: 600,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        max_payload_entries: 512,
        api_batch_capacity: 512,
        ..Config::default()
    };
    let config = Arc::new(config.validate().expect("a sound config"));
    let dir = dir.join(id.to_string());
    let Store { log, machine, toy } = tokio::task::spawn_blocking(move || reopen(&dir)).await.unwrap();
    let raft = Raft::new(id, config, net.clone(), log.clone(), machine).await.expect("raft starts");
    net.0.lock().insert(id, (raft.clone(), log));
    Manager { raft, toy }
}

/// Stops a manager for good.
pub async fn stop(net: &Net, id: u64, manager: Manager) {
    net.0.lock().remove(&id);
    manager.raft.shutdown().await.expect("raft stops");
}

pub fn members(ids: std::ops::RangeInclusive<u64>) -> BTreeMap<u64, Member> {
    ids.map(|id| (id, Member { name: format!("m{id}"), address: format!("127.0.0.1:{id}") })).collect()
}

/// Waits until somebody leads, and says who.
pub async fn leader(manager: &Manager) -> u64 {
    let metrics = manager.raft.wait(Some(Duration::from_secs(20)));
    let metrics = metrics.metrics(|metrics| metrics.current_leader.is_some(), "a leader").await;
    metrics.expect("a leader in time").current_leader.expect("just seen")
}

/// Writes `count` times from each of `clients` at once; returns the last index.
pub async fn write(raft: &Raft, clients: u64, count: u64, payload_bytes: usize) -> u64 {
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let raft = raft.clone();
        tasks.spawn(async move {
            let mut last = 0;
            for number in 0..count {
                let mut command = format!("client-{client}={number}.").into_bytes();
                command.resize(payload_bytes.max(command.len()), b'.');
                last = write_one(&raft, command.into()).await;
            }
            last
        });
    }
    tasks.join_all().await.into_iter().max().unwrap_or(0)
}

/// Writes a pair, which may be done twice without harm; returns its index.
async fn write_one(raft: &Raft, command: bytes::Bytes) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match raft.client_write(Payload(command.clone())).await {
            Ok(written) => return written.log_id().index(),
            // A new leader takes no writes until a quorum has confirmed it.
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("a write to the leader: {error}"),
        }
    }
}
