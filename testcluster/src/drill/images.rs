//! Images do not come: their registry is gone, their name is wrong, the disk has no room for them.

use goat_proto::v1;
use tokio::time::Instant;

use super::application::attempted;
use super::stage::{Measured, Stage};
use crate::daemons;
use crate::error::Error;
use crate::layout::Member;
use crate::registry::{self, Registries};
use crate::runtime::docker_of;
use crate::volumes;
use crate::witness::Life;

/// How long nothing may run that cannot be pulled.
const GONE_S: u64 = 5;
const MIB: u64 = 1 << 20;
/// Fits on an empty disk, packed and unpacked, and not on a full one.
const BULKY_BYTES: usize = 48 << 20;
/// More than the share below which a node would show that its disk is full before anything was pulled.
const LEFT_BYTES: u64 = 40 * MIB;
/// At least, after an image was not found for the first time: 30 s less what chance may take off.
const PATIENCE_MS: u64 = 20_000;
const DISK_PRESSURE: &str = "disk-pressure";

/// No worker reaches the registry; later all do. Beside it an image is asked for that was never there.
pub(super) async fn registry_down(stage: &mut Stage) -> Result<Measured, Error> {
    let layout = stage.remote().layout().clone();
    let mut registries = Registries::start(&layout).await?;
    let client = docker_of(&layout, Member::Worker(1))?;
    let image = registry::publish(&client, "app", &stage.nth.to_string(), 1).await?;
    let wrong = create(stage, "misnamed", 1, registry::image("app:none")).await?;
    not_found(stage, &wrong).await?;
    registries.kill().await?;
    let began = stage.restart_clock();
    stage.timeline.tell("no registry runs any more");
    let name = create(stage, "pulled", u32::from(layout.workers), image).await?;
    let unreachable = |tasks: &[v1::Task]| failed(tasks, "registry-unreachable").then_some(());
    stage.told_of(&name, "does not say that the registry is unreachable", unreachable).await?;
    stage.timeline.tell(format!("{name} is told that the registry is unreachable"));
    tokio::time::sleep_until(began + stage.length(GONE_S)).await;
    if !stage.extra_lives(&name)?.is_empty() {
        stage.wrong.push(format!("{name} ran, and there was no registry"));
    }
    for n in 1..=layout.workers {
        registries.add(&layout, n).await?;
    }
    stage.restart_clock();
    stage.timeline.tell("the registry is back");
    attempted(stage, &name, usize::from(layout.workers)).await?;
    let from_ms = stage.extra_lives(&name)?.last().map_or(0, |life| life.from_ms);
    asked_patiently(stage, &wrong).await?;
    for service in [&name, &wrong] {
        stage.client().remove_service(service).await?;
    }
    Ok(vec![("registry back to all running", stage.since_ms(from_ms))])
}

/// One worker has no room for an image that the others pull.
pub(super) async fn disk_full(stage: &mut Stage) -> Result<Measured, Error> {
    let layout = stage.remote().layout().clone();
    let (victim, n) = (Member::Worker(1).name(), 1);
    let root = daemons::data_root(&layout, n);
    let _registries = Registries::start(&layout).await?;
    let client = docker_of(&layout, Member::Worker(n))?;
    let image = registry::publish(&client, "bulky", &stage.nth.to_string(), BULKY_BYTES).await?;
    let filled = volumes::fill(&root, LEFT_BYTES)?;
    let created = stage.restart_clock();
    stage.timeline.tell(format!("the disk of {victim} has {} MiB left, with {filled} bytes more", LEFT_BYTES / MIB));
    let name = create(stage, "bulky", u32::from(layout.workers), image).await?;
    let full = |tasks: &[v1::Task]| failed(tasks, "disk-full").then_some(());
    stage.told_of(&name, "does not say that a disk is full", full).await?;
    stage.timeline.tell(format!("{name} is told that a disk is full"));
    let shown_ms = stage.shows(&victim, DISK_PRESSURE, true, created).await?;
    attempted(stage, &name, usize::from(layout.workers)).await?;
    let lives = stage.extra_lives(&name)?;
    if let Some(Life { task, .. }) = lives.iter().find(|life| life.node == victim) {
        stage.wrong.push(format!("{task} of {name} ran on {victim}, which had no room for its image"));
    }
    let moved_ms = stage.since_ms(lives.last().map_or(0, |life| life.from_ms));
    volumes::empty(&root)?;
    let room = Instant::now();
    stage.timeline.tell("it has room again");
    let cleared_ms = stage.shows(&victim, DISK_PRESSURE, false, room).await?;
    stage.client().remove_service(&name).await?;
    Ok(vec![
        ("created to disk-pressure shown", shown_ms),
        ("created to all running elsewhere", moved_ms),
        ("room to disk-pressure cleared", cleared_ms),
    ])
}

/// A service of that image; its name.
async fn create(stage: &Stage, what: &str, replicas: u32, image: String) -> Result<String, Error> {
    let spec = v1::ServiceSpec { image, ..stage.extra_spec(what, replicas)? };
    let name = spec.name.clone();
    stage.client().create_service(spec).await?;
    Ok(name)
}

fn failed(tasks: &[v1::Task], reason: &str) -> bool {
    tasks.iter().any(|task| task.state == "failed" && task.reason == reason)
}

async fn not_found(stage: &Stage, service: &str) -> Result<(), Error> {
    let told = |tasks: &[v1::Task]| failed(tasks, "image-not-found").then_some(());
    stage.told_of(service, "does not say that its image is not there", told).await?;
    stage.timeline.tell(format!("{service} has an image that is not there, and says so"));
    Ok(())
}

/// Since the image was found missing, one attempt waits for its time, and no other was made.
async fn asked_patiently(stage: &mut Stage, service: &str) -> Result<(), Error> {
    let tasks = stage.tasks_of(service).await?;
    let waits: Vec<_> = tasks.iter().map(|task| task.not_before_ms.saturating_sub(task.created_at_ms)).collect();
    if tasks.len() != 2 || waits.iter().all(|wait_ms| *wait_ms < PATIENCE_MS) {
        stage.wrong.push(format!("{service} has had {} attempts, with waits of {waits:?} ms", tasks.len()));
    }
    Ok(())
}
