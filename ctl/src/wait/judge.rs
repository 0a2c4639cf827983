//! Whether a service has converged, from lists of its tasks. Pure: time comes in as an argument.
//!
//! ```text
//! look --> every slot runs what it should, and its new tasks have for the monitor time --> reached
//!      --> tasks of a slot failed again and again since the change                    --> failed (6)
//!      --> the rest cannot be placed, unchanged                                       --> failed (3)
//!      --> the rest has ended, unchanged                                              --> failed (6)
//!      --> anything else                                                              --> not yet
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use goat_proto::v1;
use tokio::time::Instant;

use super::Verdict;
use super::view::{Slot, Stage, View, is_failure, view};
use crate::exit::{Exit, Failure};

/// What does not change for so long will not change by itself.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// Most time that the report of a task's end takes to get here. A task counts as having run for the monitor time when
/// nothing else was received for so much longer.
const REPORT_DELAY: Duration = Duration::from_secs(1);
/// After so long without a look, nothing is known of what went on: the managers were busy with themselves.
const LOOK_GAP: Duration = Duration::from_secs(2);
/// A slot whose tasks failed so often since the change, the first of them so long ago, does not come up by itself. Fewer
/// failures, or many at once, may be a dependency that is late.
const MOST_FAILURES: usize = 3;
const FAILING_FOR: Duration = Duration::from_secs(5);
/// A slot whose next attempt is further away is not waited for: somebody has to mend something.
const MOST_WAIT_MS: u64 = 15_000;

/// The change that is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Its log index: tasks that were assigned later are its effect.
    pub index: u64,
    /// In the failure: what failed.
    pub kind: ChangeKind,
    /// How long new tasks have to run; zero to not watch them.
    pub monitor: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Create,
    Update,
    Scale,
}

/// The times of one look.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub at: Instant,
    /// This machine's clock (Unix ms), to compare with the time of a next attempt.
    pub unix_ms: u64,
}

/// Judges one service, look by look.
#[derive(Debug)]
pub struct Judge {
    change: Change,
    last_look: Option<Instant>,
    /// Since when `signature` is what it is.
    since: Option<Instant>,
    signature: Vec<(String, String, String)>,
    /// New tasks that run, and when each was first seen to.
    running_since: BTreeMap<String, Instant>,
    /// When a task was first seen to have failed since the change.
    failing_since: Option<Instant>,
    /// The first attempt of each slot that was seen since the change. Only without a history.
    first_attempts: BTreeMap<u32, u32>,
    /// The newest task that failed since the change, as last seen: its output may say why.
    pub failed: Option<v1::Task>,
}

impl Judge {
    pub fn new(change: Change) -> Self {
        Self {
            change,
            last_look: None,
            since: None,
            signature: vec![],
            running_since: BTreeMap::new(),
            failing_since: None,
            first_attempts: BTreeMap::new(),
            failed: None,
        }
    }

    /// `tasks`: the service's. `has_history`: with those that have ended.
    pub fn look(&mut self, now: Now, service: &v1::Service, tasks: &[v1::Task], has_history: bool) -> (View, Verdict) {
        let mut view = view(service, tasks, self.change.index);
        if !has_history {
            self.count_attempts(&mut view, tasks);
        }
        let unchanged = self.unchanged_for(now.at, tasks);
        let left = self.left_to_watch(now.at, tasks);
        let failed = tasks.iter().filter(|task| self.is_new(task) && is_failure(service, task));
        self.failed = failed.max_by_key(|task| task.fencing_token).cloned();
        let has_failed = view.slots.iter().any(|slot| slot.failures > 0);
        self.failing_since = self.failing_since.or(has_failed.then_some(now.at));
        let verdict = self.verdict(&mut view, now, tasks, (unchanged, left));
        (view, verdict)
    }

    /// Without a history, each further attempt in a slot stands for a failure. It may have another cause, such as a drain; three
    /// of them in one slot while somebody waits are not likely.
    fn count_attempts(&mut self, view: &mut View, tasks: &[v1::Task]) {
        let new = tasks.iter().filter(|task| task.fencing_token == 0 || self.is_new(task));
        let attempts: BTreeMap<u32, u32> = new.map(|task| (task.slot, task.attempt)).collect();
        for slot in &mut view.slots {
            let Some(attempt) = attempts.get(&slot.number) else { continue };
            let first = self.first_attempts.entry(slot.number).or_insert(*attempt);
            slot.failures = attempt.saturating_sub(*first) as usize;
        }
    }

    fn is_new(&self, task: &v1::Task) -> bool {
        task.fencing_token > self.change.index
    }

    fn unchanged_for(&mut self, now: Instant, tasks: &[v1::Task]) -> Duration {
        let signature: Vec<_> =
            tasks.iter().map(|task| (task.id.clone(), task.state.clone(), task.error.clone())).collect();
        let was_blind = self.last_look.is_none_or(|last| now.duration_since(last) > LOOK_GAP);
        if was_blind || signature != self.signature {
            self.since = Some(now);
            self.signature = signature;
        }
        self.last_look = Some(now);
        self.since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// How much longer tasks that the change started have to run.
    fn left_to_watch(&mut self, now: Instant, tasks: &[v1::Task]) -> Duration {
        let monitor = self.change.monitor;
        if monitor.is_zero() {
            return Duration::ZERO;
        }
        let new = tasks.iter().filter(|task| self.is_new(task) && task.state == "running");
        let running: BTreeSet<&str> = new.map(|task| task.id.as_str()).collect();
        self.running_since.retain(|id, _| running.contains(id.as_str()));
        for id in running {
            self.running_since.entry(id.to_owned()).or_insert(now);
        }
        let youngest = self.running_since.values().max();
        let until = youngest.map(|since| *since + monitor + REPORT_DELAY);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    fn verdict(
        &self,
        view: &mut View,
        now: Now,
        tasks: &[v1::Task],
        (unchanged, left): (Duration, Duration),
    ) -> Verdict {
        if let Some(slot) = view.slots.iter().find(|slot| self.is_hopeless(slot, now, tasks)) {
            return Verdict::Failed(self.keeps_failing(view, slot));
        }
        let any = |stage| view.slots.iter().any(|slot| slot.stage == stage);
        if view.settled() == view.desired as usize && view.leftover == 0 {
            view.is_watched = !self.running_since.is_empty();
            return if left.is_zero() { Verdict::Reached } else { Verdict::NotYet(left) };
        }
        // What is to be moved waits for another of its service, or for a room that nobody can promise.
        let is_turn = |slot: &Slot| slot.stage == Stage::Misplaced && !slot.problem.starts_with("waits for room");
        let is_ended = any(Stage::Stuck) || any(Stage::Ended) || any(Stage::Misplaced);
        if any(Stage::Moving) || view.leftover > 0 || view.slots.iter().any(is_turn) || !is_ended {
            return Verdict::NotYet(SETTLED_AFTER);
        }
        if unchanged < SETTLED_AFTER {
            return Verdict::NotYet(SETTLED_AFTER - unchanged);
        }
        Verdict::Failed(match () {
            () if any(Stage::Ended) => self.has_ended(view),
            () if any(Stage::Stuck) => cannot_be_placed(view),
            () => cannot_be_moved(view),
        })
    }

    /// Whether the tasks of a slot failed so that no further attempt is worth waiting for.
    fn is_hopeless(&self, slot: &Slot, now: Now, tasks: &[v1::Task]) -> bool {
        let waits_long = |task: &v1::Task| {
            task.slot == slot.number
                && task.state == "pending"
                && task.not_before_ms > now.unix_ms.saturating_add(MOST_WAIT_MS)
        };
        let has_long = self.failing_since.is_some_and(|since| now.at.duration_since(since) >= FAILING_FOR);
        slot.stage != Stage::Running
            && ((slot.failures >= MOST_FAILURES && has_long) || (slot.failures > 0 && tasks.iter().any(waits_long)))
    }

    fn subject(&self, view: &View) -> String {
        match self.change.kind {
            ChangeKind::Update => format!("the update of {} fails", view.name),
            ChangeKind::Create | ChangeKind::Scale => format!("{} does not stay up", view.name),
        }
    }

    fn keeps_failing(&self, view: &View, slot: &Slot) -> Failure {
        let (name, number) = (&view.name, slot.number);
        let times = if slot.failures == 1 { "once".into() } else { format!("{} times", slot.failures) };
        let why = match slot.problem.as_str() {
            "" if self.failed.is_some() => "it ended with exit code 0, and is to run for ever (see --restart)",
            "" => "its history says why",
            problem => problem,
        };
        let message = format!(
            "{}: {}\n  {name}.{number} failed {times} since the change: {why}",
            self.subject(view),
            view.summary()
        );
        Failure::new(Exit::TasksFail, message).with_hint(self.what_stays(name))
    }

    fn what_stays(&self, name: &str) -> String {
        match self.change.kind {
            ChangeKind::Update => format!(
                "nothing is rolled back: tasks go on being tried as changed; `goatctl service update {name}` changes it again, \
                 `goatctl service ps {name}` shows every attempt"
            ),
            ChangeKind::Create | ChangeKind::Scale => format!(
                "the service stays, and its tasks go on being tried; `goatctl service ps {name}` shows every attempt, \
                 `goatctl service rm {name}` removes it"
            ),
        }
    }

    fn has_ended(&self, view: &View) -> Failure {
        let what = match self.change.kind {
            ChangeKind::Update => self.subject(view),
            ChangeKind::Create | ChangeKind::Scale => format!("{} does not run", view.name),
        };
        let message = format!("{what}: {}{}", view.summary(), view.problems(Stage::Ended));
        Failure::new(Exit::TasksFail, message).with_hint(format!(
            "its restart policy lets it rest; `goatctl task logs {}.{}` shows its output",
            view.name,
            view.slots.iter().find(|slot| slot.stage == Stage::Ended).map_or(1, |slot| slot.number)
        ))
    }
}

fn cannot_be_placed(view: &View) -> Failure {
    let stuck = view.slots.iter().filter(|slot| slot.stage == Stage::Stuck).count();
    let message = format!("{} cannot be placed: {}{}", view.name, view.summary(), view.problems(Stage::Stuck));
    let those = if stuck == 1 { "its task is" } else { "its tasks are" };
    Failure::new(Exit::CannotBePlaced, message).with_hint(format!(
        "the service stays, and {those} placed as soon as there is room; `goatctl service rm {}` removes it",
        view.name
    ))
}

fn cannot_be_moved(view: &View) -> Failure {
    let misplaced = view.slots.iter().filter(|slot| slot.stage == Stage::Misplaced).count();
    let message = format!(
        "{misplaced} of {} tasks of {} run where its placement excludes them, and cannot be moved{}",
        view.desired,
        view.name,
        view.problems(Stage::Misplaced)
    );
    Failure::new(Exit::CannotBePlaced, message)
        .with_hint("they run on where they are, and are moved one at a time as soon as there is room")
}

#[cfg(test)]
mod tests;
