//! One task's life on this worker. Decides nothing but how often to try again; a stop overtakes everything.
//!
//! ```text
//! wait for a turn -> create -+-> start -+-> running -> ended
//!        ^                   |          | with a health check: starting, until it has passed
//!        |                   | image missing: preparing (pull), and again
//!        +--- the runtime does not answer, for a bounded time
//! ```
//! It may be dropped at any await (the agent stops): the next agent finds what it left. The journal is written here and
//! nowhere else while the actor lives.

mod running;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use goat_core::model::TaskState;
use goat_observe::child;
use running::EndedBy;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tracing::{Instrument, warn};

use super::goal::{Goal, Stop, seen_exit, stop_wanted};
use crate::fence::FenceList;
use crate::journal::Journal;
use crate::lease::Lease;
use crate::metrics::Meters;
use crate::runtime::{Created, Error, RUNTIME_DOWN, Runtime};
use crate::task::{Exit, Order, Record};
use crate::{clock, durable};

/// A runtime that does not answer for so long while a task is brought up fails the task, so that it is tried elsewhere.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(15);
const FIRST_RETRY_MS: u64 = 100;
const MAX_RETRY_MS: u64 = 2_000;
/// One task's life. `exit` is told by the service when the runtime has seen the task end.
pub(super) struct Actor {
    pub record: Record,
    /// What to start; None for a task that was found started.
    pub order: Option<Order>,
    pub runtime: Arc<dyn Runtime>,
    pub starts: Arc<Semaphore>,
    pub journal: Journal,
    pub lease: Arc<Lease>,
    pub fence: FenceList,
    pub meters: Arc<Meters>,
    pub goal: watch::Receiver<Goal>,
    pub exit: watch::Receiver<Option<Exit>>,
    pub updates: mpsc::Sender<Record>,
    /// A start was not answered: the task may run, and does not count as ended before that is known.
    pub may_run: bool,
    /// It has a memory limit, or is not known to have none: a kill may be the kernel's.
    pub may_run_out_of_memory: bool,
}

/// Why bringing up ended early.
enum Early {
    /// It has its last state.
    Ended,
    /// The runtime did not answer.
    Again { problem: String },
}

impl Actor {
    /// From here to the task's last state, which is journaled and told.
    pub(super) async fn run(mut self) {
        if let Some(order) = self.order.take() {
            let since = Instant::now();
            let (task, service) = (order.meta.task, order.meta.service.as_str());
            let header = order.traceparent.as_deref();
            let span = goat_observe::follow!(header, "task", task_id = %task, service, node = order.node);
            let is_up = self.bring_up(&order).instrument(span).await.is_some();
            self.meters.brought_up(self.record.state, since.elapsed());
            if !is_up {
                return self.finish().await;
            }
        }
        // One that was found started may not be listed yet.
        if let Err(error) = self.list_for_watchdog(self.record.container_id.as_deref().unwrap_or_default()) {
            warn!(task_id = %self.record.meta.task, %error, "a task that was found could not be listed for the watchdog");
        }
        if self.watch_over().await == EndedBy::Itself {
            self.seal().await;
            // Its runtime remembers how it ended, whatever becomes of this agent, and the next attempt waits for the word.
            self.tell().await;
            self.save().await;
            self.fence.remove(self.record.meta.task);
        } else {
            self.finish().await;
        }
    }

    fn list_for_watchdog(&self, container_id: &str) -> Result<(), durable::Error> {
        self.fence.add(&self.record.meta, container_id)
    }

    /// None where the task has ended instead.
    async fn bring_up(&mut self, order: &Order) -> Option<()> {
        let deadline = Instant::now() + RUNTIME_PATIENCE;
        let mut retry_ms = FIRST_RETRY_MS;
        loop {
            let problem = match self.attempt(order).await {
                Ok(()) => return Some(()),
                Err(Early::Ended) => return None,
                Err(Early::Again { problem }) => problem,
            };
            if Instant::now() >= deadline && !self.may_run {
                self.record.failed(RUNTIME_DOWN, problem, clock::now_ms());
                return None;
            }
            warn!(task_id = %self.record.meta.task, error = %problem, "a start did not succeed yet, it is tried again");
            tokio::select! {
                stop = stop_wanted(&mut self.goal, u64::MAX) => {
                    self.abandon(stop).await;
                    return None;
                }
                // It was started, without an answer, and has ended.
                exit = seen_exit(&mut self.exit) => {
                    self.record.exited(self.looked_at(exit).await.by_itself());
                    return None;
                }
                () = tokio::time::sleep(Duration::from_millis(clock::jittered_ms(retry_ms / 2))) => {}
            }
            retry_ms = (retry_ms * 2).min(MAX_RETRY_MS);
        }
    }

    async fn attempt(&mut self, order: &Order) -> Result<(), Early> {
        let mut has_pulled = false;
        loop {
            let starts = self.starts.clone();
            let turn = tokio::select! {
                biased;
                stop = stop_wanted(&mut self.goal, u64::MAX) => return Err(self.abandon(stop).await),
                turn = starts.acquire_owned() => turn.expect("the semaphore is never closed"),
            };
            let created = self.runtime.create(order).instrument(child!("create"));
            match created.await {
                Ok(Created::Fresh { handle }) => return self.start_created(order, &handle).await,
                Ok(Created::Running(started)) => {
                    self.started(started).await;
                    return Ok(());
                }
                Ok(Created::Ended { container_id, exit }) => {
                    self.record.container_id = Some(container_id);
                    self.record.exited(exit);
                    return Err(Early::Ended);
                }
                Err(Error::ImageMissing) if !has_pulled => {
                    drop(turn);
                    self.prepare(order).await?;
                    has_pulled = true;
                }
                Err(error) => return Err(self.give_up(error).await),
            }
        }
    }

    async fn start_created(&mut self, order: &Order, handle: &str) -> Result<(), Early> {
        // A process has none before it runs.
        let container_id = Some(handle.to_owned()).filter(|handle| !handle.is_empty());
        let is_another = self.record.container_id != container_id;
        self.record.container_id = container_id;
        let goal = *self.goal.borrow();
        if let Goal::Stop { reason, grace_ms } = goal {
            return Err(self.abandon(Stop { reason, grace_ms }).await);
        }
        // Before it is started: whatever else runs with the task's labels is not the task.
        if !self.advance(TaskState::Starting).await && is_another {
            self.tell().await;
        }
        self.start(order, handle).await
    }

    async fn prepare(&mut self, order: &Order) -> Result<(), Early> {
        self.advance(TaskState::Preparing).await;
        let (runtime, since) = (self.runtime.clone(), Instant::now());
        let prepared = tokio::select! {
            biased;
            stop = stop_wanted(&mut self.goal, u64::MAX) => return Err(self.abandon(stop).await),
            prepared = runtime.prepare(&order.spec).instrument(child!("pull", image = order.spec.image)) => prepared,
        };
        self.meters.pulled(prepared.is_ok(), since.elapsed());
        let Err(error) = prepared else { return Ok(()) };
        Err(self.give_up(error).await)
    }

    async fn start(&mut self, order: &Order, handle: &str) -> Result<(), Early> {
        if let Err(error) = self.list_for_watchdog(handle) {
            let reason = if error.is_disk_full() { "disk-full" } else { "agent-error" };
            return Err(self.give_up(Error::failed(reason, error.to_string())).await);
        }
        // The last look: an agent that was frozen since the start was decided must not carry it out.
        if !self.lease.allows(self.record.meta.on_disconnect) {
            return Err(Early::Again { problem: "the lease has ended".into() });
        }
        // Not given up half-way, so that a stop meets a task that runs or does not.
        self.may_run = true;
        let started = self.runtime.start(order, handle).instrument(child!("start", container_id = handle));
        match started.await {
            Ok(started) => {
                self.started(started).await;
                Ok(())
            }
            Err(error) => {
                self.may_run = matches!(error, Error::Unreachable { .. });
                Err(self.give_up(error).await)
            }
        }
    }

    async fn give_up(&mut self, error: Error) -> Early {
        match error {
            Error::Unreachable { problem } => return Early::Again { problem },
            Error::ContainerMissing => return Early::Again { problem: error.to_string() },
            Error::ImageMissing => {
                self.record.failed("image-not-found", "the image was pulled and is not there", clock::now_ms());
            }
            Error::Unsupported { problem } => self.record.failed("runtime-unsupported", problem, clock::now_ms()),
            Error::Failed { reason, problem } => self.record.failed(reason, problem, clock::now_ms()),
        }
        self.remove_unstarted().await;
        Early::Ended
    }

    /// It was to stop before it was known to run.
    async fn abandon(&mut self, stop: Stop) -> Early {
        if self.may_run {
            self.stop(stop).await;
            return Early::Ended;
        }
        self.record.state = TaskState::Stopped;
        self.record.reason = Some(stop.reason.word().into());
        self.record.at_ms = clock::now_ms();
        self.remove_unstarted().await;
        Early::Ended
    }

    /// There is nothing in it to keep for. Where this fails, forgetting the task removes it.
    async fn remove_unstarted(&self) {
        if let Err(error) = self.runtime.remove(&self.record.meta).await {
            warn!(task_id = %self.record.meta.task, %error, "what was created for a task could not be removed yet");
        }
    }

    /// Only forward. Returns whether it was.
    async fn advance(&mut self, state: TaskState) -> bool {
        let is_forward = state > self.record.state;
        if is_forward {
            self.record.state = state;
            self.record.at_ms = clock::now_ms();
            self.tell().await;
        }
        is_forward
    }

    async fn finish(&mut self) {
        self.seal().await;
        // The journal first: what managers heard of as ended must not be begun again by the next agent.
        self.save().await;
        self.tell().await;
        self.fence.remove(self.record.meta.task);
    }

    async fn save(&self) {
        if let Err(error) = self.journal.save(&self.record).await {
            warn!(task_id = %self.record.meta.task, %error, "a task's state could not be journaled");
        }
    }

    async fn tell(&self) {
        // Gone only while the agent stops.
        let _ = self.updates.send(self.record.clone()).await;
    }
}
