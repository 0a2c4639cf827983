//! One round: a cluster of its own from its beginning to its end, clients, what breaks it, and the judgement.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use goat_testcluster::cluster::Options;
use goat_testcluster::runtime::RuntimeKind;
use goat_testcluster::{Client, Cluster, volumes};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::collected::Collected;
use crate::faults::{Fault, Field, Who};
use crate::judge::{keys, order, replay};
use crate::op::{Book, Call, Op};
use crate::report::Report;
use crate::workload::{Load, Workload, ask};

/// In rounds with snapshots; the log keeps as many more.
const SNAPSHOT_ENTRIES: u64 = 1_500;
/// Never, in the others.
const NO_SNAPSHOTS: u64 = 100_000_000;
/// So long the log of a round with snapshots holds at least.
const COLLECT_EVERY: Duration = Duration::from_secs(4);
const LAST_READS: Duration = Duration::from_secs(20);

/// A round of faults.
#[derive(Debug, Clone)]
pub struct Round {
    pub seed: u64,
    pub dir: PathBuf,
    pub length: Duration,
}

impl Round {
    /// Every other round takes snapshots, so that the log is purged; the others can be looked at as a whole afterwards.
    const fn has_snapshots(&self) -> bool {
        self.seed % 2 == 1
    }

    fn options(&self) -> anyhow::Result<Options> {
        let mut options = Options::new(self.dir.clone(), RuntimeKind::Process)?;
        (options.spares, options.workers) = (1, 0);
        let entries = if self.has_snapshots() { SNAPSHOT_ENTRIES } else { NO_SNAPSHOTS };
        options.manager_args = vec!["--snapshot-entries".into(), entries.to_string()];
        Ok(options)
    }

    /// Plays it. What is wrong is in the report; an error is what kept it from being played.
    ///
    /// # Errors
    /// Where no cluster comes up, or it was interrupted.
    pub async fn run(&self, interrupted: &CancellationToken) -> anyhow::Result<Report> {
        let cluster = Cluster::up(self.options()?).await?;
        let played = tokio::select! {
            played = self.play(&cluster) => played,
            () = interrupted.cancelled() => Err(anyhow::anyhow!("interrupted")),
        };
        conclude(&cluster, &self.dir, self.seed, true, played).await
    }

    async fn play(&self, cluster: &Cluster) -> anyhow::Result<Played> {
        let client = cluster.client()?;
        let workload = Workload::start(&client, Load::default(), self.seed);
        let mut field = field(cluster, client, workload.book.clone(), self.seed);
        let mut faults = 0;
        let until = Instant::now() + self.length;
        let outcome = loop {
            if Instant::now() >= until {
                break Ok(());
            }
            if let Err(error) = field.play().await {
                break Err(error);
            }
            faults += 1;
            if self.has_snapshots() && field.collected_at.elapsed() >= COLLECT_EVERY {
                let name = field.pick(Who::Follower).await?.remove(0);
                field.bounce(&name).await?;
            }
        };
        Ok(end(field, workload, outcome, faults).await)
    }
}

/// What was played, before it is judged.
#[derive(Debug)]
pub struct Played {
    pub ops: Vec<Op>,
    pub collected: Collected,
    pub told: Vec<String>,
    pub faults: usize,
    /// What the cluster did not do that it must.
    pub outcome: anyhow::Result<()>,
}

/// Where faults begin.
pub fn field(cluster: &Cluster, client: Client, book: Book, seed: u64) -> Field<'_> {
    Field {
        cluster,
        client,
        book,
        rng: StdRng::seed_from_u64(seed),
        members: cluster.layout().first_managers().map(|member| member.name()).collect(),
        collected: Collected::default(),
        collected_at: Instant::now(),
        told: Vec::new(),
    }
}

/// Reads everything once more from every manager, ends them, and takes their logs.
pub async fn end(mut field: Field<'_>, workload: Workload, outcome: anyhow::Result<()>, faults: usize) -> Played {
    let finished = workload.finish().await;
    let ended = async {
        outcome?;
        finished?;
        field.last_reads().await?;
        field.all_run().await?;
        for name in field.members.clone() {
            field.cluster.kill(&name, false).await?;
        }
        for name in field.members.clone() {
            field.collect(&name)?;
        }
        anyhow::Ok(())
    };
    let outcome = ended.await;
    Played { ops: field.book.history(), collected: field.collected, told: field.told, faults, outcome }
}

impl Field<'_> {
    /// Kills a manager for a moment, to take its log.
    pub async fn bounce(&mut self, name: &str) -> anyhow::Result<()> {
        self.tell(format!("{:?} {name}, for its log", Fault::Kill(Who::Follower)));
        self.cluster.kill(name, false).await?;
        self.collect(name)?;
        self.cluster.start(name).await?;
        Ok(())
    }

    async fn last_reads(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LAST_READS;
        for name in self.members.clone() {
            let at: usize = name[1..].parse::<usize>().context("managers are numbered")? - 1;
            let op = || Op {
                client: usize::MAX,
                at,
                request: None,
                call: Call::List { is_stale: false },
                invoked_us: 0,
                answered_us: 0,
                answer: crate::op::Answer::Unknown { why: String::new() },
            };
            while ask(&self.client, &self.book, op()).await.is_unknown() {
                anyhow::ensure!(Instant::now() < deadline, "{name} does not answer a read after everything was healed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

/// Judges, takes the cluster down, and keeps what is needed to see why it failed, if `keeps`.
///
/// # Errors
/// As [`Round::run`].
pub async fn conclude(
    cluster: &Cluster,
    dir: &Path,
    seed: u64,
    keeps: bool,
    played: anyhow::Result<Played>,
) -> anyhow::Result<Report> {
    let played = match played {
        Ok(played) => played,
        Err(error) => {
            cluster.down(false).await?;
            return Err(error);
        }
    };
    let report = judge(seed, &played);
    if report.findings.is_empty() || !keeps {
        cluster.down(false).await?;
    } else {
        cluster.down(true).await?;
        volumes::unmount_all(dir)?;
        report.keep(dir, &played.ops).context("the history cannot be kept")?;
        let kept = dir.with_extension(format!("failed-{seed}"));
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::rename(dir, &kept).context("the directory cannot be set aside")?;
        println!("kept in {}", kept.display());
    }
    Ok(report)
}

fn judge(seed: u64, played: &Played) -> Report {
    let Played { ops, collected, told, faults, outcome } = played;
    let mut report = Report { told: told.clone(), faults: *faults, ..Report::of(seed, ops) };
    order::judge(ops, &mut report.findings);
    report.services = keys::judge(ops, &mut report.findings);
    match (outcome, collected.gap()) {
        // Without the end of the log it cannot be told what is missing from it.
        (Err(error), _) => {
            report.is_stuck = true;
            report.findings.add(format!("{error:#}"));
        }
        (Ok(()), Some(index)) => report.findings.add(format!("nobody had entry {index} any more: collect more often")),
        (Ok(()), None) => report.entries = replay::judge(collected, ops, &mut report.findings),
    }
    report
}
