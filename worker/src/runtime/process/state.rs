//! What agent and supervisor tell each other, and whether a process is still the one that was meant.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::task::{Exit, TaskMeta};

/// `spec.json`: what to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Launch {
    pub meta: TaskMeta,
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// All of the environment but `PATH`.
    pub env: BTreeMap<String, String>,
}

impl Launch {
    /// A program with the task's environment and working directory. `dir`: the task's.
    pub fn command(&self, dir: &Path, program: &str, args: &[String]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(dir.join("work")).env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(&self.env);
        command
    }
}

/// `state.json`: what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub process: Process,
    pub started_at_ms: u64,
    pub exit: Option<Exit>,
}

/// The supervisor's one line to the agent that started it, or that of what is to be the task to its supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Word {
    Started(State),
    Failed { reason: String, problem: String },
}

/// Whom it is for may be gone; nothing depends on its being heard.
pub(super) fn say(to: &mut impl Write, word: &Word) {
    let mut line = serde_json::to_vec(word).expect("our own types are valid JSON");
    line.push(b'\n');
    let _ = to.write_all(&line).and_then(|()| to.flush());
}

const REASONS: [&str; 5] = ["command-not-found", "permission-denied", "disk-full", "start-failed", "lease-expired"];

/// The constant word for what a supervisor wrote.
pub(super) fn known_reason(text: &str) -> &'static str {
    REASONS.into_iter().find(|reason| *reason == text).unwrap_or("start-failed")
}

/// A process that leads a group of its own, named so that no other is ever taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Since the machine's start, in the kernel's ticks.
    start_ticks: u64,
    boot_id: String,
}

impl Process {
    /// A child that has not been collected yet.
    pub(crate) fn of_child(pid: i32) -> Option<Self> {
        Some(Self { pid, start_ticks: start_ticks(pid)?, boot_id: clock::boot_id() })
    }

    /// Whether it is there, if only as a zombie.
    pub(super) fn is_there(&self) -> bool {
        self.boot_id == clock::boot_id() && start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Whether its machine has been started since.
    pub(super) fn is_of_another_boot(&self) -> bool {
        self.boot_id != clock::boot_id()
    }

    /// Signals it alone, if it is still there.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_there() {
            // It may end at any moment.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Signals it and its descendants that stayed in its group, if it is still there.
    pub(super) fn signal_group(&self, signal: Signal) {
        if !self.is_there() {
            return;
        }
        match killpg(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => tracing::warn!(pid = self.pid, %signal, %error, "a task's processes could not be signalled"),
        }
    }
}

fn start_ticks(pid: i32) -> Option<u64> {
    Some(procfs::process::Process::new(pid).ok()?.stat().ok()?.starttime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_anothers_by_now_is_not_taken_for_the_process() {
        let own = Process::of_child(std::process::id() as i32).expect("this process exists");
        assert!(own.is_there());
        assert!(!Process { start_ticks: own.start_ticks + 1, ..own.clone() }.is_there());
        assert!(!Process { boot_id: "another".into(), ..own.clone() }.is_there());
        assert!(Process { boot_id: "another".into(), ..own }.is_of_another_boot());
    }
}
