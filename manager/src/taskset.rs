//! Owns background tasks: names, cancels and joins them. The only place that spawns.
//!
//! A task of which a manager must not run short is a [`Duty`]: if it panics, or ends while nobody has cancelled it, the whole set,
//! with all sets that belong to the same process, has failed ([`TaskSet::failed`]). A panic of any other task is a failure too.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug_span, error, warn};

use crate::duty::Duty;
use crate::inject;

tokio::task_local! {
    /// The name of the task that runs.
    static NAME: &'static str;
}

/// The name of the task that runs on this thread at present; for the process's panic hook.
pub fn current() -> Option<&'static str> {
    NAME.try_with(|name| *name).ok()
}

/// The first failure of a task. Clones share it.
#[derive(Debug, Clone, Default)]
struct Failure {
    text: Arc<OnceLock<String>>,
    has_happened: CancellationToken,
}

impl Failure {
    fn happen(&self, text: String) {
        error!(error = text, "a part of this manager is missing");
        // Only the first counts.
        let _ = self.text.set(text);
        self.has_happened.cancel();
    }
}

/// A parent of tasks. Clones share the tasks; [`TaskSet::stop`] cancels them all and waits for their end.
#[derive(Debug, Clone)]
pub struct TaskSet {
    name: &'static str,
    tracker: TaskTracker,
    cancel: CancellationToken,
    failure: Failure,
}

impl TaskSet {
    /// A set without a parent.
    pub fn new(name: &'static str) -> Self {
        Self { name, tracker: TaskTracker::new(), cancel: CancellationToken::new(), failure: Failure::default() }
    }

    /// A set whose tasks are cancelled with this one's as well. It is stopped, and so joined, on its own; its failures are this
    /// set's.
    pub fn child(&self, name: &'static str) -> Self {
        Self { name, tracker: TaskTracker::new(), cancel: self.cancel.child_token(), failure: self.failure.clone() }
    }

    /// What tells tasks to end.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Returns when a task of this set, or of a related one, has panicked or a duty has ended early, with what happened.
    pub async fn failed(&self) -> String {
        self.failure.has_happened.cancelled().await;
        self.failure.text.get().cloned().unwrap_or_default()
    }

    /// Runs a task until it ends or the set is stopped, whichever is first. It must hold nothing that dropping it at
    /// an await would harm.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.run(name, task, false);
    }

    /// Runs a duty until the set is stopped. The set fails if the duty ends before.
    pub fn spawn_duty<F>(&self, duty: Duty, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.run(duty.as_str(), inject::into_duty(duty.as_str(), work), true);
    }

    fn run<F>(&self, name: &'static str, task: F, is_duty: bool)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (cancel, failure) = (self.cancel.clone(), self.failure.clone());
        let task = async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                outcome = AssertUnwindSafe(task).catch_unwind() => match outcome {
                    Ok(()) if is_duty && !cancel.is_cancelled() => failure.happen(format!("the duty {name:?} has ended")),
                    Ok(()) => {}
                    Err(panic) => failure.happen(format!("the task {name:?} panicked: {}", text_of(&*panic))),
                },
            }
        };
        self.tracker.spawn(NAME.scope(name, task).instrument(debug_span!("task", set = self.name, name)));
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

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    async fn failure_of(tasks: &TaskSet) -> String {
        tokio::time::timeout(GRACE, tasks.failed()).await.expect("it has failed")
    }

    #[tokio::test]
    async fn a_duty_that_ends_or_panics_fails_the_whole_family_of_sets() {
        let parent = TaskSet::new("parent");
        parent.child("child").spawn_duty(Duty::Planner, async {});
        assert_eq!(failure_of(&parent).await, "the duty \"planner\" has ended");

        let parent = TaskSet::new("parent");
        parent.child("child").spawn_duty(Duty::Leases, async { panic!("no more {}", 1) });
        assert_eq!(failure_of(&parent).await, "the task \"leases\" panicked: no more 1");
    }

    #[tokio::test]
    async fn a_task_may_end_and_a_duty_may_be_stopped_but_no_task_may_panic() {
        let tasks = TaskSet::new("tasks");
        tasks.spawn("session", async {});
        tasks.spawn_duty(Duty::Router, pending());
        tasks.stop(GRACE).await;
        assert!(!tasks.failure.has_happened.is_cancelled());

        let tasks = TaskSet::new("tasks");
        tasks.spawn("session", async { panic!("broken") });
        assert_eq!(failure_of(&tasks).await, "the task \"session\" panicked: broken");
    }
}
