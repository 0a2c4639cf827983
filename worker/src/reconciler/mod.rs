//! Makes what runs here what managers want to run here.
//!
//! ```text
//! session ── assignments ─┐                        ┌─ actor (one per task): create, start, watch, stop
//! runtimes ─ exits, lists ├─► service: plan ─► act ┤
//! lease ──── valid or not ┘        ▲               └─ remover: what nobody wants any more
//!                                  └── updates ──────┘ ──► outbox, and so to managers
//! ```
//! `plan` decides and is pure; `actor` does what was decided for one task, and writes its journal; `service` owns the
//! table of known tasks. A task is one-shot: it is started at most once, its state only moves forward, and what has ended
//! stays ended, across restarts of the agent too. Sessions come and go without any effect here.

mod actor;
pub mod adopt;
mod goal;
pub mod plan;
mod service;

use goat_core::model::TaskId;
use goat_proto::v1;
use tokio::sync::{mpsc, oneshot};

use crate::task::{Assignment, Record, TaskMeta};

pub use service::{Parts, Service};

/// What the session tells.
#[derive(Debug)]
enum Command {
    /// The whole set: what is not in it is not this worker's any more.
    All(Vec<Assignment>),
    Change {
        set: Vec<Assignment>,
        removed: Vec<TaskId>,
    },
    Snapshot(oneshot::Sender<Vec<Seen>>),
    Find(TaskId, oneshot::Sender<Option<TaskMeta>>),
}

/// A task as it is now.
#[derive(Debug, Clone)]
pub struct Seen {
    pub record: Record,
    /// It is being stopped, whatever it is at this moment.
    pub is_stopping: bool,
}

/// The reconciler has ended: the agent is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reconciler has ended")]
pub struct Gone;

/// The session's way to the reconciler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// The full set of assignments, in place of what was told before.
    pub async fn assign_all(&self, assignments: Vec<Assignment>) -> Result<(), Gone> {
        self.commands.send(Command::All(assignments)).await.map_err(|_| Gone)
    }

    /// Changes to the set.
    pub async fn assign_changes(&self, set: Vec<Assignment>, removed: Vec<TaskId>) -> Result<(), Gone> {
        self.commands.send(Command::Change { set, removed }).await.map_err(|_| Gone)
    }

    /// Every task that is known, as it is now.
    pub async fn snapshot(&self) -> Result<Vec<v1::TaskReport>, Gone> {
        Ok(self.seen().await?.iter().map(|seen| seen.record.report()).collect())
    }

    /// The same, with all that is known of each.
    pub async fn seen(&self) -> Result<Vec<Seen>, Gone> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Snapshot(answer)).await.map_err(|_| Gone)?;
        answered.await.map_err(|_| Gone)
    }

    /// A task that is known here.
    pub async fn find(&self, task: TaskId) -> Result<Option<TaskMeta>, Gone> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Find(task, answer)).await.map_err(|_| Gone)?;
        answered.await.map_err(|_| Gone)
    }
}
