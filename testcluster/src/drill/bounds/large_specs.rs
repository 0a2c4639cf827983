//! Specs at the limits of size and count: each is refused with an error that says why, or it runs. Neither stops other writes,
//! and the managers' logs do not grow without an end.

use std::path::Path;
use std::time::Duration;

use goat_proto::v1;
use tonic::Code;

use super::liveness::{Allowed, Period};
use crate::drill::stage::{Measured, Stage};
use crate::error::Error;
use crate::layout::Member;

/// How long the cluster is watched while a spec is there that nothing satisfies.
const WATCHED_S: u64 = 15;
const ALLOWED: Allowed = Allowed { write_gap: Duration::from_secs(3) };
/// Of each manager's directory while it is watched: RocksDB's logs are reused, and a spec of 64 KiB is written once.
const MAX_GROWTH_BYTES: u64 = 64 << 20;
const PENDING_REPLICAS: u32 = 500;
const CONSTRAINT_LETTERS: usize = 20_000;
const RUNNING_REPLICAS: u32 = 200;
const ENV_LETTERS: usize = 60_000;

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let mut measured = Vec::new();
    let mut pending = stage.extra_spec("constraint", PENDING_REPLICAS)?;
    pending.constraints.push(v1::Constraint { label: "x".into(), equal: true, value: "a".repeat(CONSTRAINT_LETTERS) });
    let what = format!("{PENDING_REPLICAS} replicas with a constraint of {CONSTRAINT_LETTERS} letters");
    measured.push(("write gap, long constraint", offered(stage, &what, pending, false).await?));
    let mut large = stage.extra_spec("env", RUNNING_REPLICAS)?;
    large.env.insert("LARGE".into(), "a".repeat(ENV_LETTERS));
    large.constraints.push(v1::Constraint { label: "node.name".into(), equal: true, value: "w1".into() });
    let what = format!("{RUNNING_REPLICAS} replicas with {ENV_LETTERS} letters of environment on one worker");
    measured.push(("write gap, large environment", offered(stage, &what, large, true).await?));
    Ok(measured)
}

/// Offers a service, watches the cluster, and removes it again. Returns the longest time without an accepted write, in ms.
async fn offered(stage: &mut Stage, what: &str, spec: v1::ServiceSpec, must_run: bool) -> Result<f64, Error> {
    let (name, replicas) = (spec.name.clone(), spec.replicas);
    let period = Period::begin(stage, what).await?;
    let before = disk_bytes(stage);
    stage.timeline.tell(format!("offered: {what}"));
    match stage.client().create_service(spec).await {
        Err(Error::Refused { status, .. }) if is_clear(&status) => {
            stage.timeline.tell(format!("refused: {}", status.message()));
            tokio::time::sleep(stage.length(WATCHED_S)).await;
        }
        Err(error) => stage.wrong.push(format!("{what}: refused, but not with an error that names a limit: {error}")),
        Ok(_) if must_run => {
            let running = |tasks: &[v1::Task]| tasks.iter().filter(|task| task.state == "running").count();
            stage.told_of(&name, "do not all run", |tasks| (running(tasks) >= replicas as usize).then_some(())).await?;
            stage.timeline.tell(format!("all {replicas} run"));
        }
        Ok(_) => {
            stage.timeline.tell("accepted");
            tokio::time::sleep(stage.length(WATCHED_S)).await;
        }
    }
    check_growth(stage, what, &before);
    let gap_ms = period.end(stage, ALLOWED).await?;
    // One that was refused is not there.
    if stage
        .client()
        .services()
        .await?
        .iter()
        .any(|service| service.spec.as_ref().is_some_and(|spec| spec.name == name))
    {
        stage.client().remove_service(&name).await?;
    }
    stage.whole_again(what).await?;
    Ok(gap_ms)
}

/// Looks at how much the managers' directories have grown.
fn check_growth(stage: &mut Stage, what: &str, before: &[(String, u64)]) {
    for (member, bytes) in disk_bytes(stage) {
        let grown = bytes.saturating_sub(before.iter().find(|(of, _)| *of == member).map_or(0, |(_, bytes)| *bytes));
        stage.timeline.tell(format!("{member} has written {} KiB more than it removed", grown >> 10));
        if grown > MAX_GROWTH_BYTES {
            stage.wrong.push(format!("{what}: the directory of {member} grew by {} MiB", grown >> 20));
        }
    }
}

/// Whether a refusal is about the request, and names a figure.
pub(super) fn is_clear(status: &tonic::Status) -> bool {
    let is_about_it = matches!(
        status.code(),
        Code::InvalidArgument | Code::FailedPrecondition | Code::ResourceExhausted | Code::OutOfRange
    );
    is_about_it && status.message().contains(|letter: char| letter.is_ascii_digit())
}

/// Of each manager's data directory.
fn disk_bytes(stage: &Stage) -> Vec<(String, u64)> {
    let layout = stage.remote().layout();
    let managers = (1..=layout.managers).map(Member::Manager);
    managers.map(|member| (member.name(), bytes_below(&layout.data_dir(member)))).collect()
}

fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let bytes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        Ok(data) => data.len(),
        // Removed meanwhile.
        Err(_) => 0,
    });
    bytes.sum()
}
