//! The agent's data directory as the watchdog sees it: the lease, the list of leased tasks and their processes, also after somebody
//! has moved the directory (`mv`) or removed it (`rm -rf`, `apt-get purge`). Another directory under the same path is another
//! worker's, and is not looked at.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use goat_core::model::{Driver, TaskId};
use nix::fcntl::{Flock, FlockArg};
use tracing::warn;

use super::{FenceList, Fenced};
use crate::durable;
use crate::lease::LeaseFile;
use crate::runtime::process::{self, Process};

/// Longer than a tick of a file system's clock: two changes within one look like one.
const SETTLED: Duration = Duration::from_secs(2);

/// How the directory is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    InPlace,
    /// It is there under another name.
    Moved,
    Removed,
}

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Names the directory itself, whatever its path.
    handle: File,
    /// Names the agent's lock and its lease, once they were there: a lease is overwritten in place.
    lock: Option<File>,
    lease: Option<File>,
    /// As they were read last, for when they are gone.
    listed: Vec<Fenced>,
    /// When the list had been changed last as it was read.
    listed_changed: Option<SystemTime>,
    processes: BTreeMap<TaskId, Process>,
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self, durable::Error> {
        let handle = File::open(path).map_err(|source| durable::Error::Io { path: path.to_owned(), source })?;
        FenceList::open(path)?;
        let mut directory = Self {
            path: path.to_owned(),
            handle,
            lock: None,
            lease: None,
            listed: Vec::new(),
            listed_changed: None,
            processes: BTreeMap::new(),
        };
        directory.refresh();
        Ok(directory)
    }

    /// A path to the directory wherever it is now.
    pub(super) fn at(&self) -> PathBuf {
        path_of(&self.handle)
    }

    pub(super) fn presence(&self) -> Presence {
        let Ok(own) = self.handle.metadata() else { return Presence::Removed };
        let is_own = |other: std::fs::Metadata| (other.dev(), other.ino()) == (own.dev(), own.ino());
        if std::fs::metadata(&self.path).is_ok_and(is_own) {
            return Presence::InPlace;
        }
        // The kernel says of a removed directory where it was, and nothing of its name is there any more.
        let is_there = std::fs::read_link(self.at()).and_then(std::fs::metadata).is_ok_and(is_own);
        if is_there { Presence::Moved } else { Presence::Removed }
    }

    /// Reads what may have changed. Does nothing if the directory was removed.
    pub(super) fn refresh(&mut self) {
        if self.presence() == Presence::Removed {
            return;
        }
        let at = self.at();
        self.lock = self.lock.take().or_else(|| File::open(at.join("lock")).ok());
        self.lease = self.lease.take().or_else(|| File::open(at.join(LeaseFile::NAME)).ok());
        let list = FenceList::at(&at);
        let changed = list.changed();
        let is_settled = changed.is_some_and(|changed| changed.elapsed().is_ok_and(|age| age > SETTLED));
        if !is_settled || changed != self.listed_changed {
            self.listed = list.all();
            self.listed_changed = changed;
        }
        let listed = self.listed.iter().filter(|fenced| fenced.meta.driver == Driver::Process);
        let tasks: Vec<_> = listed.map(|fenced| fenced.meta.task).collect();
        self.processes.retain(|task, _| tasks.contains(task));
        for task in tasks {
            if !self.processes.contains_key(&task) {
                self.processes.extend(process::process_of(&at, task).map(|process| (task, process)));
            }
        }
    }

    pub(super) fn listed(&self) -> Vec<Fenced> {
        self.listed.clone()
    }

    pub(super) fn lease(&self) -> Option<LeaseFile> {
        let path = self.path.join(LeaseFile::NAME);
        LeaseFile::read_from(self.lease.as_ref()?, &path).unwrap_or_else(|error| {
            warn!(%error, "the lease cannot be read: it counts as ended");
            None
        })
    }

    /// Kills a task of the process runtime. Returns whether it does not run.
    pub(super) fn kill_process(&self, task: TaskId) -> bool {
        if self.presence() != Presence::Removed {
            return process::kill_now(&self.at(), task);
        }
        self.processes.get(&task).is_none_or(process::kill)
    }

    /// Takes the agent's lock for a moment.
    pub(super) fn is_agent_gone(&self) -> bool {
        let Some(lock) = &self.lock else { return true };
        match File::open(path_of(lock)) {
            Ok(lock) => Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok(),
            Err(_) => true,
        }
    }
}

fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use goat_core::model::OnDisconnect;

    use super::*;
    use crate::task::TaskMeta;
    use crate::task::tests::meta;

    #[test]
    fn a_directory_is_followed_and_remembered_and_its_successor_is_not_taken_for_it() {
        let base = tempfile::tempdir().expect("a directory");
        let (place, elsewhere) = (base.path().join("w1"), base.path().join("w1.old"));
        std::fs::create_dir(&place).expect("made");
        let leased = TaskMeta { on_disconnect: OnDisconnect::Stop, ..meta(1) };
        FenceList::open(&place).expect("opened").add(&leased, "abc").expect("written");
        let mut directory = Directory::open(&place).expect("opened");
        assert_eq!((directory.presence(), directory.listed().len()), (Presence::InPlace, 1));
        std::fs::rename(&place, &elsewhere).expect("moved");
        std::fs::create_dir(&place).expect("a successor");
        assert_eq!(directory.presence(), Presence::Moved);
        let second = TaskMeta { task: meta(2).task, ..leased };
        FenceList::open(&elsewhere).expect("opened").add(&second, "def").expect("written");
        directory.refresh();
        assert_eq!(directory.listed().len(), 2, "what is in it is read where it is now");
        std::fs::remove_dir_all(&elsewhere).expect("removed");
        directory.refresh();
        assert_eq!((directory.presence(), directory.listed().len()), (Presence::Removed, 2));
    }

    #[test]
    fn a_removed_directory_still_says_whether_its_agent_lives() {
        let base = tempfile::tempdir().expect("a directory");
        let root = base.path().join("w1");
        std::fs::create_dir(&root).expect("made");
        let lock = File::create(root.join("lock")).expect("made");
        let agent = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno).expect("free");
        let directory = Directory::open(&root).expect("opened");
        std::fs::remove_dir_all(&root).expect("removed");
        assert!(!directory.is_agent_gone());
        drop(agent);
        assert!(directory.is_agent_gone());
    }
}
