//! Who this worker is, in its data directory, which is locked while it runs.
//!
//! | file | what | written |
//! | --- | --- | --- |
//! | `lock` | held by the running agent | never |
//! | `node.json` | node id, the cluster's id | once, and once more on first joining |
//! | `session.json` | highest term accepted, managers and other workers learnt | when they change, synced |
//! | `lease.json` | when the lease ends, and in which boot of the machine | with each grant, unsynced |
//! | `fence/ID.json` | leased tasks that run, for the watchdog (`fence`) | before a start, unsynced |
//! | `watchdog.lock` | held by the watchdog | by each watchdog |
//! | `tasks/ID.json` | the journal (`journal`) | when a task runs, and when it ends |
//! | `tasks/ID.gone` | what was in the journal lately | when managers have let go of a task |
//! | `process/ID/` | the process runtime's (`runtime::process`) | |

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goat_core::model::{ClusterId, NodeId};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::durable;

/// The watchdog takes the lock for a moment when it looks whether there is an agent.
const LOCK_TRIES: u32 = 30;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// The data directory cannot be this worker's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] durable::Error),
    #[error("another goat-worker runs on the data directory {path}; stop it, or set another data_dir")]
    InUse { path: PathBuf },
    #[error("cannot lock {path}: {source}")]
    Lock { path: PathBuf, source: io::Error },
    #[error("this worker belongs to the cluster {own}, the manager to {other}; use the data_dir of that cluster")]
    OtherCluster { own: ClusterId, other: ClusterId },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct NodeFile {
    node_id: NodeId,
    cluster_id: Option<ClusterId>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SessionFile {
    term: u64,
    managers: Vec<String>,
    #[serde(default)]
    workers: Vec<PeerWorker>,
}

/// Another worker, to be asked when no manager answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerWorker {
    pub node: NodeId,
    /// `HOST:PORT` where its agent listens.
    pub address: String,
}

#[derive(Debug)]
struct State {
    node: NodeFile,
    session: SessionFile,
}

/// The open data directory. Its methods that change something write to disk before they return, and block for that
/// long (well under a millisecond usually): they are called rarely.
#[derive(Debug)]
pub struct Identity {
    root: PathBuf,
    state: Mutex<State>,
    _lock: Flock<File>,
}

impl Identity {
    /// Opens, or makes, the data directory, and locks it until the result is dropped.
    pub fn open(root: &Path) -> Result<Self, Error> {
        durable::make_dir(root)?;
        durable::make_dir(&root.join("tasks"))?;
        let lock = lock(root)?;
        let node_path = root.join("node.json");
        let node = match durable::read(&node_path)? {
            Some(node) => node,
            None => {
                let node = NodeFile { node_id: NodeId::from_random(rand::random()), cluster_id: None };
                durable::write(&node_path, &node)?;
                node
            }
        };
        let session = durable::read(&root.join("session.json"))?.unwrap_or_default();
        Ok(Self { root: root.to_owned(), state: Mutex::new(State { node, session }), _lock: lock })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn node_id(&self) -> NodeId {
        self.state.lock().node.node_id
    }

    /// None until it first joined.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.state.lock().node.cluster_id
    }

    /// Joins the cluster on the first call; later ones check that it is the same.
    pub fn join(&self, cluster: ClusterId) -> Result<(), Error> {
        let mut state = self.state.lock();
        match state.node.cluster_id {
            Some(own) if own == cluster => Ok(()),
            Some(own) => Err(Error::OtherCluster { own, other: cluster }),
            None => {
                let node = NodeFile { cluster_id: Some(cluster), ..state.node.clone() };
                durable::write(&self.root.join("node.json"), &node)?;
                state.node = node;
                Ok(())
            }
        }
    }

    /// The highest term accepted so far.
    pub fn term(&self) -> u64 {
        self.state.lock().session.term
    }

    /// Accepts a message of `term`: false if a higher one was accepted before. A higher one is on disk on return.
    pub fn accept_term(&self, term: u64) -> Result<bool, Error> {
        let mut state = self.state.lock();
        if term > state.session.term {
            let session = SessionFile { term, ..state.session.clone() };
            durable::write(&self.root.join("session.json"), &session)?;
            state.session = session;
        }
        Ok(term == state.session.term)
    }

    /// The managers that were learnt from managers.
    pub fn managers(&self) -> Vec<String> {
        self.state.lock().session.managers.clone()
    }

    /// Remembers the managers, and across restarts where that succeeds.
    pub fn learn_managers(&self, mut managers: Vec<String>) -> Result<(), Error> {
        managers.sort();
        managers.dedup();
        let mut state = self.state.lock();
        if !managers.is_empty() && managers != state.session.managers {
            // In memory in any case: a full disk is no reason to look for managers where they are no more.
            state.session.managers = managers;
            durable::write(&self.root.join("session.json"), &state.session)?;
        }
        Ok(())
    }

    /// The other workers that were learnt from managers.
    pub fn workers(&self) -> Vec<PeerWorker> {
        self.state.lock().session.workers.clone()
    }

    /// Remembers other workers across restarts, in place of those known before.
    pub fn learn_workers(&self, workers: Vec<PeerWorker>) -> Result<(), Error> {
        let mut state = self.state.lock();
        if workers != state.session.workers {
            let session = SessionFile { workers, ..state.session.clone() };
            durable::write(&self.root.join("session.json"), &session)?;
            state.session = session;
        }
        Ok(())
    }
}

fn lock(root: &Path) -> Result<Flock<File>, Error> {
    let path = root.join("lock");
    let failed = |source| Error::Lock { path: path.clone(), source };
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    for _ in 0..LOCK_TRIES {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        std::thread::sleep(LOCK_WAIT);
    }
    Err(Error::InUse { path: root.to_owned() })
}

/// The machine's name in lower case, up to its first dot; None where the kernel does not say.
pub fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = text.trim().split('.').next()?.to_lowercase();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_id_its_cluster_and_its_term() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Identity::open(dir.path()).expect("opened");
        let (node, cluster) = (first.node_id(), ClusterId::from_random(7));
        first.join(cluster).expect("joined");
        assert!(first.accept_term(5).expect("written"));
        first.learn_managers(vec!["b:1".into(), "a:1".into(), "a:1".into()]).expect("written");
        drop(first);
        let again = Identity::open(dir.path()).expect("opened again");
        assert_eq!((again.node_id(), again.cluster_id(), again.term()), (node, Some(cluster), 5));
        assert_eq!(again.managers(), ["a:1", "b:1"]);
        assert!(!again.accept_term(4).expect("no error"));
    }

    #[test]
    fn two_agents_on_one_directory_and_another_cluster_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Identity::open(dir.path()).expect("opened");
        assert!(matches!(Identity::open(dir.path()), Err(Error::InUse { .. })));
        first.join(ClusterId::from_random(1)).expect("joined");
        assert!(matches!(first.join(ClusterId::from_random(2)), Err(Error::OtherCluster { .. })));
    }
}
