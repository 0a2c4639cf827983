//! Power loss: managers whose disks are file systems of their own lose power under load, one, most or all of them at once,
//! some a second time while they start. Clients remember what was acknowledged, and the judges are those of histories.

pub mod control;
pub mod cut;
pub mod damage;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use goat_testcluster::Cluster;
use goat_testcluster::cluster::Options;
use goat_testcluster::images;
pub use goat_testcluster::images::FileSystem;
use goat_testcluster::runtime::RuntimeKind;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rand::RngExt;
use tokio_util::sync::CancellationToken;

use crate::faults::{Field, Who};
use crate::report::Report;
use crate::round::{Played, conclude, end, field};
use crate::workload::{Load, Workload};

/// In rounds with snapshots.
const SNAPSHOT_ENTRIES: u64 = 300;
const NO_SNAPSHOTS: u64 = 100_000_000;
/// Quick elections: most of a cycle is the wait for a leader.
const TIMING: [&str; 6] =
    ["--heartbeat-interval-ms", "50", "--election-timeout-min-ms", "120", "--election-timeout-max-ms", "240"];

/// Gives this process mounts of its own, which nobody else sees and which end with it, whatever ends it. Without root
/// nothing is mounted, and nothing needs to be done.
///
/// # Errors
/// Where the kernel does not allow it.
pub fn own_mounts() -> nix::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// Some power losses on one cluster.
#[derive(Debug, Clone)]
pub struct Outages {
    pub seed: u64,
    pub dir: PathBuf,
    pub cycles: usize,
    pub system: FileSystem,
    /// Programs that are started instead of those beside this one: the control's, which do not sync.
    pub binaries: Option<PathBuf>,
}

impl Outages {
    const fn has_snapshots(&self) -> bool {
        self.seed % 2 == 1
    }

    fn options(&self) -> anyhow::Result<Options> {
        let mut options = Options::new(self.dir.clone(), RuntimeKind::Process)?;
        (options.workers, options.manager_image) = (0, Some(self.system));
        let entries = if self.has_snapshots() { SNAPSHOT_ENTRIES } else { NO_SNAPSHOTS };
        options.manager_args = TIMING.map(str::to_owned).into();
        options.manager_args.extend(["--snapshot-entries".into(), entries.to_string()]);
        options.binaries = self.binaries.clone().unwrap_or(options.binaries);
        Ok(options)
    }

    /// Plays them. What is wrong is in the report; an error is what kept them from being played.
    ///
    /// # Errors
    /// Where no cluster comes up, or it was interrupted.
    pub async fn run(&self, interrupted: &CancellationToken) -> anyhow::Result<Report> {
        let cluster = Cluster::up(self.options()?).await?;
        let played = tokio::select! {
            played = self.play(&cluster) => played,
            () = interrupted.cancelled() => Err(anyhow::anyhow!("interrupted")),
        };
        conclude(&cluster, &self.dir, self.seed, self.binaries.is_none(), played).await
    }

    async fn play(&self, cluster: &Cluster) -> anyhow::Result<Played> {
        let client = cluster.client()?;
        let load = Load {
            clients: 6,
            pause: Duration::from_millis(8),
            key_life: Duration::from_secs(4),
            keys: 3,
            replicas: 3,
        };
        let workload = Workload::start(&client, load, self.seed);
        let mut field = field(cluster, client, workload.book.clone(), self.seed);
        let mut played = 0;
        let mut outcome = Ok(());
        while played < self.cycles && outcome.is_ok() {
            outcome = self.cycle(&mut field).await.with_context(|| format!("cycle {}", played + 1));
            played += 1;
        }
        Ok(end(field, workload, outcome, played).await)
    }

    async fn cycle(&self, field: &mut Field<'_>) -> anyhow::Result<()> {
        let loaded = Duration::from_millis(field.rng.random_range(60..500));
        tokio::time::sleep(loaded).await;
        let who = match field.rng.random_range(0..10) {
            0..6 => Who::All,
            6..8 => Who::Majority,
            8 => Who::Leader,
            _ => Who::Follower,
        };
        let hit = field.pick(who).await?;
        field.tell(format!("power loss of {}", hit.join(" ")));
        self.lose_power(field, &hit).await?;
        let mut since_us = field.book.now_us();
        if field.rng.random_bool(0.25) {
            let running = Duration::from_millis(field.rng.random_range(0..400));
            tokio::time::sleep(running).await;
            field.tell(format!("again, {} ms after its return", running.as_millis()));
            self.lose_power(field, &hit).await?;
            since_us = field.book.now_us();
        }
        field.recovered(since_us).await
    }

    async fn lose_power(&self, field: &mut Field<'_>, names: &[String]) -> anyhow::Result<()> {
        cut::cut(field.cluster, names).await?;
        for name in names {
            let layout = field.cluster.layout();
            let member = layout.find(name)?;
            images::mount(&images::path(layout, member), &layout.data_dir(member))?;
            if self.has_snapshots() {
                field.collect(name)?;
            }
        }
        for name in names {
            field.cluster.start(name).await?;
        }
        Ok(())
    }
}
