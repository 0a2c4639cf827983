//! Runs tasks as plain processes: no isolation, no image, no limits. Off unless the worker was started with it.
//!
//! Each task has a supervisor (`supervise`), a process of its own session that starts the task's program, keeps its
//! output and writes down how it ended; so tasks outlive the agent, and a new agent learns even the exits that it missed.
//!
//! ```text
//! process/TASK/  spec.json   what to run; written before anything is started
//!                state.json  pid, start, exit; written by the supervisor, the first time before the program runs (`hold`)
//!                alive       a FIFO that the supervisor holds open: its end is seen without polling
//!                log log.1   output (`logs`), the newer and the older part
//!                work/       the working directory
//! ```
//! A process is only ever signalled after its start time and boot were compared with what was written: its number may be
//! another's by now. A supervisor that was killed leaves a task without a witness: it is killed and counts as failed.

mod exec;
mod fence;
pub mod hold;
mod logs;
mod state;
pub mod supervise;
mod watcher;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goat_core::model::{Driver, ImageInfo, ServiceSpec, TaskId};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, watch};

use super::{Created, Error, Event, Found, FoundState, LogOptions, LogStream, Runtime, Started};
use crate::task::{Exit, Order, TaskMeta};
use crate::taskset::TaskSet;
use crate::{durable, notify};
use state::{Launch, State};
use watcher::finished;

use fence::is_held;
pub use fence::{kill, kill_now, process_of};
pub use state::Process;

/// Until the supervisor says that the program runs, or why not.
const LAUNCH: Duration = Duration::from_secs(20);
/// From the kill to the supervisor's last word.
const KILLED: Duration = Duration::from_secs(10);
/// So often everything is looked at, in case a watcher missed something.
const RESYNC: Duration = Duration::from_secs(10);

/// How a task's process ended; None until then.
type ExitSeen = watch::Receiver<Option<Exit>>;

/// The `process` runtime of one node.
#[derive(Debug)]
pub struct ProcessRuntime {
    root: PathBuf,
    /// The program that is started as `PROGRAM supervise DIR`: this agent's own.
    supervisor: PathBuf,
    tasks: TaskSet,
    /// One at a time: launching, stopping and removing a task.
    turns: Mutex<HashMap<TaskId, Arc<tokio::sync::Mutex<()>>>>,
    watched: Mutex<HashMap<TaskId, ExitSeen>>,
    /// Tasks that were asked to end: that is done once, however often a stop is repeated.
    asked_to_end: Mutex<BTreeSet<TaskId>>,
    exits: mpsc::Sender<(TaskId, Exit)>,
    exits_to_tell: Mutex<Option<mpsc::Receiver<(TaskId, Exit)>>>,
}

impl ProcessRuntime {
    /// `root`: the data directory. `supervisor`: the program to supervise with, `/proc/self/exe` in the agent, so that
    /// replacing the agent's file changes nothing for it. `tasks`: parent of what runs in the background.
    pub fn new(root: &Path, supervisor: PathBuf, tasks: &TaskSet) -> Result<Self, durable::Error> {
        let root = root.join("process");
        durable::make_dir(&root)?;
        let (exits, exits_to_tell) = mpsc::channel(256);
        Ok(Self {
            root,
            supervisor,
            tasks: tasks.child("process-runtime"),
            turns: Mutex::default(),
            watched: Mutex::default(),
            asked_to_end: Mutex::default(),
            exits,
            exits_to_tell: Mutex::new(Some(exits_to_tell)),
        })
    }

    fn dir(&self, task: TaskId) -> PathBuf {
        self.root.join(task.to_string())
    }

    fn turn(&self, task: TaskId) -> Arc<tokio::sync::Mutex<()>> {
        self.turns.lock().entry(task).or_default().clone()
    }

    /// The task's process, watched from now on if it runs. None where it was never launched.
    async fn look(&self, task: TaskId) -> Result<Option<Found>, Error> {
        let dir = self.dir(task);
        let Some(launch) = read_blocking(dir.join("spec.json"), durable::read::<Launch>).await? else {
            return Ok(None);
        };
        let Some(state) = read_blocking(dir.join("state.json"), durable::read::<State>).await? else {
            return Ok(Some(Found { meta: launch.meta, container_id: String::new(), state: FoundState::Created }));
        };
        let found =
            |state: FoundState, pid| Found { meta: launch.meta.clone(), container_id: format!("pid:{pid}"), state };
        let pid = state.process.pid;
        if let Some(exit) = state.exit {
            return Ok(Some(found(FoundState::Ended(Some(exit)), pid)));
        }
        let seen = self.watch_task(task, dir).await?;
        let exit = seen.borrow().clone();
        let state = match exit {
            Some(exit) => FoundState::Ended(Some(exit)),
            None => FoundState::Running { started_at_ms: state.started_at_ms, is_paused: false },
        };
        Ok(Some(found(state, pid)))
    }

    /// Watches a launched task, if that is not done already.
    async fn watch_task(&self, task: TaskId, dir: PathBuf) -> Result<ExitSeen, Error> {
        if let Some(seen) = self.watched.lock().get(&task) {
            return Ok(seen.clone());
        }
        let watcher = watcher::Watcher::open(dir).map_err(|error| Error::failed("agent-error", error.to_string()))?;
        let mut watched = self.watched.lock();
        if let Some(seen) = watched.get(&task) {
            return Ok(seen.clone());
        }
        let (tell, seen) = watch::channel(None);
        watched.insert(task, seen.clone());
        let exits = self.exits.clone();
        self.tasks.spawn("watch-process", async move {
            let exit = watcher.exit().await;
            tell.send_replace(Some(exit.clone()));
            // A full channel only delays: the next resync tells it again.
            let _ = exits.try_send((task, exit));
        });
        Ok(seen)
    }

    /// Starts the supervisor and hears from it how that went.
    async fn launch(&self, order: &Order) -> Result<Started, Error> {
        let dir = self.dir(order.meta.task);
        if is_held(&dir) {
            return Err(Error::Unreachable { problem: "a supervisor is starting the task".into() });
        }
        prepare_dir(&dir, order).map_err(|error| {
            let reason = if error.is_disk_full() { "disk-full" } else { "agent-error" };
            Error::failed(reason, error.to_string())
        })?;
        let mut child = notify::own(&self.supervisor)
            .arg("supervise")
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()
            .map_err(|error| Error::failed("agent-error", format!("the supervisor cannot be started: {error}")))?;
        let stdout = child.stdout.take().expect("it is piped");
        // Collects the supervisor when it has ended, as parents must.
        self.tasks.spawn("reap-supervisor", async move {
            let _ = child.wait().await;
        });
        let mut line = String::new();
        let mut reader = BufReader::new(stdout);
        match tokio::time::timeout(LAUNCH, reader.read_line(&mut line)).await {
            Ok(Ok(bytes)) if bytes > 0 => {}
            Ok(_) => return Err(Error::failed("agent-error", "the supervisor ended without a word")),
            Err(_) => {
                return Err(Error::Unreachable { problem: "the supervisor does not answer".into() });
            }
        }
        match serde_json::from_str(&line) {
            Ok(state::Word::Started(state)) => {
                self.watch_task(order.meta.task, dir).await?;
                let container_id = format!("pid:{}", state.process.pid);
                Ok(Started { container_id, started_at_ms: state.started_at_ms })
            }
            Ok(state::Word::Failed { reason, problem }) => Err(Error::failed(state::known_reason(&reason), problem)),
            Err(error) => Err(Error::failed("agent-error", format!("the supervisor makes no sense: {error}"))),
        }
    }

    async fn wait_for(seen: &mut ExitSeen, limit: Duration) -> Option<Exit> {
        let exit = tokio::time::timeout(limit, seen.wait_for(Option::is_some)).await.ok()?.ok()?;
        exit.clone()
    }
}

async fn read_blocking<T: Send + 'static>(
    path: PathBuf,
    read: impl FnOnce(&Path) -> Result<Option<T>, durable::Error> + Send + 'static,
) -> Result<Option<T>, Error> {
    let result = finished(tokio::task::spawn_blocking(move || read(&path))).await;
    result.map_err(|error| Error::failed("agent-error", error.to_string()))
}

/// What the supervisor needs. Made anew: nothing ran in it, or it would not be launched.
fn prepare_dir(dir: &Path, order: &Order) -> Result<(), durable::Error> {
    let io = |path: PathBuf| move |source| durable::Error::Io { path, source };
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(io(dir.to_owned()))?;
    }
    durable::make_dir(&dir.join("work"))?;
    let alive = dir.join("alive");
    nix::unistd::mkfifo(&alive, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| io(alive)(errno.into()))?;
    let argv = order.spec.command.iter().chain(&order.spec.args).cloned().collect();
    durable::write(&dir.join("spec.json"), &Launch { meta: order.meta.clone(), argv, env: order.environment() })
}

#[async_trait::async_trait]
impl Runtime for ProcessRuntime {
    fn driver(&self) -> Driver {
        Driver::Process
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn prepare(&self, _spec: &ServiceSpec) -> Result<(), Error> {
        Ok(())
    }

    async fn create(&self, order: &Order) -> Result<Created, Error> {
        if order.spec.command.first().is_none_or(String::is_empty) {
            return Err(Error::failed("command-not-found", "no program is named"));
        }
        match self.look(order.meta.task).await? {
            None => Ok(Created::Fresh { handle: String::new() }),
            Some(Found { state: FoundState::Created, .. }) => Ok(Created::Fresh { handle: String::new() }),
            Some(Found { state: FoundState::Running { started_at_ms, .. }, container_id, .. }) => {
                Ok(Created::Running(Started { container_id, started_at_ms }))
            }
            Some(Found { state: FoundState::Ended(exit), container_id, .. }) => {
                Ok(Created::Ended { container_id, exit: exit.unwrap_or_else(Exit::unseen) })
            }
        }
    }

    async fn start(&self, order: &Order, _handle: &str) -> Result<Started, Error> {
        let turn = self.turn(order.meta.task);
        let _guard = turn.lock().await;
        match self.look(order.meta.task).await? {
            Some(Found { state: FoundState::Running { started_at_ms, .. }, container_id, .. }) => {
                Ok(Started { container_id, started_at_ms })
            }
            Some(Found { state: FoundState::Ended(_), .. }) => {
                Err(Error::failed("start-failed", "it has ended before"))
            }
            _ => self.launch(order).await,
        }
    }

    async fn stop(&self, meta: &TaskMeta, grace: Duration) -> Result<Option<Exit>, Error> {
        let turn = self.turn(meta.task);
        let _guard = turn.lock().await;
        match self.look(meta.task).await? {
            None | Some(Found { state: FoundState::Created, .. }) => return Ok(None),
            Some(Found { state: FoundState::Ended(exit), .. }) => return Ok(exit),
            Some(_) => {}
        }
        let dir = self.dir(meta.task);
        let mut seen = self.watch_task(meta.task, dir.clone()).await?;
        let Some(state) = read_blocking(dir.join("state.json"), durable::read::<State>).await? else {
            return Ok(None);
        };
        if !grace.is_zero() {
            if self.asked_to_end.lock().insert(meta.task) {
                state.process.signal_group(Signal::SIGTERM);
            }
            if let Some(exit) = Self::wait_for(&mut seen, grace).await {
                return Ok(Some(exit));
            }
        }
        state.process.signal_group(Signal::SIGKILL);
        match Self::wait_for(&mut seen, KILLED).await {
            Some(exit) => Ok(Some(exit)),
            None => Err(Error::Unreachable { problem: "a killed process does not end".into() }),
        }
    }

    async fn remove(&self, meta: &TaskMeta) -> Result<(), Error> {
        self.stop(meta, Duration::ZERO).await?;
        let turn = self.turn(meta.task);
        let _guard = turn.lock().await;
        let dir = self.dir(meta.task);
        let removed = tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        finished(removed).await.map_err(|error| Error::Unreachable { problem: error.to_string() })?;
        self.watched.lock().remove(&meta.task);
        self.asked_to_end.lock().remove(&meta.task);
        self.turns.lock().remove(&meta.task);
        Ok(())
    }

    async fn inspect(&self, meta: &TaskMeta) -> Result<Option<Found>, Error> {
        self.look(meta.task).await
    }

    async fn list(&self) -> Result<Vec<Found>, Error> {
        let failed = |error: std::io::Error| Error::Unreachable { problem: error.to_string() };
        let mut dirs = tokio::fs::read_dir(&self.root).await.map_err(failed)?;
        let mut found = Vec::new();
        while let Some(entry) = dirs.next_entry().await.map_err(failed)? {
            let Some(task) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match self.look(task).await {
                Ok(one) => found.extend(one),
                Err(error) => tracing::warn!(task_id = %task, %error, "a process cannot be made sense of"),
            }
        }
        Ok(found)
    }

    async fn logs(&self, meta: &TaskMeta, options: LogOptions) -> Result<LogStream, Error> {
        let dir = self.dir(meta.task);
        let ended = match self.look(meta.task).await? {
            Some(Found { state: FoundState::Running { .. }, .. }) if options.follow => {
                Some(self.watch_task(meta.task, dir.clone()).await?)
            }
            _ => None,
        };
        Ok(logs::read(dir, options, ended))
    }

    async fn watch(&self, events: mpsc::Sender<(Driver, Event)>) {
        let Some(mut exits) = self.exits_to_tell.lock().take() else {
            return;
        };
        if events.send((Driver::Process, Event::Up)).await.is_err() {
            return;
        }
        let mut due = tokio::time::interval(RESYNC);
        loop {
            let event = tokio::select! {
                Some((task, exit)) = exits.recv() => Event::Exited { task, container_id: None, exit },
                _ = due.tick() => {
                    let asked = Instant::now();
                    match self.list().await {
                        Ok(found) => Event::Resync { asked, found },
                        Err(error) => {
                            tracing::warn!(%error, "processes could not be listed");
                            continue;
                        }
                    }
                }
            };
            if events.send((Driver::Process, event)).await.is_err() {
                return;
            }
        }
    }

    async fn images(&self) -> Result<Vec<ImageInfo>, Error> {
        Ok(Vec::new())
    }

    async fn disk_root(&self) -> Result<PathBuf, Error> {
        Ok(self.root.clone())
    }
}
