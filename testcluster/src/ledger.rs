//! What the supervisor started, on disk: so that the next one can end exactly that after the first was killed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::error::Error;
use crate::process::ProcessId;

/// From SIGKILL until the kernel has cleared up.
const GONE: Duration = Duration::from_secs(5);

/// `processes.json`.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    processes: Vec<ProcessId>,
}

impl Ledger {
    /// Opens the ledger of a cluster directory; empty where there is none.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("processes.json");
        let processes = match std::fs::read(&path) {
            // Cut off in mid-write: what it said is unknown, and nothing may be killed on a guess.
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        Ok(Self { path, processes })
    }

    /// Remembers a process that was started.
    pub fn add(&mut self, id: ProcessId) -> Result<(), Error> {
        self.processes.retain(ProcessId::is_alive);
        self.processes.push(id);
        let next = self.path.with_extension("new");
        let text = serde_json::to_vec(&self.processes).expect("it is plain data");
        std::fs::write(&next, text).map_err(Error::io("write", &next))?;
        std::fs::rename(&next, &self.path).map_err(Error::io("write", &self.path))
    }

    /// Kills those that still run, and waits until they are gone; how many that were.
    pub fn sweep(&mut self) -> usize {
        let left: Vec<_> = self.processes.drain(..).filter(ProcessId::is_alive).collect();
        for id in &left {
            id.signal(Signal::SIGKILL);
        }
        let deadline = Instant::now() + GONE;
        while left.iter().any(ProcessId::is_alive) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        left.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_kills_what_was_started_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("started");
        let id = ProcessId::of(child.id() as i32).expect("it runs");
        let own = ProcessId::of(std::process::id() as i32).expect("it runs");
        let mut ledger = Ledger::open(dir.path()).expect("opened");
        ledger.add(ProcessId { start_ticks: own.start_ticks + 1, ..own }).expect("written");
        ledger.add(id.clone()).expect("written");
        assert_eq!(Ledger::open(dir.path()).expect("opened").sweep(), 1);
        assert!(!child.wait().expect("it ends").success());
        assert!(!id.is_alive());
    }
}
