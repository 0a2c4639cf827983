//! Containers in listings and events of runtimes, compared with the known tasks: exits that were missed, and what people did by
//! hand. A container counts by its id: a copy of a task's container has the same labels and is not the task.
//!
//! | what runs | what is done |
//! | --- | --- |
//! | a task's container after the task has ended | ended, as the task has a successor or is not wanted |
//! | a copy of a task's container | ended: its labels say that GOAT started it, and GOAT did not |
//! | a task's container that is paused | after a while the task is stopped, and has failed |

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use goat_core::model::{Driver, TaskId};
use tracing::warn;

use super::super::adopt;
use super::super::goal::Goal;
use super::super::plan::StopReason;
use super::Service;
use super::known::ActorHandle;
use crate::runtime::{Found, FoundState};
use crate::task::{Exit, TaskMeta};

/// A backup may pause a container for some seconds.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Between tries to end a container that must not run.
const RETRY: Duration = Duration::from_millis(500);
/// The next listing shows it if it still runs.
const TRIES: u32 = 3;

impl Service {
    pub(super) fn exited(&mut self, task: TaskId, container_id: Option<&str>, exit: Exit) {
        let Some(known) = self.known.get(&task) else { return };
        let own_id = known.record.container_id.as_deref();
        if container_id.is_none_or(|id| own_id.is_none_or(|own_id| own_id == id)) {
            known.tell_exit(exit);
        }
    }

    /// Compares what was listed with what is known, as events may have been missed.
    pub(super) fn resync(&mut self, driver: Driver, asked: Instant, found: Vec<Found>) {
        let ids = self.known.iter().map(|(task, known)| (*task, known.record.container_id.clone())).collect();
        let (found, copies) = adopt::told_apart(found, &ids);
        for copy in copies {
            self.end_copy(copy.meta, copy.container_id);
        }
        self.note_ends(driver, asked, &found);
        self.gone.tidy(asked);
        for (task, stray) in found {
            if let Some(known) = self.known.get(&task)
                && known.ended.is_some_and(|ended| ended < asked)
                && stray.is_running()
                && !self.is_belated(&stray)
            {
                self.end_again(stray.meta, stray.container_id);
                continue;
            }
            let is_old_news = self.gone.is_since(task, asked);
            let (is_known, is_belated) = (self.known.contains_key(&task), self.is_belated(&stray));
            if !is_belated && (is_known || self.is_wanted(task) || is_old_news) {
                continue;
            }
            match stray.state {
                _ if is_belated => self.remove_stray(stray),
                FoundState::Created => self.remove_stray(stray),
                // Ours by its labels, and unknown: as an agent would find it that has just begun.
                _ => {
                    for adoption in adopt::adopt(Vec::new(), Some(vec![stray])) {
                        self.take_over(adoption);
                    }
                }
            }
        }
    }

    fn note_ends(&mut self, driver: Driver, asked: Instant, found: &BTreeMap<TaskId, Found>) {
        for (task, known) in &mut self.known {
            let Some(actor) = &mut known.actor else { continue };
            let ran_before = actor.running_since.is_some_and(|since| since < asked);
            if known.record.meta.driver != driver || !ran_before || actor.exit.borrow().is_some() {
                continue;
            }
            match found.get(task).map(|found| &found.state) {
                Some(FoundState::Running { is_paused, .. }) => note_pause(actor, &known.record.meta, *is_paused, asked),
                Some(FoundState::Ended(exit)) => {
                    // Without an exit, the actor's last look brings it.
                    let exit = exit.clone().unwrap_or_else(Exit::unseen);
                    known.tell_exit(exit);
                }
                Some(FoundState::Created) | None => known.tell_exit(super::vanished()),
            }
        }
    }

    /// A container with the task's labels was started.
    pub(super) fn container_started(&mut self, task: TaskId, container_id: String) {
        // An unknown one is adopted or removed by the next listing.
        let Some(known) = self.known.get(&task) else { return };
        let meta = known.record.meta.clone();
        if known.record.container_id.as_ref().is_some_and(|own_id| *own_id != container_id) {
            self.end_copy(meta, container_id);
        } else if known.ended.is_some() {
            self.end_again(meta, container_id);
        }
    }

    pub(super) fn end_copy(&self, meta: TaskMeta, container_id: String) {
        self.end_container(
            meta,
            container_id,
            "a copy of a task's container ran and was ended: it has the labels of what GOAT starts; \
             to run one, add --label io.goat.node= to docker run",
        );
    }

    pub(super) fn end_again(&self, meta: TaskMeta, container_id: String) {
        self.end_container(
            meta,
            container_id,
            "somebody started the container of a task that has ended (docker start, docker restart), and it was ended",
        );
    }

    /// At once if the task is leased: it may run elsewhere by now.
    fn end_container(&self, meta: TaskMeta, container_id: String, told: &'static str) {
        let Some(runtime) = self.parts.runtimes.get(meta.driver).cloned() else { return };
        let is_leased = meta.on_disconnect.is_leased();
        let grace = Duration::from_millis(if is_leased { 0 } else { meta.stop_grace_ms });
        self.parts.tasks.spawn("end-container", async move {
            for _ in 0..TRIES {
                match runtime.end_container(&container_id, grace).await {
                    Ok(false) => return,
                    Ok(true) => return warn!(task_id = %meta.task, service = meta.service, container_id, "{told}"),
                    Err(error) => {
                        warn!(task_id = %meta.task, container_id, %error, "a container that must not run could not be ended yet");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        });
    }
}

fn note_pause(actor: &mut ActorHandle, meta: &TaskMeta, is_paused: bool, asked: Instant) {
    if !is_paused {
        actor.paused_since = None;
        return;
    }
    let since = *actor.paused_since.get_or_insert_with(|| {
        let limit_ms = MAX_PAUSE.as_millis() as u64;
        warn!(task_id = %meta.task, service = meta.service, limit_ms, "somebody has paused a task's container (docker pause)");
        asked
    });
    if asked.saturating_duration_since(since) >= MAX_PAUSE && *actor.goal.borrow() == Goal::Run {
        actor.goal.send_replace(Goal::Stop { reason: StopReason::Paused, grace_ms: meta.stop_grace_ms });
    }
}
