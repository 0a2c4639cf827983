//! Processes by number and start, so that none is ever taken for another, and children of the supervisor.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use crate::error::Error;
use crate::programs;

/// One process, and no later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Since the machine's start, in the kernel's ticks.
    pub start_ticks: u64,
    pub boot_id: String,
}

impl ProcessId {
    /// None where there is no such process.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start_ticks: stat(pid)?.1, boot_id: boot_id() })
    }

    /// Whether it runs: a zombie does not.
    pub fn is_alive(&self) -> bool {
        self.boot_id == boot_id()
            && stat(self.pid).is_some_and(|(state, start)| start == self.start_ticks && state != 'Z')
    }

    /// Signals it if it is still there.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Signals the group that it leads if it is still there.
    pub fn signal_group(&self, signal: Signal) {
        if self.is_alive() {
            let _ = killpg(Pid::from_raw(self.pid), signal);
        }
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// State and start time. The name before them may hold anything, brackets too.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// None where there is no such process.
pub fn parent_of(pid: i32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Arguments of every process that may be looked at.
pub fn command_lines() -> Vec<(i32, Vec<String>)> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        Some((pid, text.split_terminator('\0').map(str::to_owned).collect()))
    })
    .collect()
}

/// A program that the supervisor started.
#[derive(Debug)]
pub struct Running {
    pub id: ProcessId,
    child: Child,
    pub is_frozen: bool,
}

impl Running {
    /// Starts a program with its output appended to `log`. It has a group of its own, so that Ctrl-C at the terminal
    /// reaches the supervisor alone, and none of the variables that would override its options; `env` are set beside.
    pub fn start(program: &Path, args: &[String], env: &[(String, String)], log: &Path) -> Result<Self, Error> {
        let out = OpenOptions::new().create(true).append(true).open(log).map_err(Error::io("open", log))?;
        let err = out.try_clone().map_err(Error::io("open", log))?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).kill_on_drop(true);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GOAT_")) {
            command.env_remove(name);
        }
        // The daemons that are started this way look for programs of the system themselves.
        command.env("PATH", programs::search_path());
        command.envs(env.iter().map(|(name, value)| (name, value)));
        let child = command.spawn().map_err(Error::io("start", program))?;
        let id = child.id().and_then(|pid| ProcessId::of(pid as i32));
        let id =
            id.ok_or_else(|| Error::failed(format!("{} ended at once; see {}", program.display(), log.display())))?;
        Ok(Self { id, child, is_frozen: false })
    }

    /// How it ended, if it has: `code 1`, `signal 9`.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| {
            use std::os::unix::process::ExitStatusExt;
            match (status.code(), status.signal()) {
                (Some(code), _) => format!("code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "unknown".to_owned(),
            }
        })
    }

    /// A process that is not collected yet keeps its number: no other can be hit.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        match kill(Pid::from_raw(self.id.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => {
                return Err(Error::failed(format!("process {} cannot be signalled: {errno}", self.id.pid)));
            }
        }
        match signal {
            Signal::SIGSTOP => self.is_frozen = true,
            Signal::SIGCONT => self.is_frozen = false,
            _ => {}
        }
        Ok(())
    }

    /// Ends it by SIGTERM, and after `grace` by SIGKILL. True if SIGTERM was enough.
    pub async fn stop(&mut self, grace: Duration) -> Result<bool, Error> {
        self.signal(Signal::SIGTERM)?;
        self.signal(Signal::SIGCONT)?;
        if tokio::time::timeout(grace, self.child.wait()).await.is_ok() {
            return Ok(true);
        }
        self.kill().await?;
        Ok(false)
    }

    /// Ends it by SIGKILL and waits until it is gone.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.signal(Signal::SIGKILL)?;
        let gone = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
        gone.map_err(|_| Error::failed(format!("process {} does not die", self.id.pid)))?
            .map(drop)
            .map_err(|source| Error::Io { what: format!("cannot wait for process {}", self.id.pid), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_anothers_by_now_is_not_taken_for_the_process() {
        let own = ProcessId::of(std::process::id() as i32).expect("this process exists");
        assert!(own.is_alive());
        assert!(!ProcessId { start_ticks: own.start_ticks + 1, ..own.clone() }.is_alive());
        assert!(!ProcessId { boot_id: "another".into(), ..own }.is_alive());
        assert_eq!(ProcessId::of(i32::MAX), None);
    }
}
