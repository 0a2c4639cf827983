//! Expensive requests to a leader of many tasks: a debug bundle, many readers of its metrics, and the removal of a service with
//! 100,000 tasks. None of them may cost a lease, an election, or other users' writes.

use std::time::Duration;

use goat_proto::v1;
use tokio::time::Instant;

use super::liveness::{Allowed, Period};
use crate::drill::stage::{Measured, Stage};
use crate::error::Error;
use crate::goatctl;
use crate::metrics::Page;
use crate::taskset::TaskSet;

const TASKS: u32 = 100_000;
const BUNDLES: u32 = 3;
const READERS: usize = 64;
const READ_S: u64 = 10;
const ALLOWED: Allowed = Allowed { write_gap: Duration::from_secs(1) };
/// Until all tasks are there, or all are removed.
const WITHIN: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(500);
const STOP_GRACE: Duration = Duration::from_secs(10);

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let mut spec = stage.extra_spec("waiting", TASKS)?;
    spec.constraints.push(v1::Constraint { label: "node.name".into(), equal: true, value: "nowhere".into() });
    let name = spec.name.clone();
    let others = tasks(stage).await?;
    let began = Instant::now();
    stage.client().create_service(spec).await?;
    until(stage, "all tasks are there", |count| count >= others + TASKS).await?;
    stage.timeline.tell(format!("{TASKS} tasks are there after {} s", began.elapsed().as_secs()));

    let mut measured = Vec::new();
    let period = Period::begin(stage, format!("{BUNDLES} debug bundles")).await?;
    for number in 0..BUNDLES {
        debug_bundle(stage, number).await?;
    }
    measured.push(("write gap, debug bundles", period.end(stage, ALLOWED).await?));

    let period = Period::begin(stage, format!("{READERS} readers of the leader's metrics")).await?;
    read_metrics(stage).await?;
    measured.push(("write gap, metrics", period.end(stage, ALLOWED).await?));

    let period = Period::begin(stage, format!("removal of {TASKS} tasks")).await?;
    let began = Instant::now();
    stage.client().remove_service(&name).await?;
    until(stage, "all tasks are removed", |count| count <= others).await?;
    stage.timeline.tell(format!("removed after {} ms", began.elapsed().as_millis()));
    measured.push(("write gap, removal", period.end(stage, ALLOWED).await?));
    Ok(measured)
}

/// Tasks of all states that the managers know.
async fn tasks(stage: &Stage) -> Result<u32, Error> {
    let status = stage.client().status().await?;
    Ok(status.tasks.values().sum())
}

/// Waits until the number of tasks is as it should be.
async fn until(stage: &Stage, what: &str, is_reached: impl Fn(u32) -> bool) -> Result<(), Error> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let count = tasks(stage).await?;
        if is_reached(count) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::failed(format!("{what}: not after {} s; there are {count}", WITHIN.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// As a user makes one.
async fn debug_bundle(stage: &Stage, number: u32) -> Result<(), Error> {
    let layout = stage.remote().layout();
    let file = layout.dir.join(format!("debug-{number}.tar.gz"));
    goatctl::run(layout, &["operator", "debug", "--file", &file.display().to_string()]).await?;
    let bytes = std::fs::metadata(&file).map_or(0, |file| file.len());
    let _ = std::fs::remove_file(&file);
    stage.timeline.tell(format!("a debug bundle of {} KiB", bytes >> 10));
    if bytes > 0 { Ok(()) } else { Err(Error::failed("the debug bundle is empty")) }
}

/// Reads the leader's metrics for a while, each reader again as soon as it has the page.
async fn read_metrics(stage: &Stage) -> Result<(), Error> {
    let layout = stage.remote().layout();
    let leader = stage.client().status().await?.leader;
    let at = layout.http(layout.find(&leader)?);
    let readers = TaskSet::new("metrics readers");
    let (pages, mut read) = tokio::sync::mpsc::channel(READERS);
    for _ in 0..READERS {
        let pages = pages.clone();
        readers.spawn(async move { while pages.send(Page::read(at).await).await.is_ok() {} });
    }
    drop(pages);
    let mut count = 0_u32;
    let length = stage.length(READ_S);
    let counted = tokio::time::timeout(length, async {
        while let Some(page) = read.recv().await {
            page?;
            count += 1;
        }
        Ok::<_, Error>(())
    });
    if let Ok(Err(error)) = counted.await {
        return Err(error);
    }
    readers.stop(STOP_GRACE).await;
    stage.timeline.tell(format!("{leader} showed its metrics {count} times in {} s", length.as_secs()));
    Ok(())
}
