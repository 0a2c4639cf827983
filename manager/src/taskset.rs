//! Owns background tasks: names, cancels and joins them. The only place that spawns.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug_span, warn};

/// A parent of tasks. Clones share the tasks; [`TaskSet::stop`] cancels them all and waits for their end.
#[derive(Debug, Clone)]
pub struct TaskSet {
    name: &'static str,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl TaskSet {
    /// A set without a parent.
    pub fn new(name: &'static str) -> Self {
        Self { name, tracker: TaskTracker::new(), cancel: CancellationToken::new() }
    }

    /// A set whose tasks are cancelled with this one's as well. It is stopped, and so joined, on its own.
    pub fn child(&self, name: &'static str) -> Self {
        Self { name, tracker: TaskTracker::new(), cancel: self.cancel.child_token() }
    }

    /// What tells tasks to end.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Runs a task until it ends or the set is stopped, whichever is first. It must hold nothing that dropping it at
    /// an await would harm.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        let task = async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = task => {}
            }
        };
        self.tracker.spawn(task.instrument(debug_span!("task", set = self.name, name)));
    }

    /// Cancels the tasks and waits for them, `grace` at the most.
    pub async fn stop(&self, grace: Duration) {
        self.cancel.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            warn!(set = self.name, left = self.tracker.len(), "tasks did not end within their grace period");
        }
    }
}
