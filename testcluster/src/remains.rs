//! What the runtimes themselves say runs for a cluster's workers, whatever managers and agents say; and ending it, as
//! the end of a machine would. Touches only what belongs to the workers of the given layout.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters as query;
use futures::future::join_all;
use nix::sys::signal::Signal;
use serde::Deserialize;

use crate::error::Error;
use crate::layout::{Layout, Member};
use crate::process::{ProcessId, command_lines};
use crate::runtime::{RuntimeKind, docker_of};

/// Between looks at processes that were killed.
const GONE_POLL: Duration = Duration::from_millis(2);
/// Only one that hangs in the kernel takes longer.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Looks in a row that find no container.
const EMPTY_LOOKS: u32 = 4;
/// Between looks at the daemon; a container takes less than [`EMPTY_LOOKS`] of these to be created.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const REMOVED_WITHIN: Duration = Duration::from_secs(60);

/// One task that really runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiveTask {
    pub service: String,
    pub slot: u32,
    /// The worker's name.
    pub node: String,
    pub task: String,
}

/// Everything that runs now, sorted.
pub async fn live(layout: &Layout) -> Result<Vec<LiveTask>, Error> {
    let mut live = match layout.runtime {
        RuntimeKind::Docker => live_containers(layout).await?,
        RuntimeKind::Process => layout.members().flat_map(|member| live_processes(layout, member)).collect(),
    };
    live.sort();
    Ok(live)
}

/// Kills everything of the worker at once. Its agent must be dead already, or it would start more.
pub async fn kill(layout: &Layout, worker: Member) -> Result<usize, Error> {
    kill_helpers(&layout.data_dir(worker));
    match layout.runtime {
        RuntimeKind::Docker => kill_containers(layout, worker).await,
        RuntimeKind::Process => Ok(kill_processes(&layout.data_dir(worker))),
    }
}

/// Removes everything of all workers, ended containers too.
pub async fn remove_all(layout: &Layout) -> Result<usize, Error> {
    let workers = layout.members().filter(|member| matches!(member, Member::Worker(_)));
    for worker in workers.clone() {
        kill_helpers(&layout.data_dir(worker));
    }
    match layout.runtime {
        RuntimeKind::Process => Ok(workers.map(|worker| kill_processes(&layout.data_dir(worker))).sum()),
        RuntimeKind::Docker => {
            let workers: Vec<_> = workers.collect();
            remove_containers(layout, &workers).await
        }
    }
}

/// Until none is left. A daemon goes on creating a container that an agent asked for which was killed since, and lists it only
/// then: so one look that finds none is not enough.
async fn remove_containers(layout: &Layout, workers: &[Member]) -> Result<usize, Error> {
    let (mut removed, mut looks, deadline) = (0, 0, Instant::now() + REMOVED_WITHIN);
    while looks < EMPTY_LOOKS {
        let round = join_all(workers.iter().map(|worker| remove_containers_of(layout, *worker))).await;
        let found = round.into_iter().sum::<Result<usize, Error>>()?;
        if found > 0 && Instant::now() >= deadline {
            let seconds = REMOVED_WITHIN.as_secs();
            return Err(Error::failed(format!(
                "containers are still being created after {seconds} s of removing them"
            )));
        }
        removed += found;
        looks = if found == 0 { looks + 1 } else { 0 };
        if looks < EMPTY_LOOKS {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    Ok(removed)
}

async fn remove_containers_of(layout: &Layout, worker: Member) -> Result<usize, Error> {
    let client = docker_of(layout, worker)?;
    let containers = containers_of(layout, worker, true).await?;
    let options = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let removals = containers.iter().map(|(id, _)| client.remove_container(id, Some(options.clone())));
    for result in join_all(removals).await {
        result.or_else(ignore_gone).map_err(Error::docker("remove a container"))?;
    }
    Ok(containers.len())
}

fn ignore_gone(error: bollard::errors::Error) -> Result<(), bollard::errors::Error> {
    match error {
        // Gone, going, or not running any more.
        bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. } => Ok(()),
        error => Err(error),
    }
}

/// Of a container.
pub type Labels = HashMap<String, String>;

/// Id and labels; `all`: also those that have ended. A daemon whose disk was full when a container started goes on listing it
/// as created, so that no filter of its own tells what runs.
pub async fn containers_of(layout: &Layout, worker: Member, all: bool) -> Result<Vec<(String, Labels)>, Error> {
    let Some(node) = node_id(&layout.data_dir(worker)) else {
        return Ok(Vec::new());
    };
    let filters = HashMap::from([("label", vec![format!("io.goat.node={node}")])]);
    let options = query::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed = docker_of(layout, worker)?.list_containers(Some(options)).await;
    let listed = listed.map_err(Error::docker("list containers"))?;
    let has_ended = |found: &ContainerSummary| {
        matches!(found.state, Some(ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD))
    };
    let wanted = listed.into_iter().filter(|found| all || !has_ended(found));
    Ok(wanted.filter_map(|found| Some((found.id?, found.labels?))).collect())
}

async fn live_containers(layout: &Layout) -> Result<Vec<LiveTask>, Error> {
    let mut live = Vec::new();
    for worker in layout.members().filter(|member| matches!(member, Member::Worker(_))) {
        let client = docker_of(layout, worker)?;
        for (id, labels) in containers_of(layout, worker, false).await? {
            if runs(&client, &id).await? {
                live.extend(live_task(worker, labels));
            }
        }
    }
    Ok(live)
}

fn live_task(worker: Member, mut labels: Labels) -> Option<LiveTask> {
    Some(LiveTask {
        service: labels.remove("io.goat.service")?,
        slot: labels.remove("io.goat.slot")?.parse().ok()?,
        node: worker.name(),
        task: labels.remove("io.goat.task")?,
    })
}

/// A daemon whose disk was full when a container ended goes on listing it as running; asked about it, it knows.
async fn runs(client: &Docker, id: &str) -> Result<bool, Error> {
    match client.inspect_container(id, None).await {
        Ok(found) => Ok(found.state.and_then(|state| state.running).unwrap_or(false)),
        Err(error) => ignore_gone(error).map(|()| false).map_err(Error::docker("inspect a container")),
    }
}

async fn kill_containers(layout: &Layout, worker: Member) -> Result<usize, Error> {
    let client = docker_of(layout, worker)?;
    let containers = containers_of(layout, worker, false).await?;
    let options = query::KillContainerOptionsBuilder::default().signal("SIGKILL").build();
    let kills = containers.iter().map(|(id, _)| client.kill_container(id, Some(options.clone())));
    for result in join_all(kills).await {
        result.or_else(ignore_gone).map_err(Error::docker("kill a container"))?;
    }
    Ok(containers.len())
}

/// What the worker calls itself to its runtime; None before its first start.
pub fn node_id(data_dir: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Node {
        node_id: String,
    }
    let bytes = std::fs::read(data_dir.join("node.json")).ok()?;
    serde_json::from_slice::<Node>(&bytes).ok().map(|node| node.node_id)
}

/// `spec.json` and `state.json` of the process runtime: what is needed of them.
#[derive(Deserialize)]
struct Spec {
    meta: Meta,
}

#[derive(Deserialize)]
struct Meta {
    task: String,
    service: String,
    slot: u32,
}

#[derive(Deserialize)]
struct State {
    process: ProcessId,
    started_at_ms: u64,
    exit: Option<Exit>,
}

#[derive(Deserialize)]
struct Exit {
    at_ms: u64,
}

/// What a supervisor wrote down of its task.
#[derive(Debug, Clone)]
pub struct Traces {
    pub service: String,
    pub slot: u32,
    pub task: String,
    pub process: ProcessId,
    pub started_ms: u64,
    pub exit_ms: Option<u64>,
}

/// The directories of a worker's tasks in the process runtime.
pub fn task_dirs(data_dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(data_dir.join("process")) else {
        return Vec::new();
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// None: it has not been started.
pub fn traces(dir: &Path) -> Option<Traces> {
    let State { process, started_at_ms, exit } = read(&dir.join("state.json"))?;
    let Meta { task, service, slot } = read::<Spec>(&dir.join("spec.json"))?.meta;
    Some(Traces { service, slot, task, process, started_ms: started_at_ms, exit_ms: exit.map(|exit| exit.at_ms) })
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn live_processes(layout: &Layout, member: Member) -> Vec<LiveTask> {
    let live = task_dirs(&layout.data_dir(member)).into_iter().filter_map(|dir| {
        let Traces { task, service, slot, process, .. } = traces(&dir)?;
        process.is_alive().then(|| LiveTask { service, slot, node: member.name(), task })
    });
    live.collect()
}

/// The supervisors, so that none reports the end of its task; and the watchdog, which a dead machine has none of. They are
/// gone when this returns, and have written down everything that they had started.
fn kill_helpers(data_dir: &Path) {
    let is_helper = |args: &[String]| {
        args.get(1).is_some_and(|verb| verb == "supervise" || verb == "watchdog")
            && args.iter().skip(2).any(|arg| Path::new(arg).starts_with(data_dir))
    };
    // The last that its agent has started may not be known as one at the first look.
    let (mut looks, deadline) = (0, Instant::now() + GONE_WITHIN);
    while looks < 2 && Instant::now() < deadline {
        let helpers = command_lines().into_iter().filter(|(_, args)| is_helper(args));
        let helpers: Vec<_> = helpers.filter_map(|(pid, _)| ProcessId::of(pid)).collect();
        looks = if helpers.is_empty() { looks + 1 } else { 0 };
        helpers.iter().for_each(|id| id.signal(Signal::SIGKILL));
        while helpers.iter().any(ProcessId::is_alive) && Instant::now() < deadline {
            std::thread::sleep(GONE_POLL);
        }
    }
}

/// Their supervisors are dead already.
fn kill_processes(data_dir: &Path) -> usize {
    let states = task_dirs(data_dir).into_iter().filter_map(|dir| read::<State>(&dir.join("state.json")));
    let live: Vec<_> = states.map(|state| state.process).filter(ProcessId::is_alive).collect();
    for process in &live {
        process.signal_group(Signal::SIGKILL);
    }
    live.len()
}
