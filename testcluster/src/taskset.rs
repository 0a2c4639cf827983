//! Owns background tasks: names, cancels and joins them. The only place that spawns.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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

    /// Runs a task until it ends or the set is stopped, whichever is first. It must hold nothing that dropping it at
    /// an await would harm.
    pub fn spawn<F>(&self, task: F)
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
        self.tracker.spawn(task);
    }

    /// Tasks that have not ended.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Cancels the tasks and waits for them, `grace` at the most.
    pub async fn stop(&self, grace: Duration) {
        self.cancel.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            let left = self.tracker.len();
            eprintln!("warning: {left} tasks of {} did not end within {} ms", self.name, grace.as_millis());
        }
    }
}
