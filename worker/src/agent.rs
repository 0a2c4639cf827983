//! The life of the agent: opens its data directory, finds what an earlier agent left, runs until it is told to stop.
//!
//! Stopping touches no task: containers and processes run on, and the next agent adopts them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use goat_core::model::{Driver, Inventory};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;
use crate::disk::Gauge;
use crate::fence::{FenceList, Keeper};
use crate::identity::{self, Identity};
use crate::inventory::{Collector, Health};
use crate::journal::Journal;
use crate::lease::Lease;
use crate::outbox::Outbox;
use crate::reconciler::{self, adopt};
use crate::runtime::docker::DockerRuntime;
use crate::runtime::process::ProcessRuntime;
use crate::runtime::{self, Found, Runtime, Runtimes};
use crate::task::Record;
use crate::taskset::TaskSet;
use crate::{durable, housekeeping, peers, session};

/// What the children of the agent are given to end.
const STOP: Duration = Duration::from_secs(1);
/// For the first look at the runtimes; what does not answer by then is looked at when it does.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// The agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error(transparent)]
    File(#[from] durable::Error),
    #[error("cannot listen on {listen}: is another worker running there? Set `listen` to another address or port")]
    Listen { listen: std::net::SocketAddr, source: std::io::Error },
    #[error("{0}")]
    Runtime(runtime::Error),
    #[error(
        "task {task} was started with the runtime {driver:?}, which is not enabled now; enable it until the node is drained"
    )]
    RuntimeGone { task: goat_core::model::TaskId, driver: Driver },
}

/// Runs the agent until `stop` is cancelled. `supervisor`: the program that supervises processes (see
/// [`ProcessRuntime::new`]).
pub async fn run(config: Config, supervisor: PathBuf, stop: CancellationToken) -> Result<(), Error> {
    let identity = Arc::new(Identity::open(&config.data_dir)?);
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|source| Error::Listen { listen: config.listen, source })?;
    let journal = Journal::new(identity.root());
    let left = journal.load()?;
    check_runtimes(&config, &left)?;
    let lease = Arc::new(Lease::open(identity.root())?);
    let tasks = TaskSet::new("agent");
    let keeper = Keeper::new(identity.root(), identity.node_id(), &config.docker_host, supervisor.clone(), &tasks);
    let runtimes = runtimes(&config, &identity, supervisor, &tasks)?;
    info!(node_id = %identity.node_id(), name = config.name, version = env!("CARGO_PKG_VERSION"), "goat-worker starts");
    let (health, health_seen) = watch::channel(Health::default());
    let found = first_look(&runtimes, &health).await?;
    let outbox = Arc::new(Outbox::default());
    let parts = reconciler::Parts {
        node: config.name.clone(),
        address: config.address,
        identity: identity.clone(),
        runtimes: runtimes.clone(),
        journal,
        outbox: outbox.clone(),
        max_concurrent_starts: config.max_concurrent_starts,
        runtime_down_after: config.runtime_down_after,
        lease: lease.clone(),
        is_watched: keeper.is_alive(),
        fence: FenceList::open(identity.root())?,
        health,
        tasks: tasks.child("tasks"),
    };
    let (service, reconciler) = reconciler::Service::new(parts, adopt::adopt(left, found));
    let (events, to_reconciler) = mpsc::channel(1_024);
    tasks.spawn("reconciler", service.run(to_reconciler));
    for runtime in runtimes.iter() {
        let (runtime, events) = (runtime.clone(), events.clone());
        tasks.spawn("watch-runtime", async move { runtime.watch(events).await });
    }
    tasks.spawn("watchdog", keeper.run());
    tasks.spawn("answer-pings", peers::serve(listener, identity.node_id(), lease.clone(), config.bind_source));
    let prober = peers::Prober::new(identity.clone(), lease.clone(), config.bind_source);
    tasks.spawn("ask-workers", prober.run());
    tasks.spawn("lease", {
        let lease = lease.clone();
        async move { lease.keep().await }
    });
    let inventory_seen = keep_inventory(&config, &runtimes, health_seen, &tasks).await;
    let parts = session::Parts {
        name: config.name,
        address: config.address,
        labels: config.labels,
        managers: config.managers,
        bind_source: config.bind_source,
        identity,
        reconciler,
        outbox,
        lease,
        inventory: inventory_seen,
        runtimes,
        tasks: tasks.clone(),
    };
    tasks.spawn("session", session::run(parts));
    stop.cancelled().await;
    info!("goat-worker stops, its tasks run on");
    tasks.stop(STOP).await;
    Ok(())
}

/// Collects what there is here, keeps that true, and keeps the disk from filling up with images.
async fn keep_inventory(
    config: &Config,
    runtimes: &Runtimes,
    health: watch::Receiver<Health>,
    tasks: &TaskSet,
) -> watch::Receiver<Inventory> {
    let gauge = Gauge::new(config.disk_pressure_below);
    let mut collector =
        Collector::new(runtimes.clone(), config.offer, config.advertise.clone(), gauge, health, &config.data_dir);
    let (inventory, seen) = watch::channel(collector.collect().await);
    tasks.spawn("inventory", collector.run(inventory));
    tasks.spawn("prune-images", housekeeping::run(runtimes.clone(), config.prune_images_after, seen.clone()));
    seen
}

fn check_runtimes(config: &Config, left: &[Record]) -> Result<(), Error> {
    let is_gone = |record: &&Record| !record.state.is_terminal() && !config.runtimes.contains(&record.meta.driver);
    match left.iter().find(is_gone) {
        Some(record) => Err(Error::RuntimeGone { task: record.meta.task, driver: record.meta.driver }),
        None => Ok(()),
    }
}

fn runtimes(config: &Config, identity: &Identity, supervisor: PathBuf, tasks: &TaskSet) -> Result<Runtimes, Error> {
    let mut runtimes: Vec<Arc<dyn Runtime>> = Vec::new();
    for driver in &config.runtimes {
        runtimes.push(match driver {
            Driver::Docker => Arc::new(DockerRuntime::new(identity.node_id(), &config.docker_host, identity.root())),
            Driver::Process => Arc::new(ProcessRuntime::new(identity.root(), supervisor.clone(), tasks)?),
        });
    }
    Ok(Runtimes::new(runtimes))
}

/// What there is. None where a runtime does not answer, which is no reason not to start: it may come up after this.
async fn first_look(runtimes: &Runtimes, health: &watch::Sender<Health>) -> Result<Option<Vec<Found>>, Error> {
    let mut all = Some(Vec::new());
    for runtime in runtimes.iter() {
        let looked = tokio::time::timeout(FIRST_LOOK, async {
            runtime.ping().await?;
            runtime.list().await
        });
        match looked.await {
            Ok(Ok(found)) => all = all.map(|all: Vec<Found>| all.into_iter().chain(found).collect()),
            Ok(Err(error @ runtime::Error::Unsupported { .. })) => return Err(Error::Runtime(error)),
            Ok(Err(error)) => {
                warn!(driver = ?runtime.driver(), %error, "the runtime does not answer yet");
                health.send_modify(|health| _ = health.down.insert(runtime.driver()));
                all = None;
            }
            Err(_) => {
                warn!(driver = ?runtime.driver(), "the runtime does not answer yet");
                health.send_modify(|health| _ = health.down.insert(runtime.driver()));
                all = None;
            }
        }
    }
    Ok(all)
}
