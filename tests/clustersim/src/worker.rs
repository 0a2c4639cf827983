//! A worker's agent, put together of goat-worker's parts as `goat_worker::agent` does it, on the simulated network and
//! machine; and its watchdog.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use goat_core::lease::WATCHDOG_AFTER_MS;
use goat_core::model::{Driver, Inventory, Resources};
use goat_tls::{Network, Transport};
use goat_worker::fence::FenceList;
use goat_worker::identity::Identity;
use goat_worker::inventory::Health;
use goat_worker::journal::Journal;
use goat_worker::lease::{Lease, LeaseFile};
use goat_worker::metrics::Meters;
use goat_worker::outbox::Outbox;
use goat_worker::reconciler::{self, adopt};
use goat_worker::runtime::{Runtime, Runtimes};
use goat_worker::taskset::TaskSet;
use goat_worker::{clock, peers, session};
use tokio::sync::{Notify, mpsc, watch};

use crate::kernel::HostId;
use crate::machine::Machines;
use crate::net;
use crate::witness::Witness;

/// Where agents answer pings.
pub const PORT: u16 = 7701;

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct Place {
    pub host: HostId,
    pub dir: PathBuf,
    pub managers: Vec<String>,
    pub network: Network,
    pub machines: Machines,
    /// Hears of leases that lapse.
    pub witness: Option<Witness>,
}

/// What an agent works with from its start on.
struct Agent {
    place: Place,
    identity: Arc<Identity>,
    lease: Arc<Lease>,
    transport: Transport,
    outbox: Arc<Outbox>,
    tasks: TaskSet,
    meters: Arc<Meters>,
}

/// Runs an agent until it is dropped.
pub async fn run(place: Place) -> anyhow::Result<()> {
    let identity = Arc::new(Identity::open(&place.dir)?);
    let lease = Arc::new(Lease::open(identity.root())?);
    let transport = Transport::plaintext().over(place.network.clone());
    let agent = Agent {
        place,
        identity,
        lease,
        transport,
        outbox: Arc::new(Outbox::default()),
        tasks: TaskSet::new("agent"),
        meters: Arc::default(),
    };
    let runtime = agent.place.machines.runtime(agent.place.host);
    let reconciler = agent.reconcile(&runtime).await?;
    let address = agent.meet_others().await?;
    agent.watch_lease();
    let (_inventory, inventory) = watch::channel(inventory(address));
    let parts = session::Parts {
        name: name(agent.place.host),
        address: address.ip(),
        labels: BTreeMap::new(),
        managers: agent.place.managers,
        bind_source: None,
        transport: agent.transport,
        wanted_stance: Arc::new(watch::channel(String::new()).0),
        identity: agent.identity,
        reconciler,
        outbox: agent.outbox,
        lease: agent.lease,
        inventory,
        runtimes: Runtimes::new([runtime]),
        tasks: agent.tasks,
        removed: Arc::new(Notify::new()),
        meters: agent.meters,
        standing: watch::Sender::default(),
    };
    session::run(parts).await;
    anyhow::bail!("the session has ended for good")
}

impl Agent {
    /// Adopts what an earlier agent left, and makes what runs what managers want.
    async fn reconcile(&self, runtime: &Arc<dyn Runtime>) -> anyhow::Result<reconciler::Handle> {
        let root = self.identity.root();
        let journal = Journal::inline(root);
        let (left, forgotten, found) = (journal.load()?, journal.forgotten()?, runtime.list().await?);
        // The watchdog lives as long as the machine.
        let (watched, is_watched) = watch::channel(true);
        let parts = reconciler::Parts {
            node: name(self.place.host),
            address: IpAddr::from(net::ip(self.place.host)),
            identity: self.identity.clone(),
            runtimes: Runtimes::new([runtime.clone()]),
            journal,
            outbox: self.outbox.clone(),
            max_concurrent_starts: 8,
            runtime_down_after: Duration::from_secs(60),
            lease: self.lease.clone(),
            is_watched,
            fence: FenceList::open(root)?,
            health: watch::channel(Health::default()).0,
            tasks: self.tasks.child("tasks"),
            meters: self.meters.clone(),
        };
        let (service, handle) = reconciler::Service::new(parts, adopt::adopt(left, Some(found)), forgotten);
        let (events, to_reconciler) = mpsc::channel(1_024);
        self.tasks.spawn("reconciler", async move {
            let _watched = watched;
            service.run(to_reconciler).await;
        });
        let runtime = runtime.clone();
        self.tasks.spawn("watch-runtime", async move { runtime.watch(events).await });
        Ok(handle)
    }

    /// Tells the witness whether the lease lasts, from the first grant on.
    fn watch_lease(&self) {
        const LOOK: Duration = Duration::from_millis(250);
        let Some(witness) = self.place.witness.clone() else { return };
        let (lease, host) = (self.lease.clone(), self.place.host);
        self.tasks.spawn("watch-lease", async move {
            let mut looks = tokio::time::interval(LOOK);
            let mut was_granted = false;
            loop {
                let lasts = lease.remaining_ms() > 0;
                was_granted |= lasts;
                if was_granted && !lasts {
                    witness.has_no_lease(host);
                }
                looks.tick().await;
            }
        });
    }

    /// Answers pings, asks other workers when no manager answers, and keeps the lease. Where it is reached.
    async fn meet_others(&self) -> anyhow::Result<SocketAddr> {
        let address = SocketAddr::from((net::ip(self.place.host), PORT));
        let listener = self.transport.network().listen(address).await.context("the port of the agent")?;
        let connector = peers::connector(&self.transport, None);
        let (node, transport) = (self.identity.node_id(), self.transport.clone());
        let pings = peers::serve(listener, node, self.lease.clone(), transport, connector.clone());
        self.tasks.spawn("answer-pings", pings);
        let prober = peers::Prober::new(self.identity.clone(), self.lease.clone(), connector);
        self.tasks.spawn("ask-workers", prober.run());
        let lease = self.lease.clone();
        self.tasks.spawn("lease", async move { lease.keep().await });
        Ok(address)
    }
}

/// As a worker is called.
pub fn name(host: HostId) -> String {
    format!("worker-{host}")
}

fn inventory(address: SocketAddr) -> Inventory {
    Inventory {
        total: Resources { cpu_millis: 64_000, memory_bytes: 64 << 30, disk_bytes: 1 << 40 },
        drivers: BTreeSet::from([Driver::Process]),
        images: Vec::new(),
        disk_free_bytes: 1 << 40,
        agent_version: "sim".into(),
        conditions: BTreeSet::new(),
        agent_address: address.to_string(),
        max_tasks: 0,
    }
}

/// The watchdog beside the agent: kills what is leased when the lease has ended, whatever the agent does. It looks into
/// the agent's files, as the real one does.
pub async fn watchdog(host: HostId, dir: PathBuf, machines: Machines) {
    const LOOK_MS: u64 = 500;
    loop {
        let wait_ms = match FenceList::open(&dir) {
            Ok(list) => look(&list, &dir, host, &machines).unwrap_or(LOOK_MS),
            // The agent has not made its directory yet.
            Err(_) => LOOK_MS,
        };
        tokio::time::sleep(Duration::from_millis(wait_ms.clamp(1, LOOK_MS))).await;
    }
}

/// Kills what must not run any more; in how long something may be due, where anything is.
fn look(list: &FenceList, dir: &Path, host: HostId, machines: &Machines) -> Option<u64> {
    let fenced = list.all();
    if fenced.is_empty() {
        return None;
    }
    let lease = LeaseFile::read(dir).ok().flatten();
    let now_ms = clock::boot_ms();
    let mut next = None;
    for task in fenced {
        let end_ms = lease.as_ref().map_or(0, |lease| lease.end_ms(task.may_be_sheltered())) + WATCHDOG_AFTER_MS;
        if end_ms <= now_ms {
            machines.kill(host, task.meta.task);
        } else {
            next = Some(next.unwrap_or(u64::MAX).min(end_ms - now_ms));
        }
    }
    next
}
