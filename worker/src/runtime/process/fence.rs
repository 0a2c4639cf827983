//! Ending a task without its runtime.

use std::fs::File;
use std::path::Path;

use goat_core::model::TaskId;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use super::state::{Process, State};
use crate::durable;

/// Kills a task's processes without its runtime: for the watchdog. `root`: the data directory. Whether it does not run.
pub fn kill_now(root: &Path, task: TaskId) -> bool {
    let dir = root.join("process").join(task.to_string());
    match durable::read::<State>(&dir.join("state.json")) {
        Ok(Some(state)) if state.exit.is_none() => kill(&state.process),
        Ok(Some(_)) => true,
        // Launched, and nothing written yet: its supervisor may be about to start it.
        Ok(None) => !is_held(&dir),
        Err(_) => false,
    }
}

/// A task's process, for when its files are gone. `root`: the data directory.
pub fn process_of(root: &Path, task: TaskId) -> Option<Process> {
    let path = root.join("process").join(task.to_string()).join("state.json");
    durable::read::<State>(&path).ok()?.map(|state| state.process)
}

/// Kills a process and its group. Returns whether it is gone.
pub fn kill(process: &Process) -> bool {
    process.signal_group(Signal::SIGKILL);
    !process.is_there()
}

/// Whether a supervisor has the task, though it may not have written anything yet: one that an agent started which died
/// before it heard from it.
pub(super) fn is_held(dir: &Path) -> bool {
    match File::open(dir.join("lock")) {
        Ok(file) => Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err(),
        Err(_) => false,
    }
}
