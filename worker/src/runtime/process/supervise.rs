//! `goat-worker supervise DIR`: the process between the agent and one task. It has a session of its own, so it outlives
//! the agent; it must stay small and must not fail.
//!
//! ```text
//! setsid -> hold `alive` -> a process that waits (`hold`) -> state.json -> let it become the program -> one line to the
//!        agent -> wait -> kill what it left -> state.json with the exit -> end (and so the end of `alive`)
//! ```
//! A signal to end is passed on to the task: whoever sends it (a machine that shuts down) means the task.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::mpsc;
use std::time::Duration;

use goat_core::model::OnDisconnect;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::hold::Held;
use super::logs::{Log, LogWriter};
use super::state::{Launch, Process, State, Word, say};
use crate::lease::LeaseFile;
use crate::task::Exit;
use crate::{clock, durable};

/// How long output is waited for after the task's processes are gone.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// The task was not started.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{problem}")]
    Task { reason: &'static str, problem: String },
    #[error("{0:?}")]
    Refused(Box<Word>),
    #[error(transparent)]
    File(#[from] durable::Error),
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

impl Error {
    fn word(self) -> Word {
        if let Self::Refused(word) = self {
            return *word;
        }
        let reason = match &self {
            Self::Task { reason, .. } => reason,
            Self::File(error) if error.is_disk_full() => "disk-full",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => "disk-full",
            _ => "start-failed",
        };
        Word::Failed { reason: reason.into(), problem: self.to_string() }
    }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, source }
}

/// The supervisor's life. `dir`: the task's. Returns the exit code of this process.
pub fn run(dir: &Path) -> i32 {
    // Fails only for the leader of a process group, which then already is on its own.
    let _ = nix::unistd::setsid();
    be_killed_as_others_are("self");
    match start(dir) {
        Ok(running) => {
            say(&mut io::stdout(), &Word::Started(running.state.clone()));
            running.see_it_end();
            0
        }
        Err(error) => {
            say(&mut io::stdout(), &error.word());
            1
        }
    }
}

/// The agent's unit may spare it when memory runs out. A task that takes it all is not to be spared. `process`: its directory
/// in `/proc`.
pub(super) fn be_killed_as_others_are(process: &str) {
    let path = format!("/proc/{process}/oom_score_adj");
    let score = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if score.is_some_and(|score| score < 0) {
        let _ = std::fs::write(path, "0");
    }
}

struct Running {
    state_path: PathBuf,
    state: State,
    child: Child,
    /// Says when both pipes have been read to their end.
    output: mpsc::Receiver<()>,
    _alive: File,
    _lock: Flock<File>,
}

/// An agent that was frozen in the middle of a start may carry it out long after its lease has ended.
fn may_run(dir: &Path, launch: &Launch) -> Result<bool, Error> {
    let on_disconnect = launch.meta.on_disconnect;
    let Some(root) = dir.parent().and_then(Path::parent).filter(|_| on_disconnect.is_leased()) else {
        return Ok(true);
    };
    let lease = LeaseFile::read(root)?;
    let may_be_sheltered = on_disconnect == OnDisconnect::StopIfIsolated;
    Ok(lease.is_some_and(|lease| clock::boot_ms() < lease.end_ms(may_be_sheltered)))
}

fn start(dir: &Path) -> Result<Running, Error> {
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join("lock"));
    let lock = Flock::lock(lock.map_err(io_error("lock"))?, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| io_error("a supervisor holds this task already")(errno.into()))?;
    let alive = OpenOptions::new().read(true).write(true).open(dir.join("alive")).map_err(io_error("alive"))?;
    let missing = || Error::Task { reason: "start-failed", problem: "spec.json is missing".into() };
    let launch: Launch = durable::read(&dir.join("spec.json"))?.ok_or_else(missing)?;
    if !may_run(dir, &launch)? {
        return Err(Error::Task { reason: "lease-expired", problem: "the lease has ended".into() });
    }
    let log = LogWriter::open(dir).map_err(io_error("log"))?;
    let mut held = Held::spawn(dir).map_err(io_error("a process for the task"))?;
    let started_at_ms = clock::now_ms();
    // Before there are other threads: they would not have the signals blocked.
    pass_signals_on(held.child.id());
    let output = pump(&mut held.child, log);
    let state_path = dir.join("state.json");
    match let_go(&mut held, started_at_ms, &state_path) {
        Ok(state) => Ok(Running { state_path, state, child: held.child, output, _alive: alive, _lock: lock }),
        Err(error) => {
            let _ = killpg(Pid::from_raw(held.child.id() as i32), Signal::SIGKILL);
            let _ = held.child.wait();
            // There never was such a process of the task's.
            let _ = durable::remove(&state_path);
            Err(error)
        }
    }
}

/// Writes down which process it is, so that whatever happens it is found again, and lets it become the program.
fn let_go(held: &mut Held, started_at_ms: u64, state_path: &Path) -> Result<State, Error> {
    let process = Process::of_child(held.child.id() as i32);
    let process = process.ok_or_else(|| io_error("/proc")(io::ErrorKind::NotFound.into()))?;
    let state = State { process, started_at_ms, exit: None };
    durable::write(state_path, &state)?;
    held.release().map_or(Ok(state), |word| Err(Error::Refused(Box::new(word))))
}

/// Keeps the task's output, in a thread for each pipe.
fn pump(child: &mut Child, log: LogWriter) -> mpsc::Receiver<()> {
    let (done, output) = mpsc::channel();
    let log = std::sync::Arc::new(parking_lot::Mutex::new(log));
    let one = |pipe: Option<Box<dyn io::Read + Send>>, stream: Log| {
        let (Some(pipe), log, done) = (pipe, log.clone(), done.clone()) else {
            return;
        };
        std::thread::spawn(move || {
            super::logs::pump(pipe, stream, &log);
            let _ = done.send(());
        });
    };
    one(child.stdout.take().map(|pipe| Box::new(pipe) as _), Log::Stdout);
    one(child.stderr.take().map(|pipe| Box::new(pipe) as _), Log::Stderr);
    output
}

/// From here on signals to end go to the task. Blocked only now, since the task would have inherited that.
fn pass_signals_on(pid: u32) {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    if signals.thread_block().is_err() {
        return;
    }
    std::thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            let signal = if signal == Signal::SIGHUP { Signal::SIGTERM } else { signal };
            let _ = killpg(Pid::from_raw(pid as i32), signal);
        }
    });
}

impl Running {
    fn see_it_end(mut self) {
        let pid = Pid::from_raw(self.state.process.pid);
        // Without collecting it yet: as long as it is a zombie, its number and its group are its own.
        while let Err(nix::errno::Errno::EINTR) = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {}
        let at_ms = clock::now_ms();
        let _ = killpg(pid, Signal::SIGKILL);
        let status = self.child.wait();
        for _ in 0..2 {
            let _ = self.output.recv_timeout(LAST_OUTPUT);
        }
        let code = status.ok().and_then(exit_code);
        self.state.exit = Some(Exit { code, at_ms, ..Exit::default() });
        // A full disk may have room again later; without this the task would count as unwitnessed.
        for _ in 0..50 {
            if durable::write(&self.state_path, &self.state).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn exit_code(status: ExitStatus) -> Option<i32> {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal))
}
