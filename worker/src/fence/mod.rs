//! Fencing on the worker's side: what must not outlive the lease is killed at its end, even where the agent is dead or
//! frozen by then.
//!
//! ```text
//! agent ── grants ─────────► lease.json ──► watchdog (a process of its own): at the end of the lease, what is
//!   │  └── before a start ─► fence/TASK.json ──►  listed and still runs is killed
//!   └─ keeper: starts the watchdog, and sees that it lives
//! ```
//! The agent itself stops leased tasks at the lease's end, gently (`reconciler`); the watchdog comes a moment later and
//! is sure (`goat_core::lease` has the times). Nothing leased is started while no watchdog lives. What the promise rests
//! on is in `docs/fencing.md`.

mod directory;
mod keeper;
mod kill;
pub mod watchdog;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use goat_core::model::{Driver, OnDisconnect, TaskId};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::task::TaskMeta;

pub use keeper::Keeper;

/// A task that must not outlive the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    pub meta: TaskMeta,
    /// The container's id; empty for a process.
    pub container_id: String,
}

impl Fenced {
    /// Whether other workers' word can keep it beyond the lease.
    pub fn may_be_sheltered(&self) -> bool {
        self.meta.on_disconnect == OnDisconnect::StopIfIsolated
    }
}

/// The list of leased tasks, one file each. Unsynced: no task outlives its machine's crash.
#[derive(Debug, Clone)]
pub struct FenceList {
    dir: PathBuf,
}

impl FenceList {
    /// `root`: the data directory.
    pub fn open(root: &Path) -> Result<Self, durable::Error> {
        let dir = root.join("fence");
        durable::make_dir(&dir)?;
        Ok(Self { dir })
    }

    /// The list of a directory that may be gone: nothing is made.
    fn at(root: &Path) -> Self {
        Self { dir: root.join("fence") }
    }

    /// When something was added or removed last.
    fn changed(&self) -> Option<SystemTime> {
        std::fs::metadata(&self.dir).and_then(|metadata| metadata.modified()).ok()
    }

    fn path(&self, task: TaskId) -> PathBuf {
        self.dir.join(format!("{task}.json"))
    }

    /// Before the task is started, and again for one that was found running. Does nothing for a task without a lease.
    pub fn add(&self, meta: &TaskMeta, container_id: &str) -> Result<(), durable::Error> {
        if !meta.on_disconnect.is_leased() {
            return Ok(());
        }
        let container_id = if meta.driver == Driver::Docker { container_id } else { "" };
        durable::write_unsynced(
            &self.path(meta.task),
            &Fenced { meta: meta.clone(), container_id: container_id.into() },
        )
    }

    /// The task does not run any more. That it was not listed is fine.
    pub fn remove(&self, task: TaskId) {
        let path = self.path(task);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(task_id = %task, %error, "a task that has ended stays listed for the watchdog");
        }
    }

    /// Everything that is listed; files that make no sense are left out and told of.
    pub fn all(&self) -> Vec<Fenced> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let read = |path: PathBuf| match durable::read::<Fenced>(&path) {
            Ok(fenced) => fenced,
            Err(error) => {
                tracing::warn!(%error, "an entry of the fence list makes no sense");
                None
            }
        };
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).filter_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::meta;

    #[test]
    fn leased_tasks_are_listed_until_they_have_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let list = FenceList::open(dir.path()).expect("opened");
        let leased = TaskMeta { on_disconnect: OnDisconnect::Stop, ..meta(1) };
        list.add(&leased, "abc").expect("written");
        list.add(&meta(2), "def").expect("one without a lease is left out");
        assert_eq!(list.all(), [Fenced { meta: leased.clone(), container_id: "abc".into() }]);
        list.remove(leased.task);
        list.remove(leased.task);
        assert_eq!(list.all(), []);
    }
}
