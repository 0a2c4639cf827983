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
use goat_worker::outbox::Outbox;
use goat_worker::reconciler::{self, adopt};
use goat_worker::runtime::Runtimes;
use goat_worker::taskset::TaskSet;
use goat_worker::{clock, peers, session};
use tokio::sync::{Notify, mpsc, watch};

use crate::kernel::HostId;
use crate::machine::Machines;
use crate::net;

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
}

/// Runs an agent until it is dropped.
pub async fn run(place: Place) -> anyhow::Result<()> {
    let identity = Arc::new(Identity::open(&place.dir)?);
    let transport = Transport::plaintext().over(place.network.clone());
    let address = SocketAddr::from((net::ip(place.host), PORT));
    let listener = transport.network().listen(address).await.context("the port of the agent")?;
    let journal = Journal::inline(identity.root());
    let left = journal.load()?;
    let lease = Arc::new(Lease::open(identity.root())?);
    let tasks = TaskSet::new("agent");
    let runtime = place.machines.runtime(place.host);
    let found = runtime.list().await?;
    let runtimes = Runtimes::new([runtime.clone()]);
    let outbox = Arc::new(Outbox::default());
    let (_watched, is_watched) = watch::channel(true);
    let parts = reconciler::Parts {
        node: name(place.host),
        address: IpAddr::from(net::ip(place.host)),
        identity: identity.clone(),
        runtimes: runtimes.clone(),
        journal,
        outbox: outbox.clone(),
        max_concurrent_starts: 8,
        runtime_down_after: Duration::from_secs(60),
        lease: lease.clone(),
        is_watched,
        fence: FenceList::open(identity.root())?,
        health: watch::channel(Health::default()).0,
        tasks: tasks.child("tasks"),
    };
    let (service, reconciler) = reconciler::Service::new(parts, adopt::adopt(left, Some(found)));
    let (events, to_reconciler) = mpsc::channel(1_024);
    tasks.spawn("reconciler", service.run(to_reconciler));
    tasks.spawn("watch-runtime", async move { runtime.watch(events).await });
    let connector = peers::connector(&transport, None);
    let pings = peers::serve(listener, identity.node_id(), lease.clone(), transport.clone(), connector.clone());
    tasks.spawn("answer-pings", pings);
    tasks.spawn("ask-workers", peers::Prober::new(identity.clone(), lease.clone(), connector).run());
    let keep = lease.clone();
    tasks.spawn("lease", async move { keep.keep().await });
    let (_inventory, inventory) = watch::channel(inventory(address));
    let parts = session::Parts {
        name: name(place.host),
        address: IpAddr::from(net::ip(place.host)),
        labels: BTreeMap::new(),
        managers: place.managers,
        bind_source: None,
        transport,
        wanted_stance: Arc::new(watch::channel(String::new()).0),
        identity,
        reconciler,
        outbox,
        lease,
        inventory,
        runtimes,
        tasks: tasks.clone(),
        removed: Arc::new(Notify::new()),
    };
    session::run(parts).await;
    anyhow::bail!("the session has ended for good")
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
