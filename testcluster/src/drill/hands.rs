//! People's hands on the containers of a leased service, by Docker's own commands and drawn by lot: whatever they do, no slot has two
//! live instances, and at the end every slot runs and every container has an owner. Docker's events are the judge.

mod judge;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{
    ContainerConfig, ContainerCreateBody, ContainerUpdateBody, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters as query;
use goat_proto::v1;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::RngExt as _;
use tokio::time::Instant;

use super::stage::{Measured, Stage};
use crate::error::Error;
use crate::layout::{Layout, Member};
use crate::runtime::docker_of;
use crate::taskset::TaskSet;
use crate::witness::{now_ms, overlaps};
use judge::Judge;

const REPLICAS: u32 = 3;
/// In one repeat.
const HANDS: usize = 10;
/// Until all slots run again after a hand.
const WITHIN: Duration = Duration::from_secs(60);
/// Until no container is left that is nobody's.
const OWNED_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);
const STOP_GRACE: Duration = Duration::from_secs(2);

/// A container that was run from an image of another one.
#[derive(Debug)]
struct Copied {
    container: String,
    image: String,
}

#[derive(Debug, Clone, Copy)]
enum Hand {
    Restart,
    RestartGently,
    Start,
    Stop,
    Kill,
    Pause,
    Remove,
    Rename,
    UpdateRestart,
    Copy,
}

const ALL: [Hand; 10] = [
    Hand::Restart,
    Hand::RestartGently,
    Hand::Start,
    Hand::Stop,
    Hand::Kill,
    Hand::Pause,
    Hand::Remove,
    Hand::Rename,
    Hand::UpdateRestart,
    Hand::Copy,
];

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let client = docker(stage.remote().layout())?;
    let (tasks, judge) = (TaskSet::new("hands"), Judge::default());
    let spec = spec(stage)?;
    let service = spec.name.clone();
    tasks.spawn(judge.clone().watch(client.clone(), service.clone()));
    stage.client().create_service(spec).await?;
    all_run(stage, &service).await?;
    let mut copies = Vec::new();
    let played = play(stage, &client, &service, &mut copies).await;
    let owned_ms = match &played {
        Ok(_) => all_owned(stage, &client, &service).await?,
        Err(_) => 0.0,
    };
    let people: Vec<_> = copies.iter().map(|copied| copied.container.clone()).collect();
    let lives = judge.lives(&service, &people);
    let doubled = overlaps(&lives, now_ms());
    stage.wrong.extend(doubled.iter().map(|overlap| format!("by hand: {}", overlap.describe())));
    let doubled_ms = doubled.iter().map(|overlap| overlap.ms).max().unwrap_or(0) as f64;
    remove(stage, &service).await?;
    tasks.stop(STOP_GRACE).await;
    clean(&client, &copies).await;
    Ok(vec![
        ("two instances of a slot", doubled_ms),
        ("hand to all slots running, the slowest", played?),
        ("last hand to every container owned", owned_ms),
    ])
}

/// A leased service that restarts soon, so that each hand meets running tasks.
fn spec(stage: &Stage) -> Result<v1::ServiceSpec, Error> {
    let restart = v1::RestartPolicy {
        condition: "always".into(),
        delay_ms: Some(100),
        max_delay_ms: Some(500),
        ..Default::default()
    };
    let spec = stage.extra_spec("hands", REPLICAS)?;
    Ok(v1::ServiceSpec { on_disconnect: "stop".into(), restart: Some(restart), ..spec })
}

/// All hands of a repeat; the longest time until all slots ran again (ms).
async fn play(stage: &mut Stage, client: &Docker, service: &str, copies: &mut Vec<Copied>) -> Result<f64, Error> {
    let mut slowest_ms = 0.0_f64;
    for nth in 0..HANDS {
        let began = Instant::now();
        let hand = ALL[stage.rng.random_range(0..ALL.len())];
        let Some(target) = target(stage, client, service, hand).await? else { continue };
        let told = lay(client, hand, &target, nth, copies).await;
        let told = told.err().map_or_else(String::new, |error| format!(": {error}"));
        stage.timeline.tell(format!("{hand:?} {target:.12}{told}"));
        all_run(stage, service).await?;
        slowest_ms = slowest_ms.max(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(slowest_ms)
}

/// Workers share one daemon unless a drill says otherwise, and this one does not.
fn docker(layout: &Layout) -> Result<Docker, Error> {
    let worker = layout.members().find(|member| matches!(member, Member::Worker(_)));
    let worker = worker.ok_or_else(|| Error::failed("the cluster has no workers"))?;
    docker_of(layout, worker)
}

/// Waits until each slot has a running task.
async fn all_run(stage: &Stage, service: &str) -> Result<(), Error> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let tasks = stage.tasks_of(service).await?;
        let running: BTreeSet<_> = tasks.iter().filter(|task| task.state == "running").map(|task| task.slot).collect();
        if running.len() == REPLICAS as usize {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let states: Vec<_> =
                tasks.iter().map(|task| format!("{}: {} {}", task.slot, task.state, task.error)).collect();
            return Err(Error::failed(format!("not all slots of {service} run: {}", states.join(", "))));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Removes the service and waits until its tasks are gone: one that is being stopped is no failure.
async fn remove(stage: &Stage, service: &str) -> Result<(), Error> {
    stage.client().remove_service(service).await?;
    let deadline = Instant::now() + WITHIN;
    while !stage.tasks_of(service).await?.is_empty() {
        if Instant::now() >= deadline {
            return Err(Error::failed(format!("tasks of the removed service {service} are left")));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// A container for the hand: one that runs, or has ended.
async fn target(stage: &mut Stage, client: &Docker, service: &str, hand: Hand) -> Result<Option<String>, Error> {
    let is_for_ended = matches!(hand, Hand::Start);
    let tasks = stage.tasks_of(service).await?;
    let owned: BTreeSet<_> = tasks.iter().map(|task| task.container_id.clone()).collect();
    let listed = containers(client, service, is_for_ended).await?;
    let mut fitting: Vec<_> = listed.into_iter().filter(|id| owned.contains(id)).collect();
    fitting.sort();
    if fitting.is_empty() {
        return Ok(None);
    }
    let nth = stage.rng.random_range(0..fitting.len());
    Ok(fitting.into_iter().nth(nth))
}

/// The service's containers that run, or those that have ended.
async fn containers(client: &Docker, service: &str, have_ended: bool) -> Result<Vec<String>, Error> {
    let status = if have_ended { vec!["exited".to_owned()] } else { vec!["running".to_owned(), "paused".to_owned()] };
    let label = vec![format!("io.goat.service={service}")];
    let filters = HashMap::from([("label", label), ("status", status)]);
    let options = query::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed = client.list_containers(Some(options)).await.map_err(refused)?;
    Ok(listed.into_iter().filter_map(|container| container.id).collect())
}

fn refused(error: bollard::errors::Error) -> Error {
    Error::failed(format!("Docker: {error}"))
}

/// Does it. That Docker refuses, or that the container is gone meanwhile, is fine.
async fn lay(
    client: &Docker,
    hand: Hand,
    id: &str,
    nth: usize,
    copies: &mut Vec<Copied>,
) -> Result<(), bollard::errors::Error> {
    let restart = |seconds| query::RestartContainerOptionsBuilder::default().t(seconds).build();
    match hand {
        Hand::Restart => client.restart_container(id, Some(restart(0))).await,
        Hand::RestartGently => client.restart_container(id, Some(restart(5))).await,
        Hand::Start => client.start_container(id, None::<query::StartContainerOptions>).await,
        Hand::Stop => client.stop_container(id, None::<query::StopContainerOptions>).await,
        Hand::Kill => client.kill_container(id, None::<query::KillContainerOptions>).await,
        Hand::Pause => {
            client.pause_container(id).await?;
            tokio::time::sleep(PAUSE).await;
            client.unpause_container(id).await
        }
        Hand::Remove => {
            let options = query::RemoveContainerOptionsBuilder::default().force(true).build();
            client.remove_container(id, Some(options)).await
        }
        Hand::Rename => {
            let name = format!("goat-drill-mine-{nth}-{}", now_ms());
            client.rename_container(id, query::RenameContainerOptionsBuilder::default().name(&name).build()).await
        }
        Hand::UpdateRestart => update_restart(client, id).await,
        Hand::Copy => {
            copies.push(copy(client, id).await?);
            Ok(())
        }
    }
}

/// Lets Docker restart the container, and kills its first process.
async fn update_restart(client: &Docker, id: &str) -> Result<(), bollard::errors::Error> {
    let pid = client.inspect_container(id, None).await?.state.and_then(|state| state.pid).unwrap_or(0);
    let always = RestartPolicy { name: Some(RestartPolicyNameEnum::ALWAYS), maximum_retry_count: None };
    let body = ContainerUpdateBody { restart_policy: Some(always), ..ContainerUpdateBody::default() };
    client.update_container(id, body).await?;
    if let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 1) {
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    Ok(())
}

/// Makes an image of the container and runs it.
async fn copy(client: &Docker, id: &str) -> Result<Copied, bollard::errors::Error> {
    let options = query::CommitContainerOptionsBuilder::default().container(id).build();
    let image = client.commit_container(options, ContainerConfig::default()).await?.id;
    let body = ContainerCreateBody { image: Some(image.clone()), ..ContainerCreateBody::default() };
    let container = client.create_container(None::<query::CreateContainerOptions>, body).await?.id;
    client.start_container(&container, None::<query::StartContainerOptions>).await?;
    Ok(Copied { container, image })
}

async fn clean(client: &Docker, copies: &[Copied]) {
    for Copied { container, image } in copies {
        let options = query::RemoveContainerOptionsBuilder::default().force(true).build();
        // They may be gone.
        let _ = client.remove_container(container, Some(options)).await;
        let _ = client.remove_image(image, None::<query::RemoveImageOptions>, None).await;
    }
}

/// Waits until every running container with the service's labels is that of a running task; how long that took (ms).
async fn all_owned(stage: &mut Stage, client: &Docker, service: &str) -> Result<f64, Error> {
    let began = Instant::now();
    loop {
        let running = containers(client, service, false).await?;
        let tasks = stage.tasks_of(service).await?;
        let is_owned = |id: &String| tasks.iter().any(|task| task.state == "running" && task.container_id == *id);
        let strays: Vec<_> = running.iter().filter(|id| !is_owned(id)).collect();
        if strays.is_empty() {
            return Ok(began.elapsed().as_secs_f64() * 1e3);
        }
        if began.elapsed() >= OWNED_WITHIN {
            let strays = strays.iter().map(|id| format!("{id:.12}")).collect::<Vec<_>>().join(", ");
            stage.wrong.push(format!("containers without an owner after {} s: {strays}", OWNED_WITHIN.as_secs()));
            return Ok(began.elapsed().as_secs_f64() * 1e3);
        }
        tokio::time::sleep(POLL).await;
    }
}
