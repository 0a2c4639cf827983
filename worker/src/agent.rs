//! The life of the agent: opens its data directory, finds what an earlier agent left, runs until it is told to stop.
//!
//! Stopping touches no task: containers and processes run on, and the next agent adopts them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use goat_core::model::{Driver, Inventory};
use goat_tls::Transport;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;
use crate::disk::Gauge;
use crate::fence::{FenceList, Keeper};
use crate::identity::{self, Identity};
use crate::inventory::{Collector, Health};
use crate::journal::Journal;
use crate::lease::Lease;
use crate::metrics::{Meters, Shown};
use crate::outbox::Outbox;
use crate::reconciler::{self, adopt};
use crate::runtime::docker::DockerRuntime;
use crate::runtime::process::ProcessRuntime;
use crate::runtime::{self, Found, Runtime, Runtimes};
use crate::task::Record;
use crate::taskset::TaskSet;
use crate::{credentials, durable, housekeeping, http, notify, peers, session};

/// What the children of the agent are given to end.
const STOP: Duration = Duration::from_secs(1);
/// A watchdog that is started says so within milliseconds.
const WATCHDOG_UP: Duration = Duration::from_secs(1);
/// For the first look at the runtimes; what does not answer by then is looked at when it does.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// The agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
    #[error(transparent)]
    File(#[from] durable::Error),
    #[error("cannot listen on {listen}: is another worker running there? Set `listen` to another address or port")]
    Listen { listen: SocketAddr, source: std::io::Error },
    #[error("cannot listen on {at} for HTTP: change `http_listen`, or stop who is there")]
    ListenHttp { at: SocketAddr, source: std::io::Error },
    #[error(
        "node {node} was removed from the cluster, and its tasks were stopped: to let this machine take part again, empty {dir} and run \
         `goat-worker join`"
    )]
    Removed { node: goat_core::model::NodeId, dir: PathBuf },
    #[error("{0}")]
    Runtime(runtime::Error),
    #[error(
        "task {task} was started with the runtime {driver:?}, which is not enabled now; enable it until the node is drained"
    )]
    RuntimeGone { task: goat_core::model::TaskId, driver: Driver },
}

impl Error {
    /// To start the agent again changes nothing.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Removed { .. } | Self::Credentials(credentials::Error::Missing(_)))
    }
}

/// Runs the agent until `stop` is cancelled. `supervisor`: the program that supervises processes (see
/// [`ProcessRuntime::new`]).
pub async fn run(config: Config, supervisor: PathBuf, stop: CancellationToken) -> Result<(), Error> {
    let identity = Arc::new(Identity::open(&config.data_dir)?);
    let transport = credentials::transport(&config.data_dir, config.plaintext)?;
    let listener = listen(config.listen).await?;
    let journal = Journal::new(identity.root());
    let (left, forgotten) = (journal.load()?, journal.forgotten()?);
    check_runtimes(&config, &left)?;
    let lease = Arc::new(Lease::open(identity.root())?);
    let tasks = TaskSet::new("agent");
    let keeper = Keeper::new(identity.root(), identity.node_id(), &config.docker_host, supervisor.clone(), &tasks);
    let runtimes = runtimes(&config, &identity, supervisor, &tasks)?;
    info!(node_id = %identity.node_id(), name = config.name, version = env!("CARGO_PKG_VERSION"), "goat-worker starts");
    let (health, health_seen) = watch::channel(Health::default());
    let found = first_look(&runtimes, &health).await?;
    let (outbox, meters) = (Arc::new(Outbox::default()), Arc::new(Meters::default()));
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
        meters: meters.clone(),
        tasks: tasks.child("tasks"),
    };
    let (service, reconciler) = reconciler::Service::new(parts, adopt::adopt(left, found), forgotten);
    reconcile(service, &runtimes, &tasks);
    start_watchdog(keeper, health_seen.clone(), &tasks).await;
    meet_others(&config, listener, &identity, &lease, &transport, &tasks);
    let inventory_seen = keep_inventory(&config, &identity, &runtimes, health_seen.clone(), &tasks).await;
    let (removed, node_id) = (Arc::new(Notify::new()), identity.node_id());
    let parts = session::Parts {
        wanted_stance: keep_certificate(&config, &identity, &transport, &tasks),
        name: config.name,
        address: config.address,
        labels: config.labels,
        managers: config.managers,
        bind_source: config.bind_source,
        transport,
        identity,
        reconciler,
        outbox,
        lease,
        meters,
        inventory: inventory_seen,
        runtimes,
        tasks: tasks.clone(),
        removed: removed.clone(),
        standing: watch::Sender::default(),
    };
    show(config.http_listen, &parts, health_seen).await?;
    meet_managers(parts);
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        () = removed.notified() => Err(Error::Removed { node: node_id, dir: config.data_dir }),
    };
    info!("goat-worker stops, its tasks run on");
    tasks.stop(STOP).await;
    outcome
}

/// The pages over HTTP, where they are wanted.
async fn show(at: Option<SocketAddr>, parts: &session::Parts, health: watch::Receiver<Health>) -> Result<(), Error> {
    let Some(at) = at else { return Ok(()) };
    let shown = Shown {
        meters: parts.meters.clone(),
        lease: parts.lease.clone(),
        outbox: parts.outbox.clone(),
        health,
        inventory: parts.inventory.clone(),
        runtimes: parts.runtimes.iter().map(|runtime| runtime.driver()).collect(),
    };
    http::open(at, shown, &parts.tasks).await.map_err(|source| Error::ListenHttp { at, source })
}

/// Else the first thing that managers hear is that nothing may be started here, and the next they hear seconds later.
async fn start_watchdog(keeper: Keeper, mut health: watch::Receiver<Health>, tasks: &TaskSet) {
    let mut watched = keeper.is_alive();
    tasks.spawn("watchdog", keeper.run());
    let up = async {
        let _ = watched.wait_for(|is_alive| *is_alive).await;
        // The reconciler has seen it too.
        let _ = health.wait_for(|health| !health.is_unwatched).await;
    };
    // Without one the worker has other work to do.
    let _ = tokio::time::timeout(WATCHDOG_UP, up).await;
}

async fn listen(at: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(at).await.map_err(|source| Error::Listen { listen: at, source })
}

fn reconcile(service: reconciler::Service, runtimes: &Runtimes, tasks: &TaskSet) {
    let (events, to_reconciler) = mpsc::channel(1_024);
    tasks.spawn("reconciler", service.run(to_reconciler));
    for runtime in runtimes.iter() {
        let (runtime, events) = (runtime.clone(), events.clone());
        tasks.spawn("watch-runtime", async move { runtime.watch(events).await });
    }
}

/// From here on everything runs, and managers may come and go.
fn meet_managers(parts: session::Parts) {
    let tasks = parts.tasks.clone();
    tasks.spawn("notify", notify::run(parts.reconciler.clone(), parts.standing.subscribe()));
    tasks.spawn("session", session::run(parts));
}

/// Answers pings, asks other workers when no manager answers, and keeps the lease.
fn meet_others(
    config: &Config,
    listener: TcpListener,
    identity: &Arc<Identity>,
    lease: &Arc<Lease>,
    transport: &Transport,
    tasks: &TaskSet,
) {
    let connector = peers::connector(transport, config.bind_source);
    let pings = peers::serve(listener.into(), identity.node_id(), lease.clone(), transport.clone(), connector.clone());
    tasks.spawn("answer-pings", pings);
    let prober = peers::Prober::new(identity.clone(), lease.clone(), connector);
    tasks.spawn("ask-workers", prober.run());
    let lease = lease.clone();
    tasks.spawn("lease", async move { lease.keep().await });
}

/// Renews it before it ends, and when the leader says so by way of what is returned.
fn keep_certificate(
    config: &Config,
    identity: &Arc<Identity>,
    transport: &Transport,
    tasks: &TaskSet,
) -> Arc<watch::Sender<String>> {
    let (wanted_stance, wanted) = watch::channel(String::new());
    let keeper = credentials::Keeper {
        identity: identity.clone(),
        managers: config.managers.clone(),
        transport: transport.clone(),
        bind_source: config.bind_source,
        wanted,
    };
    tasks.spawn("certificate", keeper.run());
    Arc::new(wanted_stance)
}

/// Collects what there is here, keeps that true, and keeps the disk from filling up with images.
async fn keep_inventory(
    config: &Config,
    identity: &Arc<Identity>,
    runtimes: &Runtimes,
    health: watch::Receiver<Health>,
    tasks: &TaskSet,
) -> watch::Receiver<Inventory> {
    let gauge = Gauge::new(config.disk_pressure_below);
    let mut collector =
        Collector::new(runtimes.clone(), config.offer, config.advertise.clone(), gauge, health, &config.data_dir);
    let (inventory, seen) = watch::channel(collector.collect().await);
    tasks.spawn("inventory", collector.run(inventory));
    tasks.spawn("watch-ownerless", housekeeping::watch_ownerless(runtimes.clone(), identity.clone()));
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
