//! The worker's session with the leader: found from any manager, held while it lasts, sought again when it is lost.
//!
//! ```text
//! seek (dial) ── welcome ──► hold (stream) ── lost, redirected, stale term, gap ──► seek ...
//! ```
//! A session is only a way of talking. Its end changes nothing about the tasks; only the end of the lease does, and that
//! is the reconciler's.

mod ask;
mod assemble;
mod dial;
mod logs;
mod stream;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use goat_core::model::Inventory;
use goat_core::state::command::TaskReport;
use goat_proto::v1;
use goat_tls::Transport;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::identity::Identity;
use crate::lease::Lease;
use crate::metrics::Meters;
use crate::outbox::Outbox;
use crate::reconciler::{Gone, Handle};
use crate::runtime::Runtimes;
use crate::taskset::TaskSet;

/// Between warnings while tasks of a removed node do not end.
const EVICT_TELL: Duration = Duration::from_secs(60);
const EVICT_LOOK: Duration = Duration::from_millis(200);

/// What sessions work with.
#[derive(Debug, Clone)]
pub struct Parts {
    pub name: String,
    /// Where published ports are reached.
    pub address: IpAddr,
    pub labels: BTreeMap<String, String>,
    /// Managers from the configuration.
    pub managers: Vec<String>,
    pub bind_source: Option<IpAddr>,
    pub transport: Transport,
    /// What the leader says that this worker's certificate should rest on.
    pub wanted_stance: Arc<watch::Sender<String>>,
    pub identity: Arc<Identity>,
    pub reconciler: Handle,
    pub outbox: Arc<Outbox>,
    pub lease: Arc<Lease>,
    pub meters: Arc<Meters>,
    pub inventory: watch::Receiver<Inventory>,
    pub runtimes: Runtimes,
    pub tasks: TaskSet,
    /// Told when this node was removed from the cluster and nothing runs here any more.
    pub removed: Arc<Notify>,
    /// The session that is held; None while one is sought.
    pub standing: watch::Sender<Option<Standing>>,
}

impl Parts {
    fn learn_managers(&self, managers: Vec<String>) {
        if let Err(error) = self.identity.learn_managers(managers) {
            warn!(%error, "the managers could not be remembered");
        }
    }
}

/// With whom a session is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub manager: String,
    pub term: u64,
}

/// A session that a leader has welcomed.
struct Opened {
    address: String,
    to_leader: tokio::sync::mpsc::Sender<v1::WorkerMessage>,
    from_leader: tonic::Streaming<v1::ManagerMessage>,
    term: u64,
    heartbeat_interval: Duration,
    lease_ttl_ms: u64,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum End {
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("nothing was heard for {0} ms")]
    Silent(u64),
    #[error("redirected to {leader:?}")]
    Redirected { leader: String },
    #[error("a message of term {got}, though term {highest} was accepted before")]
    StaleTerm { got: u64, highest: u64 },
    #[error("assignments {got} came after {last}: some are missing")]
    Gap { last: u64, got: u64 },
    #[error("the manager makes no sense: {0}")]
    Nonsense(String),
    #[error("cannot go on: {0}")]
    Own(String),
    #[error("the agent stops")]
    Stopping,
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Stopping
    }
}

/// Seeks and holds sessions; ends only with the agent. Dropping it ends the session and nothing else.
pub async fn run(parts: Parts) {
    let mut dialer = dial::Dialer::new(&parts);
    loop {
        let opened = match dialer.connect(&parts).await {
            Ok(opened) => opened,
            Err(dial::NoSession::Stopping) => return,
            Err(dial::NoSession::Removed) => return evict(&parts).await,
        };
        let address = opened.address.clone();
        info!(manager = address, raft_term = opened.term, "session with the leader");
        parts.meters.session_began(&address);
        parts.standing.send_replace(Some(Standing { manager: address.clone(), term: opened.term }));
        let end = stream::hold(opened, &parts).await;
        parts.standing.send_replace(None);
        parts.meters.session_ended();
        match &end {
            End::Stopping => return,
            End::Redirected { leader } => {
                dialer.redirected(leader);
                info!(address, leader, "the manager does not lead any more");
            }
            _ => {
                dialer.lost(&address);
                warn!(address, error = %end, "the session ended");
            }
        }
    }
}

/// This node was removed: what it still runs is nobody's any more, and is stopped. That takes as long as graces last and as a
/// runtime does not answer: an agent that ended before would leave tasks that nobody knows.
async fn evict(parts: &Parts) {
    warn!("this node was removed from the cluster: its tasks are stopped");
    let mut tell_at = tokio::time::Instant::now() + EVICT_TELL;
    loop {
        // Said again each time: a task that was just being started is known only now.
        if parts.reconciler.assign_all(Vec::new()).await.is_err() {
            return;
        }
        let Ok(tasks) = parts.reconciler.snapshot().await else { return };
        let has_ended =
            |task: &v1::TaskReport| TaskReport::try_from(task.clone()).is_ok_and(|task| task.state.is_terminal());
        let running = tasks.iter().filter(|task| !has_ended(task)).count();
        if running == 0 {
            return parts.removed.notify_one();
        }
        if tokio::time::Instant::now() >= tell_at {
            warn!(running, "this node was removed from the cluster, and tasks of it have not ended yet");
            tell_at += EVICT_TELL;
        }
        tokio::time::sleep(EVICT_LOOK).await;
    }
}
