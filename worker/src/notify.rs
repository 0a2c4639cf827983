//! What systemd hears of a worker: that its agent runs, with whom it holds a session, and that it still answers.
//!
//! Ready is an agent that has its journal, its watchdog and its runtimes before it; a manager need not be there, nor Docker.

use std::path::Path;

use goat_core::state::command::TaskReport;
use goat_system::notify;
use tokio::process::Command;
use tokio::sync::watch;

use crate::reconciler::Handle;
use crate::session::Standing;

/// This agent's own program, for the processes beside it. They outlive the agent, and must not speak for it.
pub fn own(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg0("goat-worker");
    for variable in notify::VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// Tells systemd, where it wants to hear, until it is dropped.
pub async fn run(reconciler: Handle, standing: watch::Receiver<Option<Standing>>) {
    notify::run(|| look(&reconciler, &standing)).await;
}

async fn look(reconciler: &Handle, standing: &watch::Receiver<Option<Standing>>) -> Option<String> {
    let tasks = reconciler.snapshot().await.ok()?;
    let tasks = tasks.into_iter().filter_map(|task| TaskReport::try_from(task).ok());
    let live = tasks.filter(|task| !task.state.is_terminal()).count();
    let tasks = if live == 1 { "1 task".to_owned() } else { format!("{live} tasks") };
    let standing = standing.borrow();
    Some(match &*standing {
        Some(Standing { manager, term }) => format!("session with {manager} in term {term}, {tasks}"),
        None => format!("no session: seeks a manager, {tasks}"),
    })
}
