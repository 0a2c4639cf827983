//! A task whose program runs: its health is probed, its end is seen, or it is made to end.

use std::sync::Arc;
use std::time::Duration;

use goat_core::model::TaskState;
use tokio::time::Instant;
use tracing::{info, warn};

use super::super::goal::{Stop, seen_exit, stop_wanted};
use super::super::plan::StopReason;
use super::{Actor, FIRST_RETRY_MS, MAX_RETRY_MS, RUNTIME_PATIENCE};
use crate::clock;
use crate::health::{Prober, Verdict};
use crate::runtime::{FoundState, RUNTIME_DOWN, Seal, Started};
use crate::task::{Exit, KILLED};

/// For a last look at how a task ended; the exit is reported without it too.
const LAST_LOOK: Duration = Duration::from_secs(3);

/// What ended a task that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndedBy {
    Itself,
    /// Managers, its lease, or its health.
    Request,
}

/// Never, where there is nothing to probe.
async fn verdict_of(prober: &mut Option<Prober>) -> Verdict {
    match prober {
        Some(prober) => prober.verdict().await,
        None => std::future::pending().await,
    }
}

impl Actor {
    /// Managers hear of it before the disk does: what runs is found again without the journal.
    pub(super) async fn started(&mut self, started: Started) {
        self.record.started(started.container_id, started.started_at_ms);
        self.tell().await;
        self.save().await;
    }

    /// Until its end.
    pub(super) async fn watch_over(&mut self) -> EndedBy {
        let is_ready = self.record.state >= TaskState::Running;
        let started_at_ms = self.record.started_at_ms.unwrap_or(self.record.at_ms);
        let mut prober = Prober::new(Arc::clone(&self.runtime), &self.record.meta, started_at_ms, is_ready);
        loop {
            let verdict = tokio::select! {
                biased;
                exit = seen_exit(&mut self.exit) => {
                    let exit = self.looked_at(exit).await.by_itself();
                    // The watchdog was quicker than this agent, or this agent was not there.
                    let is_fenced = exit.code == Some(KILLED) && !self.lease.allows(self.record.meta.on_disconnect);
                    self.record.exited(exit);
                    if is_fenced {
                        self.record.state = TaskState::Stopped;
                        self.record.reason = Some(StopReason::LeaseExpired.word().into());
                        self.record.error = None;
                    }
                    return EndedBy::Itself;
                }
                stop = stop_wanted(&mut self.goal, u64::MAX) => {
                    self.stop(stop).await;
                    return EndedBy::Request;
                }
                verdict = verdict_of(&mut prober) => verdict,
            };
            match verdict {
                Verdict::Ready => self.ready().await,
                Verdict::Failed { reason, problem } => {
                    self.stop_unhealthy(reason, problem).await;
                    return EndedBy::Request;
                }
            }
        }
    }

    /// The journal first: what managers heard of as running must not be `starting` for the next agent.
    async fn ready(&mut self) {
        self.record.state = TaskState::Running;
        self.record.at_ms = self.record.started_at_ms.unwrap_or(self.record.at_ms);
        self.save().await;
        self.tell().await;
    }

    /// An event does not say whether memory ran out. Asked only where it may have: Docker answers no sooner than it has
    /// taken the container's network down, a tenth of a second later.
    pub(super) async fn looked_at(&self, exit: Exit) -> Exit {
        let is_clear = exit.is_oom || exit.code.is_some_and(|code| code != KILLED || !self.may_run_out_of_memory);
        if is_clear || exit.failure.is_some() {
            return exit;
        }
        match tokio::time::timeout(LAST_LOOK, self.runtime.inspect(&self.record.meta)).await {
            Ok(Ok(Some(found))) => match found.state {
                FoundState::Ended(Some(seen)) => {
                    let is_oom = seen.is_oom || exit.is_oom;
                    Exit { code: seen.code.or(exit.code), is_oom, signal: exit.signal, ..seen }
                }
                _ => exit,
            },
            _ => exit,
        }
    }

    /// Until it does not run.
    pub(super) async fn stop(&mut self, stop: Stop) {
        info!(task_id = %self.record.meta.task, reason = stop.reason.word(), grace_ms = stop.grace_ms, "stopping a task");
        let (sooner, exit) = self.end(stop.grace_ms).await;
        self.stopped(sooner.unwrap_or(stop), exit);
    }

    /// Until it does not run. Unless somebody wanted it stopped meanwhile, and sooner, it has failed.
    async fn stop_unhealthy(&mut self, reason: &'static str, problem: String) {
        let grace_ms = self.record.meta.stop_grace_ms;
        warn!(task_id = %self.record.meta.task, reason, error = problem, grace_ms, "stopping a task that is not healthy");
        match self.end(grace_ms).await {
            (Some(stop), exit) => self.stopped(stop, exit),
            (None, exit) => {
                self.record.exit_code = exit.as_ref().and_then(|exit| exit.code);
                self.record.failed(reason, problem, exit.map_or_else(clock::now_ms, |exit| exit.at_ms));
            }
        }
    }

    fn stopped(&mut self, stop: Stop, exit: Option<Exit>) {
        self.record.exit_code = exit.as_ref().and_then(|exit| exit.code);
        let at_ms = exit.map_or_else(clock::now_ms, |exit| exit.at_ms);
        if stop.reason == StopReason::Paused {
            let problem =
                "its container was paused outside GOAT (docker pause), so that it did nothing, and was stopped";
            return self.record.failed(stop.reason.word(), problem, at_ms);
        }
        self.record.state = TaskState::Stopped;
        self.record.reason = Some(stop.reason.word().into());
        self.record.error = None;
        self.record.at_ms = at_ms;
    }

    /// Before a leased task's end is reported, so before it has a successor: makes sure that its container does not run, though
    /// somebody may be restarting it, and cannot be started later. A runtime that does not answer is waited for only so long.
    pub(super) async fn seal(&mut self) {
        let Some(container_id) = self.record.container_id.clone() else { return };
        let is_down = self.record.reason.as_deref() == Some(RUNTIME_DOWN);
        if !self.record.meta.on_disconnect.is_leased() || is_down {
            return;
        }
        let deadline = Instant::now() + RUNTIME_PATIENCE;
        let mut retry_ms = FIRST_RETRY_MS;
        let error = loop {
            match self.runtime.seal(&container_id).await {
                Ok(seal) => return self.sealed(seal),
                Err(error) if Instant::now() >= deadline => break error,
                Err(_) => tokio::time::sleep(Duration::from_millis(clock::jittered_ms(retry_ms / 2))).await,
            }
            retry_ms = (retry_ms * 2).min(MAX_RETRY_MS);
        };
        warn!(
            task_id = %self.record.meta.task,
            container_id,
            %error,
            "it could not be made sure that an ended task's container stays ended; if it is started, it is killed"
        );
    }

    fn sealed(&mut self, seal: Seal) {
        if seal.ran_again {
            let problem = "somebody started its container again (docker restart, docker start); that was killed";
            warn!(task_id = %self.record.meta.task, error = problem, "an ended task's container ran again");
            let told = self.record.error.take();
            self.record.error = Some(told.map_or_else(|| problem.to_owned(), |told| format!("{told}; {problem}")));
        }
    }

    /// Makes it end: there is no giving up on that. A stop with less grace overtakes; the last that did is returned.
    async fn end(&mut self, mut grace_ms: u64) -> (Option<Stop>, Option<Exit>) {
        // A stop that is repeated does not give the grace once more.
        let mut kill_at = Instant::now() + Duration::from_millis(grace_ms);
        let mut retry_ms = FIRST_RETRY_MS;
        let mut sooner = None;
        let runtime = self.runtime.clone();
        loop {
            let problem = tokio::select! {
                biased;
                stop = stop_wanted(&mut self.goal, grace_ms) => {
                    grace_ms = sooner.insert(stop).grace_ms;
                    kill_at = kill_at.min(Instant::now() + Duration::from_millis(grace_ms));
                    continue;
                }
                stopped = runtime.stop(&self.record.meta, kill_at.saturating_duration_since(Instant::now())) => match stopped {
                    Ok(exit) => return (sooner, exit),
                    Err(error) => error,
                },
            };
            warn!(task_id = %self.record.meta.task, error = %problem, "a task could not be stopped yet");
            tokio::select! {
                exit = seen_exit(&mut self.exit) => return (sooner, Some(exit)),
                stop = stop_wanted(&mut self.goal, grace_ms) => {
                    grace_ms = sooner.insert(stop).grace_ms;
                    kill_at = kill_at.min(Instant::now() + Duration::from_millis(grace_ms));
                }
                () = tokio::time::sleep(Duration::from_millis(clock::jittered_ms(retry_ms / 2))) => {}
            }
            retry_ms = (retry_ms * 2).min(MAX_RETRY_MS);
        }
    }
}
