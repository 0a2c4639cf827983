//! Drills: rehearsed failures that are measured and checked.
//!
//! Each repeat waits until the cluster is whole, breaks something under a recorder's load, measures until it works again,
//! and checks that no acknowledged write is missing, that no task restarted that did not have to, and that every slot has
//! exactly one running task, in the managers' view and in the runtime's own.

mod checks;
mod leader_kill;
mod leader_transfer;
mod manager_restart;
mod report;
mod stage;
mod worker_kill;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::error::Error;
use crate::runtime::RuntimeKind;
use crate::up::say;

pub use checks::Checks;
pub use report::{Outcome, Report};
pub use stage::Stage;

/// What can be rehearsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Kill the leading manager by SIGKILL, under writes
    LeaderKill,
    /// Kill a worker's agent and its tasks at once
    WorkerKill,
    /// Restart a follower, then the leader, by SIGTERM
    ManagerRestart,
    /// Hand leadership over on request
    LeaderTransfer,
    /// Say what there is
    List,
}

impl Kind {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

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
}

/// Runs the drill and prints its result; whether it passed.
pub async fn run(options: DrillOptions) -> Result<bool, Error> {
    if options.kind == Kind::List {
        for kind in Kind::value_variants() {
            let value = kind.to_possible_value();
            let help = value.as_ref().and_then(|value| value.get_help()).map(ToString::to_string);
            say(&format!("{:<16} {}", kind.name(), help.unwrap_or_default()));
        }
        return Ok(true);
    }
    if !(options.load_per_s > 0.0 && options.load_per_s <= 100_000.0) {
        return Err(Error::usage("--load: more than 0 and at most 100000 writes a second"));
    }
    let mut report = Report::begin(&options);
    let mut stage = Stage::set(&options).await?;
    let interrupted = stage.interrupted();
    let mut problem = None;
    for nth in 1..=options.repeat {
        let outcome = tokio::select! {
            outcome = one(&mut stage, &options, nth) => outcome,
            () = interrupted.cancelled() => Err(Error::failed("interrupted")),
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
    report.print(options.output);
    Ok(report.is_passed())
}

async fn one(stage: &mut Stage, options: &DrillOptions, nth: u32) -> Result<Outcome, Error> {
    stage.begin(nth).await?;
    let measured = match options.kind {
        Kind::LeaderKill => leader_kill::run(stage).await,
        Kind::WorkerKill => worker_kill::run(stage).await,
        Kind::ManagerRestart => manager_restart::run(stage).await,
        Kind::LeaderTransfer => leader_transfer::run(stage).await,
        Kind::List => Err(Error::usage("`list` is no drill")),
    };
    stage.end(measured).await
}
