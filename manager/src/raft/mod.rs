//! The Raft group as the rest of the manager sees it: propose, read, who leads, hand over.
//!
//! ```text
//! propose ─► leader? ─yes► openraft client_write ─► outcome, index
//!               └──no────► the leader's Propose ───┘      retried while a leader is being elected: a command with a
//!                                                         request id, or one that is harmless twice, only
//! ```

mod batch;
mod confirm;
pub(crate) mod election;
mod follower;
mod handover;
mod heartbeat;
mod insight;
mod membership;
pub mod network;
pub mod peers;
pub mod proposer;
mod quorum;
mod reach;
mod reads;
pub mod seat;
mod seated;
pub mod service;
mod snapshot_transfer;
mod store;
mod timing;
pub mod welcome;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goat_core::model::ClusterId;
use goat_proto::v1::RaftMessage;
use goat_raft_store::{Base, LogStore, MachineStore, Member, TypeConfig};
use openraft::alias::WatchReceiverOf;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use openraft::{Instant, RaftMetrics, ServerState};
use tonic::Status;

use crate::backup::schedule::Account;
use crate::clock;
use crate::config::Config;
use crate::duty::Duty;
use crate::machine::{Machine, View};
use crate::metrics::meters::Meters;
use crate::taskset::TaskSet;
use crate::traced::Traced;
pub use seated::{Roster, Seated};

use follower::Acknowledged;
use network::Network;
use peers::Peers;
pub use reach::LinkFigures;
use reach::Reach;
use timing::ElectionTiming;
use welcome::OwnLog;

pub type Raft = openraft::Raft<TypeConfig, MachineStore<Machine>>;
pub type Metrics = RaftMetrics<TypeConfig>;

/// How long a request waits for a leader before it is told that there is none.
pub const LEADER_WAIT: Duration = Duration::from_millis(1_800);

/// Raft's own tasks end at their next await.
const STOP_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] goat_raft_store::Error),
    #[error(transparent)]
    Unwelcome(#[from] welcome::Error),
    #[error(
        "{0} holds no manager's data: make a new cluster with `goat-manager init`, or join one with `goat-manager join`; if it is \
         simply the wrong directory, correct data_dir"
    )]
    Empty(String),
    #[error("{0} cannot be kept from others' eyes: {1}")]
    Private(String, std::io::Error),
    #[error("raft: {0}")]
    Raft(String),
}

/// Who leads, as far as this manager knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    pub id: u64,
    pub name: String,
    pub address: String,
    pub term: u64,
    /// This manager itself.
    pub is_here: bool,
}

/// A member of the group and its role.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    pub id: u64,
    pub name: String,
    pub address: String,
    pub is_voter: bool,
}

/// A handle on this manager's part in the group. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: u64,
    raft: Raft,
    store: LogStore,
    peers: Peers,
    network: Network,
    acknowledged: Acknowledged,
    rounds: confirm::Rounds,
    tasks: TaskSet,
    view: View,
    meters: Meters,
    cluster: ClusterId,
    /// When a leader last sent entries or a heartbeat (CLOCK_BOOTTIME, ms); 0 for never.
    heard_ms: AtomicU64,
    backups: Account,
    traced: Traced,
}

impl Group {
    /// Opens the store, on `base` or RocksDB, and runs Raft on it. Refuses if the others say that it may not take part. Raft's
    /// own duties belong to `tasks`.
    pub async fn start(
        config: &Config,
        seated: Seated,
        peers: Peers,
        view: View,
        base: Option<Base>,
        tasks: &TaskSet,
    ) -> Result<Self, Error> {
        let Seated { id, cluster } = seated;
        let options = goat_raft_store::Options {
            dir: config.data_dir.clone(),
            identity: seated.identity(),
            ..goat_raft_store::Options::default()
        };
        let machine = Machine::new(view.clone());
        let began = clock::boot_ms();
        let (store, machine) = store::open(options, machine, base).await?;
        let ends = store.ends();
        let own = OwnLog { last_index: ends.last.map_or(0, |last| last.index), vote_term: store.vote_term() };
        store::tell_read(clock::boot_ms().saturating_sub(began), ends, &view);
        welcome::check(&Roster::new(config, seated, &view), &peers, own).await?;
        let network = Network {
            id,
            peers: peers.clone(),
            cluster,
            reach: Reach::default(),
            view: view.clone(),
            contact: Arc::default(),
        };
        let raft = Raft::new(id, Arc::new(timing::raft_config(config)), network.clone(), store.clone(), machine)
            .await
            .map_err(|error| Error::Raft(error.to_string()))?;
        let tasks = tasks.child("raft");
        let election = ElectionTiming::new(config);
        tasks.spawn_duty(Duty::Elections, election::run(id, raft.clone(), network.contact.clone(), election));
        let interval = Duration::from_millis(config.heartbeat_interval_ms);
        tasks.spawn_duty(Duty::Heartbeats, heartbeat::run(raft.clone(), interval));
        let meters = Meters::new(insight::with_metrics(&raft, |metrics| metrics.current_term));
        let inner = Inner {
            id,
            raft,
            store,
            peers,
            network,
            acknowledged: Acknowledged::default(),
            rounds: confirm::Rounds::default(),
            tasks,
            view,
            meters,
            cluster,
            heard_ms: AtomicU64::new(0),
            backups: Account::default(),
            traced: Traced::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes a group of this manager alone, where there is none yet.
    pub async fn initialize(&self, name: &str, address: &str) -> Result<(), Error> {
        if self.has_members() {
            return Ok(());
        }
        let member = Member { name: name.to_owned(), address: address.to_owned() };
        let members = BTreeMap::from([(self.inner.id, member)]);
        self.inner.raft.initialize(members).await.map_err(|error| Error::Raft(error.to_string()))
    }

    /// Returns once a membership is there.
    pub async fn wait_for_members(&self) -> Result<(), Error> {
        let found = self.inner.raft.wait(None).metrics(has_members, "a membership").await;
        found.map(|_| ()).map_err(|error| Error::Raft(error.to_string()))
    }

    /// This manager's id.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    /// The applied state.
    pub fn view(&self) -> &View {
        &self.inner.view
    }

    /// How saving the state at intervals goes.
    pub fn backups(&self) -> &Account {
        &self.inner.backups
    }

    /// The traced requests that came through here lately.
    pub fn traced(&self) -> &Traced {
        &self.inner.traced
    }

    /// Connections to the other managers.
    pub fn peers(&self) -> &Peers {
        &self.inner.peers
    }

    pub fn cluster(&self) -> ClusterId {
        self.inner.cluster
    }

    /// What this manager's certificate rests on; empty where it runs unencrypted.
    pub fn stance(&self) -> String {
        self.inner.peers.stance()
    }

    /// This manager's name; empty until it has heard of itself.
    pub fn name(&self) -> String {
        self.view().directory().name(self.inner.id).unwrap_or_default().to_owned()
    }

    /// Refuses what was meant for another manager, and what comes from another cluster or from a manager that was removed.
    pub fn check_sender(&self, message: &RaftMessage) -> Result<(), Status> {
        let own = self.inner.cluster.to_string();
        if own != message.cluster_id {
            return Err(Status::failed_precondition(format!(
                "manager {} belongs to cluster {}, this one to cluster {own}",
                message.from, message.cluster_id
            )));
        }
        if message.to != self.inner.id {
            return Err(Status::failed_precondition(format!(
                "manager {} is here, and the message from manager {} is for manager {}: it runs on another's data directory, or at \
                 another's address",
                self.inner.id, message.from, message.to
            )));
        }
        if self.is_removed(message.from) {
            return Err(Status::failed_precondition(format!("manager {} was removed from the cluster", message.from)));
        }
        Ok(())
    }

    /// Raft's own account of itself.
    pub fn metrics(&self) -> WatchReceiverOf<TypeConfig, Metrics> {
        self.inner.raft.metrics()
    }

    /// Whether a membership is in the log.
    pub fn has_members(&self) -> bool {
        self.with_metrics(has_members)
    }

    /// Records that this manager gave its vote: the candidate gets the time to become the leader.
    pub(crate) fn record_vote(&self) {
        self.inner.network.contact.record_vote(clock::boot_ms());
    }

    /// A leader has just been heard.
    pub(crate) fn heard_leader(&self) {
        self.inner.heard_ms.store(clock::boot_ms(), Ordering::Relaxed);
    }

    /// How long ago this manager's state was known to be the group's (ms): as leader, when a quorum last answered it;
    /// else when it last heard the leader. None where that has never been.
    pub fn age_ms(&self) -> Option<u64> {
        if self.leader().is_some_and(|leader| leader.is_here) {
            let acked = self.with_metrics(|metrics| metrics.last_quorum_acked)?;
            return Some(acked.elapsed().as_millis() as u64);
        }
        match self.inner.heard_ms.load(Ordering::Relaxed) {
            0 => None,
            heard_ms => Some(clock::boot_ms().saturating_sub(heard_ms)),
        }
    }

    /// Who leads, as far as this manager knows.
    pub fn leader(&self) -> Option<Leader> {
        self.with_metrics(|metrics| leader_of(metrics, self.inner.id))
    }

    /// The addresses of all members.
    pub fn addresses(&self) -> Vec<String> {
        self.members().into_iter().map(|peer| peer.address).collect()
    }

    /// Returns when Raft has stopped by itself, with the reason.
    pub async fn stopped(&self) -> String {
        let mut metrics = self.inner.raft.metrics();
        loop {
            if let Some(fatal) = self.fatal() {
                return fatal;
            }
            if metrics.changed().await.is_err() {
                return "it has ended".into();
            }
        }
    }

    /// Ends Raft; nothing that was acknowledged is lost by it.
    pub async fn shutdown(&self) {
        self.inner.tasks.stop(STOP_GRACE).await;
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
    }
}

fn has_members(metrics: &Metrics) -> bool {
    metrics.membership_config.membership().voter_ids().next().is_some()
}

/// Who leads according to these metrics.
pub fn leader_of(metrics: &Metrics, own_id: u64) -> Option<Leader> {
    let id = metrics.current_leader?;
    let is_here = id == own_id;
    if is_here && metrics.state != ServerState::Leader {
        return None;
    }
    let member = metrics.membership_config.membership().get_node(&id)?;
    Some(Leader { id, name: member.name.clone(), address: member.address.clone(), term: metrics.current_term, is_here })
}
