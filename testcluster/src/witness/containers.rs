//! Lives of containers: each daemon's own events, with `inspect` for the exact times and for what events missed; and their
//! first processes, looked at all the while, since a daemon that is gone or hangs says nothing of an end, and one that comes
//! back may date it when it came back.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerInspectResponse, EventMessage};
use bollard::query_parameters as query;
use futures::StreamExt;

use super::{Life, Notes, now_ms, workers};
use crate::error::Error;
use crate::layout::{Layout, Member};
use crate::process::ProcessId;
use crate::remains::{self, Labels};
use crate::runtime::docker_of;
use crate::taskset::TaskSet;

/// Before a daemon that does not answer is asked again.
const RETRY: Duration = Duration::from_millis(200);
/// Events of so long before a stream broke are asked for again. Hearing one twice is fine.
const AGAIN_MS: u64 = 2_000;
/// A daemon may be halted by a drill; nobody waits for it longer.
const INSPECT: Duration = Duration::from_secs(5);
/// Between two looks at processes.
const SAMPLE: Duration = Duration::from_millis(20);

/// The first processes of containers that were found running. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Processes(Arc<Mutex<HashMap<String, ProcessId>>>);

impl Processes {
    fn note(&self, container: &str, pid: i32) {
        let mut all = self.0.lock().expect("no panic holds it");
        if !all.contains_key(container)
            && let Some(process) = ProcessId::of(pid)
        {
            all.insert(container.to_owned(), process);
        }
    }

    /// Containers whose process has ended since the last look.
    fn ended(&self) -> Vec<String> {
        let mut all = self.0.lock().expect("no panic holds it");
        let ended: Vec<_> = all.iter().filter(|(_, process)| !process.is_alive()).map(|(id, _)| id.clone()).collect();
        all.retain(|id, _| !ended.contains(id));
        ended
    }
}

/// Watches every daemon that the cluster uses.
pub(super) fn watch(layout: &Layout, notes: &Notes, processes: &Processes, tasks: &TaskSet) -> Result<(), Error> {
    let (sampled, ends) = (processes.clone(), notes.clone());
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(SAMPLE).await;
            let now_ms = now_ms();
            sampled.ended().iter().for_each(|container| ends.date_end(container, now_ms));
        }
    });
    let daemons: BTreeSet<Option<PathBuf>> = workers(layout).map(|worker| layout.docker_socket(worker)).collect();
    for socket in daemons {
        let mine: Vec<_> = workers(layout).filter(|worker| layout.docker_socket(*worker) == socket).collect();
        let Some(first) = mine.first() else { continue };
        let daemon = Daemon {
            client: docker_of(layout, *first)?,
            layout: layout.clone(),
            workers: mine,
            notes: notes.clone(),
            processes: processes.clone(),
        };
        tasks.spawn(daemon.watch());
    }
    Ok(())
}

/// One look at everything.
pub(super) async fn look(layout: &Layout, notes: &Notes, processes: &Processes) -> Result<(), Error> {
    for worker in workers(layout) {
        look_at(&docker_of(layout, worker)?, layout, worker, (notes, processes)).await?;
    }
    Ok(())
}

async fn look_at(
    client: &Docker,
    layout: &Layout,
    worker: Member,
    (notes, processes): (&Notes, &Processes),
) -> Result<(), Error> {
    let node = worker.name();
    let were_alive = notes.alive_on(&node);
    let listed = remains::containers_of(layout, worker, true).await?;
    for (id, _) in &listed {
        if let Some(life) = inspect(client, id, &node, processes).await {
            notes.note(id, life);
        }
    }
    // Removed, and nobody told when it had ended.
    for id in were_alive.iter().filter(|id| !listed.iter().any(|(there, _)| there == *id)) {
        notes.end(id, now_ms());
    }
    Ok(())
}

/// One daemon, with the workers that use it.
#[derive(Debug)]
struct Daemon {
    client: Docker,
    layout: Layout,
    workers: Vec<Member>,
    notes: Notes,
    processes: Processes,
}

impl Daemon {
    async fn watch(self) {
        let mut since_ms = self.notes.since_ms();
        loop {
            self.listen(since_ms).await;
            since_ms = now_ms().saturating_sub(AGAIN_MS);
            // What happened while nobody listened.
            while !self.look().await {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn look(&self) -> bool {
        for worker in &self.workers {
            if look_at(&self.client, &self.layout, *worker, (&self.notes, &self.processes)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Until the stream ends, as it does when the daemon does.
    async fn listen(&self, since_ms: u64) {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let filters = HashMap::from([
            ("type", words(&["container"])),
            ("event", words(&["start", "die"])),
            ("label", words(&["io.goat.node"])),
        ]);
        let since = format!("{}.{:03}", since_ms / 1_000, since_ms % 1_000);
        let options = query::EventsOptionsBuilder::default().since(&since).filters(&filters).build();
        let mut events = self.client.events(Some(options)).boxed();
        while let Some(Ok(event)) = events.next().await {
            self.hear(event).await;
        }
    }

    async fn hear(&self, event: EventMessage) -> Option<()> {
        let at_ms = u64::try_from(event.time_nano?).ok()? / 1_000_000;
        let actor = event.actor?;
        let (id, mut labels) = (actor.id?, actor.attributes?);
        let node = self.node_of(labels.get("io.goat.node")?)?;
        let is_end = event.action? == "die";
        // The exact times, while the container is there to be asked.
        let life = match inspect(&self.client, &id, &node, &self.processes).await {
            Some(life) => life,
            None => Life { from_ms: at_ms, ..labelled(&mut labels, &node)? },
        };
        self.notes.note(&id, life);
        if is_end {
            self.notes.date_end(&id, at_ms);
        }
        Some(())
    }

    /// A worker writes down its id when it first starts, so this may be new.
    fn node_of(&self, id: &str) -> Option<String> {
        let is_it = |worker: &&Member| remains::node_id(&self.layout.data_dir(**worker)).as_deref() == Some(id);
        self.workers.iter().find(is_it).map(|worker| worker.name())
    }
}

/// None: it is gone, or was never started.
async fn inspect(client: &Docker, id: &str, node: &str, processes: &Processes) -> Option<Life> {
    let asked = client.inspect_container(id, None::<query::InspectContainerOptions>);
    let ContainerInspectResponse { state, config, .. } = tokio::time::timeout(INSPECT, asked).await.ok()?.ok()?;
    let state = state?;
    let from_ms = time_ms(&state.started_at?)?;
    // Whatever its daemon says: one that has just come back may not have looked yet.
    if let Some(pid @ 1..) = state.pid.filter(|_| state.running == Some(true)) {
        processes.note(id, i32::try_from(pid).ok()?);
    }
    // Of a running container this is the end of an earlier run, or year 1.
    let until_ms = if state.running? { None } else { Some(time_ms(&state.finished_at?)?) };
    Some(Life { from_ms, until_ms, ..labelled(&mut config?.labels?, node)? })
}

fn labelled(labels: &mut Labels, node: &str) -> Option<Life> {
    Some(Life {
        service: labels.remove("io.goat.service")?,
        slot: labels.remove("io.goat.slot")?.parse().ok()?,
        node: node.to_owned(),
        task: labels.remove("io.goat.task")?,
        from_ms: 0,
        until_ms: None,
    })
}

/// None for year 1, which stands for never.
fn time_ms(text: &str) -> Option<u64> {
    let time = humantime::parse_rfc3339(text).ok()?;
    time.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_millis() as u64)
}
