//! `goat-worker watchdog`: a process beside the agent that holds the lease's deadline and kills what is leased when it
//! passes. It has a session of its own, so it outlives the agent; it must stay small and must not fail.
//!
//! ```text
//! wait until the deadline and a moment more ─► renewed meanwhile: wait again
//!                                           └► not renewed: kill what is listed until nothing of it runs
//! the agent is gone and nothing leased is left: end
//! the agent is gone and its directory was removed: nothing is this worker's any more; kill what is leased now, stop the rest, end
//! ```
//! Its clock is CLOCK_BOOTTIME, for waiting too: a machine that wakes up from suspend late kills at once.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goat_core::lease::WATCHDOG_AFTER_MS;
use goat_core::model::{NodeId, TaskId};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::directory::{Directory, Presence};
use super::{Fenced, kill};
use crate::runtime::docker::DockerRuntime;
use crate::runtime::process::Process;
use crate::{clock, durable};

/// Between looks while nothing is due.
const LOOK_MS: u64 = 500;
/// Between tries while something has to be killed.
const TRY_MS: u64 = 100;
/// For stopping what is left of a removed worker; then it is tried again.
const REMAINING: Duration = Duration::from_secs(60);
/// Its lock may be held for a moment by an agent that looks whether there is a watchdog.
const LOCK_TRIES: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// The watchdog cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] durable::Error),
    #[error("another watchdog holds {path}")]
    Held { path: PathBuf },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// What the lock file says of the watchdog that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub process: Process,
    pub version: String,
    /// The program's file, as the kernel names it.
    pub program: PathBuf,
}

pub(super) fn lock_path(root: &Path) -> PathBuf {
    root.join("watchdog.lock")
}

/// The watchdog's life. `root`: the agent's data directory; `docker_socket`: absolute path.
pub fn run(root: &Path, node: NodeId, docker_socket: &str) -> Result<(), Error> {
    // Fails only for the leader of a process group, which then already is on its own.
    let _ = nix::unistd::setsid();
    keep_from_being_killed();
    let _lock = hold(root)?;
    let directory = Directory::open(root)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::Io { path: root.to_owned(), source })?;
    let docker = DockerRuntime::new(node, docker_socket, root);
    let mut watch = Watch { directory, docker, gone: BTreeSet::new(), agent_looked_for_ms: 0 };
    while let Some(wake_ms) = runtime.block_on(watch.look(clock::boot_ms())) {
        sleep_until(wake_ms);
    }
    info!("the watchdog ends: the agent is gone, and nothing leased is left");
    Ok(())
}

/// When memory runs out, others first. Needs a privilege; without it, as any process.
fn keep_from_being_killed() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "-900");
}

fn hold(root: &Path) -> Result<Flock<File>, Error> {
    let path = lock_path(root);
    let io = |source| Error::Io { path: path.clone(), source };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io)?;
    for _ in 0..LOCK_TRIES {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                let process = Process::of_child(std::process::id() as i32);
                let process = process.ok_or_else(|| io(io::ErrorKind::NotFound.into()))?;
                let program = std::fs::read_link("/proc/self/exe").map_err(io)?;
                let holder = Holder { process, version: env!("CARGO_PKG_VERSION").into(), program };
                let text = serde_json::to_vec(&holder).expect("our own types are valid JSON");
                lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(&text)).map_err(io)?;
                return Ok(lock);
            }
            Err((file, _)) => file,
        };
        std::thread::sleep(LOCK_WAIT);
    }
    Err(Error::Held { path })
}

/// Who holds the lock; None where nobody does.
pub(super) fn holder(root: &Path) -> Option<Option<Holder>> {
    let mut file = File::open(lock_path(root)).ok()?;
    let mut text = String::new();
    let read = file.read_to_string(&mut text);
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_free) => None,
        Err(_) => Some(read.ok().and_then(|_| serde_json::from_str(&text).ok())),
    }
}

fn sleep_until(wake_ms: u64) {
    let time = TimeSpec::from_duration(Duration::from_millis(wake_ms));
    // A signal ends it early, which does no harm.
    let _ = clock_nanosleep(ClockId::CLOCK_BOOTTIME, ClockNanosleepFlags::TIMER_ABSTIME, &time);
}

struct Watch {
    directory: Directory,
    docker: DockerRuntime,
    /// Seen to be gone since the lease ended.
    gone: BTreeSet<TaskId>,
    agent_looked_for_ms: u64,
}

impl Watch {
    /// Does what is due; when to look again. None: there is nothing left to watch.
    async fn look(&mut self, now_ms: u64) -> Option<u64> {
        // While the directory is there, so that it is known when it is not.
        self.directory.refresh();
        // Nobody renews a lease whose agent is gone and whose directory no other agent can open.
        let is_ownerless = self.directory.presence() == Presence::Removed && self.directory.is_agent_gone();
        // Without a lease nothing leased may run.
        let lease = self.directory.lease().filter(|_| !is_ownerless);
        let end_ms = |is_sheltered: bool| {
            let end_ms = lease.as_ref().map_or(0, |lease| lease.end_ms(is_sheltered));
            end_ms + WATCHDOG_AFTER_MS
        };
        let first_ms = end_ms(false).min(end_ms(true));
        if now_ms < first_ms {
            self.gone.clear();
            // An agent whose lease runs is looked for when it has ended.
            return Some(first_ms.min(now_ms + LOOK_MS));
        }
        let mut listed = self.directory.listed();
        listed.retain(|fenced| !self.gone.contains(&fenced.meta.task));
        if listed.is_empty() && is_ownerless {
            return self.end_remaining(now_ms).await;
        }
        if listed.is_empty() && self.is_agent_gone(now_ms) {
            return None;
        }
        let mut next_ms = now_ms + LOOK_MS;
        let mut due = Vec::new();
        for fenced in listed {
            let due_ms = end_ms(fenced.may_be_sheltered());
            if now_ms < due_ms {
                next_ms = next_ms.min(due_ms);
            } else {
                due.push(fenced);
            }
        }
        if !self.end(&due).await {
            next_ms = next_ms.min(now_ms + TRY_MS);
        }
        Some(next_ms)
    }

    /// Whether all of them are gone.
    async fn end(&mut self, due: &[Fenced]) -> bool {
        let gone = kill::end(due, &self.directory, &self.docker).await;
        for fenced in due.iter().filter(|fenced| gone.contains(&fenced.meta.task)) {
            let (task, service) = (fenced.meta.task, &fenced.meta.service);
            warn!(task_id = %task, service, "the lease has ended: the watchdog made sure that a task does not run");
        }
        let are_all_gone = gone.len() == due.len();
        self.gone.extend(gone);
        are_all_gone
    }

    /// Asked rarely: asking takes the agent's lock for a moment.
    fn is_agent_gone(&mut self, now_ms: u64) -> bool {
        if now_ms < self.agent_looked_for_ms + 2 * LOOK_MS {
            return false;
        }
        self.agent_looked_for_ms = now_ms;
        self.directory.is_agent_gone()
    }

    /// Stops the containers that are left of a worker whose directory was removed: without its identity no agent can adopt them.
    async fn end_remaining(&self, now_ms: u64) -> Option<u64> {
        match tokio::time::timeout(REMAINING, self.docker.end_all()).await {
            Ok(Ok(ended)) => {
                if ended > 0 {
                    warn!(ended, "the data directory was removed: its worker's containers were stopped");
                }
                return None;
            }
            Ok(Err(error)) => warn!(%error, "containers of a removed worker could not be stopped yet"),
            Err(_) => warn!("containers of a removed worker do not end"),
        }
        Some(now_ms + 2 * LOOK_MS)
    }
}
