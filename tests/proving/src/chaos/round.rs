//! One round, from a new cluster to the judgement.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::{join, join_all};
use goat_testcluster::cluster::Options;
use goat_testcluster::daemons::DaemonOptions;
use goat_testcluster::drill::Checks;
use goat_testcluster::pulse::Pulse;
use goat_testcluster::runtime::RuntimeKind;
use goat_testcluster::supervisor::Hosted;
use goat_testcluster::witness::Witness;
use goat_testcluster::{Remote, Timeline, volumes};
use rand::RngExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::causes::Causes;
use super::clocks::Clocks;
use super::ground::{Ground, Notes};
use super::plan::{self, Cast, Shape, Strike};
use super::rest::{Rest, whole};
use super::services::People;
use super::weather::Weather;
use super::{Chaos, Report};
use crate::workload::{Load, Workload};

const MANAGERS: u8 = 3;
const SPARES: u8 = 1;
const WORKERS: u8 = 3;
/// In rounds with snapshots.
const SNAPSHOT_ENTRIES: u64 = 400;
/// Never, in the others.
const NO_SNAPSHOTS: u64 = 100_000_000;
/// Room for what managers write, for images, and for what agents write; in memory.
const MANAGER_MIB: u32 = 256;
const DAEMON_MIB: u32 = 256;
const AGENT_MIB: u32 = 32;
/// A failure of what is broken ends with the storm; what has been begun has so long to see that. A daemon alone has a
/// minute to answer.
const ENDS_WITHIN: Duration = Duration::from_secs(90);
/// Until the first cluster is whole: several daemons and images on a busy machine.
const BEGINS_WITHIN: Duration = Duration::from_secs(120);

impl Chaos {
    fn options(&self, shape: &Shape, clocks: &Clocks) -> anyhow::Result<Options> {
        let mut options = Options::new(self.dir.clone(), RuntimeKind::Docker)?;
        (options.managers, options.spares, options.workers) = (MANAGERS, SPARES, WORKERS);
        options.env = clocks.env();
        let daemons = DaemonOptions { is_live_restore: shape.is_live_restore, disk_mib: Some(DAEMON_MIB) };
        options.daemons = Some(daemons);
        (options.manager_disk_mib, options.worker_disk_mib) = (Some(MANAGER_MIB), Some(AGENT_MIB));
        let entries = if shape.has_snapshots { SNAPSHOT_ENTRIES } else { NO_SNAPSHOTS };
        options.manager_args = vec!["--snapshot-entries".into(), entries.to_string()];
        Ok(options)
    }

    /// Plays it. What is wrong is in the report; an error is what kept it from being played.
    ///
    /// # Errors
    /// Where no cluster comes up, or it was interrupted.
    pub async fn run(&self, interrupted: &CancellationToken) -> anyhow::Result<Report> {
        let cast = Cast::of(MANAGERS, WORKERS);
        let shape = plan::shape(self.seed, &cast, SPARES);
        let strikes = plan::draw(self.seed, self.storm.as_millis() as u64, &cast);
        let clocks = Clocks::make(&self.dir, &shape.ppm)?;
        let hosted = Hosted::start(self.options(&shape, &clocks)?).await?;
        let played = tokio::select! {
            played = self.play(&hosted, &shape, clocks, &strikes) => played,
            () = interrupted.cancelled() => Err(anyhow::anyhow!("interrupted")),
        };
        let keeps = played.as_ref().map_or(!interrupted.is_cancelled(), |report| !report.violations.is_empty());
        hosted.end(keeps).await?;
        let kept = self.dir.with_extension(format!("failed-{}", self.seed));
        if keeps {
            volumes::unmount_all(&self.dir)?;
            let _ = std::fs::remove_dir_all(&kept);
            std::fs::rename(&self.dir, &kept).context("the directory cannot be set aside")?;
        }
        let mut report = played.with_context(|| format!("seed {}", self.seed))?;
        if keeps {
            report.keep(&kept).context("what happened cannot be kept")?;
            report.kept = Some(kept);
        }
        Ok(report)
    }

    async fn play(&self, hosted: &Hosted, shape: &Shape, clocks: Clocks, strikes: &[Strike]) -> anyhow::Result<Report> {
        let client = hosted.formed().await?;
        hosted.workers_ready(&client).await?;
        let people = People::new(Options::binaries()?.join("echo"));
        people.create(&client).await?;
        let checks = Checks { remote: Remote::open(&hosted.dir()).await?, client: client.clone() };
        whole(&checks, BEGINS_WITHIN).await?;
        let witness = Witness::start(hosted.cluster.layout()).await?;
        let pulse = Pulse::start();
        let load = Load { clients: 4, pause: Duration::from_millis(90), replicas: 1, ..Load::default() };
        let workload = Workload::start(&client, load, self.seed);
        people.create_crashing(&client).await?;
        let members = hosted.cluster.layout().first_managers().map(|member| member.name()).collect();
        let ground = Ground {
            cluster: &hosted.cluster,
            client,
            people,
            clocks,
            weather: Weather::default(),
            timeline: Timeline::begin(false),
            causes: Causes::default(),
            over: CancellationToken::new(),
            is_live_restore: shape.is_live_restore,
            notes: Mutex::new(Notes::of(members)),
        };
        self.storm(&ground, strikes).await?;
        let rest = Rest { seed: self.seed, shape, ground: &ground, checks, witness, pulse, workload };
        rest.conclude().await
    }

    /// All strikes, until the last has been undone, and the control's own.
    async fn storm(&self, ground: &Ground<'_>, strikes: &[Strike]) -> anyhow::Result<()> {
        let control = async {
            let Some(control) = self.control else { return Ok(()) };
            tokio::time::sleep(self.storm.mul_f64(rand::rng().random_range(0.1..0.3))).await;
            ground.sabotage(control).await.context("the control")
        };
        let strikes = join_all(strikes.iter().enumerate().map(|(nth, strike)| ground.play(nth, strike)));
        let ends = async {
            let until = ground.timeline.zero() + self.storm;
            tokio::time::sleep_until(until).await;
            ground.over.cancel();
            tokio::time::sleep_until(Instant::now() + ENDS_WITHIN).await;
        };
        tokio::select! {
            (_, control) = join(strikes, control) => control?,
            () = ends => {
                let told: Vec<_> = ground.timeline.moments().iter().map(ToString::to_string).collect();
                let seconds = ENDS_WITHIN.as_secs();
                anyhow::bail!("faults do not end within {seconds} s after the storm:\n{}", told.join("\n"));
            }
            () = ground.keep_up() => {}
        }
        // It may have been over early.
        ground.over.cancel();
        ground.tell("the storm is over");
        Ok(())
    }
}
