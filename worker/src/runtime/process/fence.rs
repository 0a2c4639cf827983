//! Ending a task without its runtime.

use std::path::Path;

use goat_core::model::TaskId;
use nix::sys::signal::Signal;

use super::is_held;
use super::state::State;
use crate::durable;

/// Kills a task's processes without its runtime: for the watchdog. `root`: the data directory. Whether it does not run.
pub fn kill_now(root: &Path, task: TaskId) -> bool {
    let dir = root.join("process").join(task.to_string());
    match durable::read::<State>(&dir.join("state.json")) {
        Ok(Some(state)) if state.exit.is_none() => {
            state.process.signal_group(Signal::SIGKILL);
            !state.process.is_there()
        }
        Ok(Some(_)) => true,
        // Launched, and nothing written yet: its supervisor may be about to start it.
        Ok(None) => !is_held(&dir),
        Err(_) => false,
    }
}
