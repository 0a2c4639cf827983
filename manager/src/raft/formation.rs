//! How a group comes to be, and why a manager without its disk is not let back in.
//!
//! ```text
//!  new    the data directory holds nothing. Every listed manager is asked how far it is, until each has
//!         answered "new" or "ready"; if one belongs to a cluster already, this manager refuses to start.
//!  ready  the directory is made, Raft runs, no membership yet. The manager with the lowest id makes the
//!         group as soon as all are ready; the others wait to be contacted.
//!  member a membership is in the log.
//! ```
//! A manager that has voted or acknowledged entries and then lost its disk must not vote again under the same id: it
//! could elect a leader that misses what it had acknowledged. Its directory is new while the others are members, which
//! is exactly what the first step refuses.

use std::sync::Arc;
use std::time::Duration;

use goat_core::codec;
use goat_proto::v1::{ProgressReply, ProgressRequest};
use openraft::type_config::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::Group;
use super::peers::Peers;
use crate::config::{Config, Peer};

const ASK_TIMEOUT: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Once Raft runs.
const ASK_SLOWLY: Duration = Duration::from_secs(1);
/// While waiting, the log says so this often.
const REMIND_ROUNDS: u32 = 50;

const NEW: &str = "new";
const READY: &str = "ready";
const MEMBER: &str = "member";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the data directory {dir} is empty, but {peer} already belongs to cluster {cluster}. A manager that has lost its \
         data cannot come back under its old id: put the old directory back, or replace this manager by a new one. If \
         {dir} is simply the wrong directory, correct data_dir"
    )]
    LostDisk { dir: String, peer: String, cluster: String },
    #[error(
        "the manager at {address} says that it is {found_name:?} (id {found}), but `peers` here says id {expected}. Two managers \
         must not share an id or an address: make the `peers` lists the same everywhere"
    )]
    WrongPeer { address: String, expected: u64, found: u64, found_name: String },
    #[error(
        "the data directory {dir} belongs to cluster {own}, but the managers in `peers` are cluster {theirs}: correct data_dir \
         or `peers`"
    )]
    OtherCluster { dir: String, own: String, theirs: String },
}

/// How far this manager is. Shared with the service that others ask.
#[derive(Debug)]
pub struct Formation {
    id: u64,
    name: String,
    stage: Mutex<Stage>,
}

#[derive(Debug)]
enum Stage {
    New,
    Group(Group),
}

impl Formation {
    /// At stage "new".
    pub fn new(config: &Config) -> Self {
        Self { id: config.id, name: config.name.clone(), stage: Mutex::new(Stage::New) }
    }

    /// Raft runs from now on.
    pub fn joined(&self, group: Group) {
        *self.stage.lock() = Stage::Group(group);
    }

    /// The group, once Raft runs.
    pub fn group(&self) -> Option<Group> {
        match &*self.stage.lock() {
            Stage::New => None,
            Stage::Group(group) => Some(group.clone()),
        }
    }

    /// What others are told.
    pub fn progress(&self) -> ProgressReply {
        let (progress, phase) = match self.group() {
            None => (of_this_build(), NEW),
            Some(group) => (group.progress(), if group.has_members() { MEMBER } else { READY }),
        };
        ProgressReply { id: self.id, name: self.name.clone(), phase: phase.to_owned(), ..progress }
    }

    /// Waits until no listed manager can belong to a cluster. Only for a directory that holds nothing.
    pub async fn wait_for_new_peers(&self, config: &Config, peers: &Peers) -> Result<(), Error> {
        self.wait(config, peers, |reply| reply.phase == NEW || reply.phase == READY).await
    }

    /// Waits until all listed managers run Raft, so that the group can be made. False: somebody has made it already.
    pub async fn wait_for_ready_peers(&self, config: &Config, peers: &Peers) -> Result<(), Error> {
        self.wait(config, peers, |reply| reply.phase == READY || reply.phase == MEMBER).await
    }

    /// Returns when a majority turns out to be another cluster than the one that this manager's directory belongs to. One
    /// stranger among friends is the stranger's trouble.
    pub async fn find_other_cluster(&self, config: &Config, group: &Group) -> Error {
        let majority = config.peers.len() / 2 + 1;
        let mut unknown: Vec<&Peer> = config.peers.iter().filter(|peer| peer.id != self.id).collect();
        let mut strangers = Vec::new();
        loop {
            let own = group.cluster().text();
            let mut still = Vec::new();
            for peer in unknown {
                match ask(group.peers(), &peer.address).await.map(|reply| reply.cluster_id) {
                    Some(theirs) if !own.is_empty() && !theirs.is_empty() => {
                        if theirs != own {
                            warn!(
                                manager = peer.name,
                                cluster_id = theirs,
                                "a manager in `peers` belongs to another cluster"
                            );
                            strangers.push(theirs);
                        }
                    }
                    _ => still.push(peer),
                }
            }
            if strangers.len() >= majority
                && let Some(theirs) = strangers.pop()
            {
                return Error::OtherCluster { dir: config.data_dir.display().to_string(), own, theirs };
            }
            if still.is_empty() {
                return std::future::pending().await;
            }
            unknown = still;
            tokio::time::sleep(ASK_SLOWLY).await;
        }
    }

    async fn wait(
        &self,
        config: &Config,
        peers: &Peers,
        is_far_enough: fn(&ProgressReply) -> bool,
    ) -> Result<(), Error> {
        let fresh = self.group().is_none();
        let mut missing: Vec<&Peer> = config.peers.iter().filter(|peer| peer.id != self.id).collect();
        let mut round = 0;
        loop {
            let mut still = Vec::new();
            for peer in missing {
                match ask(peers, &peer.address).await {
                    Some(reply) => {
                        check_identity(peer, &reply)?;
                        if fresh && reply.phase == MEMBER {
                            return Err(Error::LostDisk {
                                dir: config.data_dir.display().to_string(),
                                peer: peer.name.clone(),
                                cluster: reply.cluster_id,
                            });
                        }
                        if !is_far_enough(&reply) {
                            still.push(peer);
                        }
                    }
                    None => still.push(peer),
                }
            }
            if still.is_empty() {
                return Ok(());
            }
            if round % REMIND_ROUNDS == 0 {
                let names: Vec<_> = still.iter().map(|peer| format!("{}@{}", peer.name, peer.address)).collect();
                info!(waiting_for = names.join(", "), "waiting for all first managers to come up");
            }
            round += 1;
            missing = still;
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

impl Group {
    /// How far this manager is, for those who ask it and for its own users.
    pub fn progress(&self) -> ProgressReply {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        ProgressReply {
            id: self.id(),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |log_id| log_id.index),
            cluster_id: self.inner.cluster.text(),
            ..of_this_build()
        }
    }
}

fn of_this_build() -> ProgressReply {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    ProgressReply { version, format: codec::FORMAT.into(), ..ProgressReply::default() }
}

fn check_identity(peer: &Peer, reply: &ProgressReply) -> Result<(), Error> {
    if reply.id == peer.id {
        return Ok(());
    }
    Err(Error::WrongPeer {
        address: peer.address.clone(),
        expected: peer.id,
        found: reply.id,
        found_name: reply.name.clone(),
    })
}

/// How far the manager at `address` is; None where none answers.
pub async fn ask(peers: &Peers, address: &str) -> Option<ProgressReply> {
    let mut client = peers.raft(address).ok()?;
    let reply = tokio::time::timeout(ASK_TIMEOUT, client.progress(ProgressRequest {})).await.ok()?.ok()?;
    Some(reply.into_inner())
}

/// A handle for the service.
pub type Shared = Arc<Formation>;
