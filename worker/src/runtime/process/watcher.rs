//! Sees a supervised task end, by the end of its supervisor: no polling.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tracing::warn;

use super::super::RUNTIME_DOWN;
use super::state::State;
use crate::durable;
use crate::task::Exit;

/// Between looks at a task that lost its supervisor and was killed.
const GONE_POLL: Duration = Duration::from_millis(20);

/// Reads a FIFO that the supervisor holds open, and nobody writes to, until its end.
#[derive(Debug)]
pub(super) struct Watcher {
    dir: PathBuf,
    /// None where nobody held it any more.
    alive: Option<pipe::Receiver>,
}

impl Watcher {
    /// The supervisor holds the FIFO by now, or is dead.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(dir.join("alive"))?;
        // Of a FIFO that nobody holds when it is opened epoll never says that it can be read; a read says so at once.
        let is_held = !matches!(file.read(&mut [0]), Ok(0));
        let alive = is_held.then(|| pipe::Receiver::from_file(file)).transpose()?;
        Ok(Self { dir, alive })
    }

    /// Waits for the task's end.
    pub(super) async fn exit(mut self) -> Exit {
        if let Some(alive) = &mut self.alive {
            let mut byte = [0];
            // An error is as good as the end: what there is to know is in the file.
            while alive.read(&mut byte).await.is_ok_and(|bytes| bytes > 0) {}
        }
        let path = self.dir.join("state.json");
        match finished(tokio::task::spawn_blocking(move || durable::read::<State>(&path))).await {
            Ok(Some(State { exit: Some(exit), .. })) => exit,
            Ok(Some(state)) => unwitnessed(state).await,
            Ok(None) => unknown("agent-error", "the supervisor left nothing"),
            Err(error) => unknown("agent-error", &error.to_string()),
        }
    }
}

/// What blocking work came to. An agent that ends lets none begin any more: then this never returns, and nothing is
/// concluded from it.
pub(super) async fn finished<T>(work: tokio::task::JoinHandle<T>) -> T {
    match work.await {
        Ok(done) => done,
        Err(error) if error.is_cancelled() => std::future::pending().await,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Nobody would see this task end, so it must not go on.
async fn unwitnessed(state: State) -> Exit {
    if state.process.is_of_another_boot() {
        return unknown(RUNTIME_DOWN, "the machine was restarted while it ran");
    }
    if state.process.is_there() {
        warn!(pid = state.process.pid, "a supervisor was killed, its task is killed too");
        state.process.signal_group(Signal::SIGKILL);
        while state.process.is_there() {
            tokio::time::sleep(GONE_POLL).await;
        }
    }
    unknown("supervisor-lost", "its supervisor was killed, so that its exit was not seen")
}

fn unknown(reason: &str, problem: &str) -> Exit {
    Exit { failure: Some((reason.into(), problem.into())), ..Exit::unseen() }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::state::Process;
    use super::*;

    /// As long as a slow machine may take; it is over in milliseconds.
    const SOON: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_task_that_died_together_with_its_supervisor_is_seen_to_have_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("started");
        let process = Process::of_child(child.id() as i32).expect("it runs");
        child.kill().expect("killed");
        child.wait().expect("collected");
        let state = State { process, started_at_ms: 1, exit: None };
        durable::write(&dir.path().join("state.json"), &state).expect("written");
        nix::unistd::mkfifo(&dir.path().join("alive"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        let watcher = Watcher::open(dir.path().to_owned()).expect("opened");
        let exit = tokio::time::timeout(SOON, watcher.exit()).await.expect("it does not wait for anybody");
        assert_eq!(exit.failure.expect("with a reason").0, "supervisor-lost");
    }
}
