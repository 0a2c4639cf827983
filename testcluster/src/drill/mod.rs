//! Drills: rehearsed failures that are measured and checked.
//!
//! Each repeat waits until the cluster is whole, breaks something under a recorder's load, measures until it works again,
//! and checks that no acknowledged write is missing, that no task restarted that did not have to, and that every slot has
//! exactly one running task, in the managers' view and in the runtime's own. What instances did meanwhile is the
//! witness's to say, never the managers'.

mod agent;
mod all;
mod application;
mod bounds;
mod catalogue;
mod checks;
mod cut;
mod disk;
mod docker_daemon;
mod extras;
mod hands;
mod health;
mod hosting;
mod images;
mod judge;
mod leader_kill;
mod leader_transfer;
mod load;
mod load_pause;
mod look;
mod manager_restart;
mod manager_upgrade;
mod managers;
mod membership;
mod need;
mod quorum_recover;
mod report;
mod role;
mod snapshot;
mod stage;
mod worker_kill;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::error::Error;
use crate::runtime::{self, RuntimeKind};

pub use catalogue::Kind;
pub use checks::Checks;
pub use need::{Need, Row};
pub use report::{Outcome, Report};
pub use role::{Role, Scene};
pub use stage::{Measured, Stage};

/// Why a drill ended that somebody ended.
const INTERRUPTED: &str = "interrupted";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// The timeline as it happens, then the verdict
    #[default]
    Text,
    /// One JSON document at the end
    Json,
}

#[derive(Debug, Clone)]
pub struct DrillOptions {
    pub kind: Kind,
    pub repeat: u32,
    pub output: Output,
    pub runtime: Option<RuntimeKind>,
    /// Writes a second by the recorder.
    pub load_per_s: f64,
    /// A running cluster to use; None: one of its own.
    pub dir: Option<PathBuf>,
    /// Of the first repeat's random choices; each further one has the next number.
    pub seed: u64,
    /// How long the failure lasts, where the drill has a say in it; None: its own length.
    pub seconds: Option<u64>,
    /// How far a follower is behind, in log entries, where the drill lets one fall behind; None: its own number.
    pub entries: Option<u64>,
    /// A measure over what the project has set itself fails the drill too.
    pub is_strict: bool,
}

/// Runs the drill, or all of them, and prints the result; whether it passed.
pub async fn run(options: DrillOptions) -> Result<bool, Error> {
    if !(options.load_per_s > 0.0 && options.load_per_s <= 100_000.0) {
        return Err(Error::usage("--load: more than 0 and at most 100000 writes a second"));
    }
    match options.kind {
        Kind::List => {
            all::list();
            return Ok(true);
        }
        Kind::All => return all::run(&options).await,
        _ => {}
    }
    let (runtime, _) = runtime::choose(options.runtime).await?;
    if let Some(missing) = options.kind.missing(runtime) {
        return Err(Error::failed(format!("not run: {} needs {missing}", options.kind.name())));
    }
    let report = rehearse(&options).await?;
    report.print(options.output);
    Ok(report.passed && !(options.is_strict && report.missed().is_some()))
}

/// All repeats of one drill, on one cluster.
async fn rehearse(options: &DrillOptions) -> Result<Report, Error> {
    let mut report = Report::begin(options);
    let mut stage = Stage::set(options).await?;
    let interrupted = stage.interrupted();
    let mut problem = None;
    for nth in 1..=options.repeat {
        let outcome = tokio::select! {
            outcome = one(&mut stage, options, nth) => outcome,
            () = interrupted.cancelled() => Err(Error::failed(INTERRUPTED)),
        };
        match outcome {
            Ok(outcome) => report.add(outcome),
            Err(error) => {
                problem = Some(error);
                break;
            }
        }
    }
    let keeps = !interrupted.is_cancelled() && (problem.is_some() || !report.is_passed());
    let left = stage.strike(keeps).await?;
    report.finish(problem.map(|error| error.to_string()), left);
    Ok(report)
}

async fn one(stage: &mut Stage, options: &DrillOptions, nth: u32) -> Result<Outcome, Error> {
    stage.begin(nth).await?;
    let measured = play(stage, options.kind).await;
    if measured.is_err() {
        stage.tell_wrong();
    }
    stage.end(measured).await
}

async fn play(stage: &mut Stage, kind: Kind) -> Result<Measured, Error> {
    match kind {
        Kind::CrashLoop => application::crash_loop(stage).await,
        Kind::Hang => health::hang(stage).await,
        Kind::NeverReady => health::never_ready(stage).await,
        Kind::Oom => application::oom(stage).await,
        Kind::NoRoom => application::no_room(stage).await,
        Kind::RegistryDown => images::registry_down(stage).await,
        Kind::WorkerDiskFull => images::disk_full(stage).await,
        Kind::DockerByHand => hands::run(stage).await,
        kind if kind.row() == Some(Row::Docker) => docker_daemon::run(stage, kind).await,
        kind if kind.row() == Some(Row::Bounds) => bounds::run(stage, kind).await,
        Kind::AgentRestart => agent::restart(stage).await,
        Kind::AgentKill => agent::kill(stage).await,
        Kind::AgentFreeze => agent::freeze(stage).await,
        Kind::AgentUpgrade => agent::upgrade(stage).await,
        Kind::WorkerKill => worker_kill::run(stage).await,
        kind @ (Kind::WorkerCut | Kind::WorkerCutOutbound | Kind::WorkerCutInbound | Kind::RandomCuts) => {
            cut::worker(stage, kind).await
        }
        Kind::WorkerCutLeader => cut::worker_from_leader(stage).await,
        Kind::WorkersCut => cut::workers(stage).await,
        Kind::Minority => cut::minority(stage).await,
        Kind::LeaderAndWorker => worker_kill::with_leader(stage).await,
        Kind::Load => load::run(stage).await,
        Kind::LeaderKill => leader_kill::run(stage).await,
        Kind::LeaderTransfer => leader_transfer::run(stage).await,
        Kind::LeaderFreeze => managers::leader_freeze(stage).await,
        Kind::LeaderCut => cut::leader(stage, false).await,
        Kind::LeaderCutWorkers => cut::leader(stage, true).await,
        kind @ (Kind::ManagerRestart | Kind::ManagersRollingRestart) => manager_restart::run(stage, kind).await,
        Kind::ManagerUpgrade => manager_upgrade::run(stage).await,
        kind @ (Kind::ManagersGrowShrink | Kind::ManagerReplace) => membership::run(stage, kind).await,
        Kind::QuorumRecover => quorum_recover::run(stage).await,
        kind @ (Kind::SnapshotRestore | Kind::SnapshotUndo) => snapshot::run(stage, kind).await,
        kind @ (Kind::TwoManagersKill | Kind::AllManagersKill | Kind::PlannedOutage | Kind::ManagersRollingKill) => {
            managers::kill(stage, kind).await
        }
        Kind::ManagerDiskFull => disk::full(stage).await,
        Kind::ManagerFsyncFails => disk::fsync_fails(stage).await,
        _ => Err(Error::usage("that is no single drill")),
    }
}
