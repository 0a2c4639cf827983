//! Sees a supervised task end, by the end of its supervisor: no polling.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tracing::warn;

use super::state::State;
use crate::task::Exit;
use crate::{clock, durable};

/// Between looks at a task that lost its supervisor and was killed.
const GONE_POLL: Duration = Duration::from_millis(20);

/// Reads a FIFO that the supervisor holds open, and nobody writes to, until its end.
#[derive(Debug)]
pub(super) struct Watcher {
    dir: PathBuf,
    alive: pipe::Receiver,
}

impl Watcher {
    /// The supervisor holds the FIFO by now, or is dead.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        let alive = pipe::OpenOptions::new().open_receiver(dir.join("alive"))?;
        Ok(Self { dir, alive })
    }

    /// Waits for the task's end.
    pub(super) async fn exit(mut self) -> Exit {
        let mut byte = [0];
        // An error is as good as the end: what there is to know is in the file.
        while self.alive.read(&mut byte).await.is_ok_and(|bytes| bytes > 0) {}
        let path = self.dir.join("state.json");
        let read = tokio::task::spawn_blocking(move || durable::read::<State>(&path)).await;
        match read.expect("reading does not panic") {
            Ok(Some(State { exit: Some(exit), .. })) => exit,
            Ok(Some(state)) => unwitnessed(state).await,
            Ok(None) => unknown("agent-error", "the supervisor left nothing"),
            Err(error) => unknown("agent-error", &error.to_string()),
        }
    }
}

/// Nobody would see this task end, so it must not go on.
async fn unwitnessed(state: State) -> Exit {
    if state.process.is_of_another_boot() {
        return unknown("machine-restarted", "the machine was restarted while it ran");
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
    Exit { code: None, is_oom: false, at_ms: clock::now_ms(), failure: Some((reason.into(), problem.into())) }
}
