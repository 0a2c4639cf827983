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
/// nothing else was heard for so much longer.
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
            failed: None,
        }
    }

    /// `tasks`: the service's, with those that have ended.
    pub fn look(&mut self, now: Now, service: &v1::Service, tasks: &[v1::Task]) -> (View, Verdict) {
        let mut view = view(service, tasks, self.change.index);
        let unchanged = self.unchanged_for(now.at, tasks);
        let left = self.left_to_watch(now.at, tasks);
        let failed = tasks.iter().filter(|task| self.is_new(task) && is_failure(service, task));
        self.failed = failed.max_by_key(|task| task.fencing_token).cloned();
        self.failing_since = self.failing_since.or(self.failed.as_ref().map(|_| now.at));
        let verdict = self.verdict(&mut view, now, tasks, (unchanged, left));
        (view, verdict)
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
            view.is_watched = !left.is_zero();
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
            "" => "it ended with exit code 0, and is to run for ever (see --restart)",
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
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(500);

    fn service(replicas: u32, condition: &str) -> v1::Service {
        let restart = Some(v1::RestartPolicy { condition: condition.into(), ..Default::default() });
        let spec = Some(v1::ServiceSpec { name: "web".into(), replicas, restart, ..Default::default() });
        v1::Service { spec, replicas_desired: replicas, spec_version: 10, ..Default::default() }
    }

    fn task(slot: u32, attempt: u32, state: &str) -> v1::Task {
        v1::Task {
            id: format!("{slot}-{attempt}"),
            slot,
            attempt,
            state: state.into(),
            desired: "running".into(),
            fencing_token: if state == "pending" { 0 } else { 11 },
            ..Default::default()
        }
    }

    fn stuck(slot: u32, error: &str) -> v1::Task {
        v1::Task { error: error.into(), ..task(slot, 1, "pending") }
    }

    fn judge(kind: ChangeKind) -> Judge {
        Judge::new(Change { index: 10, kind, monitor: Duration::from_secs(5) })
    }

    fn now(start: Instant, after: Duration) -> Now {
        Now { at: start + after, unix_ms: 1_000_000 + u64::try_from(after.as_millis()).expect("a short time") }
    }

    /// Looks twice a second at what stays the same; the verdict, and after how many steps it came.
    fn settle(service: &v1::Service, tasks: &[v1::Task]) -> Option<(u32, Verdict)> {
        let (mut judge, start) = (judge(ChangeKind::Create), Instant::now());
        (0..20).find_map(|step| match judge.look(now(start, STEP * step), service, tasks).1 {
            Verdict::NotYet(_) => None,
            verdict => Some((step, verdict)),
        })
    }

    /// As [`settle`], of tasks that change: `tasks` says what there is after so many steps.
    fn watch(kind: ChangeKind, service: &v1::Service, tasks: impl Fn(u32) -> Vec<v1::Task>) -> Option<(u32, Verdict)> {
        let (mut judge, start) = (judge(kind), Instant::now());
        (0..100).find_map(|step| match judge.look(now(start, STEP * step), service, &tasks(step)).1 {
            Verdict::NotYet(_) => None,
            verdict => Some((step, verdict)),
        })
    }

    fn failure(service: &v1::Service, tasks: &[v1::Task]) -> Failure {
        match settle(service, tasks) {
            Some((6, Verdict::Failed(failure))) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_runs_already_has_converged_and_what_was_started_must_last_for_the_monitor_time() {
        let old = v1::Task { fencing_token: 5, ..task(1, 1, "running") };
        let mut at_rest = service(1, "always");
        at_rest.spec_version = 1;
        assert!(matches!(settle(&at_rest, &[old]), Some((0, Verdict::Reached))));
        assert!(matches!(settle(&service(1, "always"), &[task(1, 1, "running")]), Some((12, Verdict::Reached))));
        assert!(matches!(settle(&service(0, "always"), &[]), Some((0, Verdict::Reached))));
    }

    #[test]
    fn without_a_monitor_time_running_is_enough() {
        let mut judge = Judge::new(Change { index: 10, kind: ChangeKind::Create, monitor: Duration::ZERO });
        let look = judge.look(now(Instant::now(), STEP), &service(1, "always"), &[task(1, 1, "running")]);
        assert!(matches!(look.1, Verdict::Reached));
    }

    #[test]
    fn a_task_that_dies_within_the_monitor_time_was_no_success_and_the_next_is_watched_anew() {
        // It dies after 4.9 s, and what follows stays.
        let tasks = |step: u32| match step {
            0..10 => vec![task(1, 1, "running")],
            _ => vec![task(1, 1, "failed"), task(1, 2, "running")],
        };
        assert!(matches!(watch(ChangeKind::Create, &service(1, "always"), tasks), Some((22, Verdict::Reached))));
    }

    /// Its tasks run for two steps and fail, one after the other.
    fn crash_loop(step: u32) -> Vec<v1::Task> {
        let ended = (1..=step / 2).map(|attempt| v1::Task { exit_code: Some(3), ..task(1, attempt, "failed") });
        let newest = task(1, step / 2 + 1, if step % 2 == 0 { "running" } else { "starting" });
        ended.chain([newest]).collect()
    }

    #[test]
    fn a_crash_loop_gets_a_verdict_that_names_the_task_and_its_end() {
        let Some((step, Verdict::Failed(failure))) = watch(ChangeKind::Create, &service(1, "always"), crash_loop)
        else {
            panic!("no failure");
        };
        // The first failure was seen at step 2, and five seconds are ten steps.
        assert_eq!((step, failure.exit), (13, Exit::TasksFail));
        assert_eq!(
            failure.message,
            "web does not stay up: 0 of 1 running, 1 starting\n  web.1 failed 6 times since the change: exit code 3"
        );
    }

    #[test]
    fn an_update_whose_new_tasks_fail_is_named_and_counts_what_still_serves() {
        let tasks = |step: u32| {
            let old = |slot| v1::Task { fencing_token: 5, ..task(slot, 1, "running") };
            crash_loop(step).into_iter().chain([old(2), old(3)]).collect()
        };
        let Some((_, Verdict::Failed(failure))) = watch(ChangeKind::Update, &service(3, "always"), tasks) else {
            panic!("no failure");
        };
        assert!(
            failure.message.starts_with("the update of web fails: 2 of 3 running, 1 starting, 2 to be replaced\n"),
            "{failure}"
        );
        assert!(failure.to_string().contains("nothing is rolled back"), "{failure}");
    }

    #[test]
    fn a_slot_whose_next_attempt_is_far_away_is_not_waited_for() {
        let failed =
            v1::Task { reason: "image-not-found".into(), error: "no such image".into(), ..task(1, 1, "failed") };
        let next = |not_before_ms| v1::Task { not_before_ms, ..task(1, 2, "pending") };
        let far = [failed.clone(), next(1_030_000)];
        let Some((0, Verdict::Failed(failure))) = settle(&service(1, "always"), &far) else { panic!("no failure") };
        assert!(
            failure.message.contains("web.1 failed once since the change: image-not-found: no such image"),
            "{failure}"
        );
        assert!(settle(&service(1, "always"), &[failed, next(1_010_000)]).is_none());
    }

    #[test]
    fn tasks_that_complete_and_are_to_run_for_ever_fail() {
        let tasks = |step: u32| {
            let ended = (1..=step / 2).map(|attempt| v1::Task { exit_code: Some(0), ..task(1, attempt, "complete") });
            ended.chain([task(1, step / 2 + 1, "pending")]).collect()
        };
        let Some((_, Verdict::Failed(failure))) = watch(ChangeKind::Create, &service(1, "always"), tasks) else {
            panic!("no failure");
        };
        assert!(failure.message.contains("it ended with exit code 0, and is to run for ever"), "{failure}");
    }

    #[test]
    fn misplaced_tasks_are_waited_for_while_they_can_be_moved_and_named_when_they_cannot() {
        let old = |slot, misplaced, waits_for: &str| v1::Task {
            fencing_token: 5,
            misplaced,
            waits_for: waits_for.into(),
            ..task(slot, 1, "running")
        };
        let mut placed = service(3, "always");
        placed.spec_version = 1;
        let turn = [old(1, true, "its turn"), old(2, true, "web.1 to run"), old(3, false, "")];
        assert!(settle(&placed, &turn).is_none());
        assert_eq!(view(&placed, &turn, 10).summary(), "3 of 3 running, 2 to be moved");
        let room = "room (no node fits: 3 outside the constraint node.name==w9)";
        let stuck = [old(1, true, room), old(2, true, room), old(3, false, "")];
        let failure = failure(&placed, &stuck);
        assert_eq!(failure.exit, Exit::CannotBePlaced);
        assert!(failure.message.starts_with("2 of 3 tasks of web run where its placement excludes them"), "{failure}");
    }

    #[test]
    fn an_update_whose_new_task_cannot_be_placed_is_not_waited_for() {
        let old = |slot| v1::Task { fencing_token: 5, ..task(slot, 1, "running") };
        let failure = failure(&service(2, "always"), &[stuck(1, "no node fits: 3 lack memory"), old(2)]);
        assert_eq!(failure.exit, Exit::CannotBePlaced);
    }

    #[test]
    fn after_the_count_was_lowered_a_task_above_it_stands_in_for_an_empty_slot() {
        let old = |slot| v1::Task { fencing_token: 5, ..task(slot, 1, "running") };
        let mut lowered = service(2, "always");
        lowered.spec_version = 1;
        assert!(matches!(settle(&lowered, &[old(2), old(3)]), Some((0, Verdict::Reached))));
        let dropped = v1::Task { desired: "removed".into(), ..task(1, 1, "starting") };
        assert!(settle(&lowered, &[dropped, old(2), old(3)]).is_none(), "one more is to stop");
        assert!(settle(&lowered, &[old(1), old(2), old(3)]).is_none(), "one too many runs");
    }

    #[test]
    fn what_cannot_be_placed_fails_with_the_schedulers_words_after_three_quiet_seconds() {
        let tasks =
            [task(1, 1, "running"), stuck(2, "no node fits: 3 lack memory"), stuck(3, "no node fits: 3 lack memory")];
        let failure = failure(&service(3, "always"), &tasks);
        assert_eq!(failure.exit, Exit::CannotBePlaced);
        assert_eq!(
            failure.message,
            "web cannot be placed: 1 of 3 running, 2 pending\n  no node fits: 3 lack memory (2 tasks)"
        );
    }

    #[test]
    fn nothing_is_given_up_while_another_slot_still_moves() {
        for moving in ["preparing", "starting", "assigned", "pending"] {
            assert!(
                settle(&service(2, "always"), &[stuck(1, "no node fits"), task(2, 1, moving)]).is_none(),
                "{moving}"
            );
        }
        assert!(settle(&service(2, "always"), &[stuck(1, "no node fits")]).is_none(), "a slot without a task");
    }

    #[test]
    fn a_gap_between_looks_starts_the_quiet_seconds_again() {
        let (mut judge, start) = (judge(ChangeKind::Create), Instant::now());
        let look = |judge: &mut Judge, after_ms: u64| {
            let now = now(start, Duration::from_millis(after_ms));
            matches!(judge.look(now, &service(1, "always"), &[stuck(1, "no node fits")]).1, Verdict::Failed(_))
        };
        assert!(!look(&mut judge, 0));
        assert!(!look(&mut judge, 9_000), "the managers were away");
        assert!(!look(&mut judge, 10_500));
        assert!(look(&mut judge, 12_000));
    }

    #[test]
    fn a_task_that_rests_after_success_has_converged_and_after_failure_has_not() {
        assert!(matches!(settle(&service(1, "no"), &[task(1, 1, "complete")]), Some((_, Verdict::Reached))));
        let failed = v1::Task { exit_code: Some(3), ..task(1, 1, "failed") };
        let failure = failure(&service(1, "no"), &[failed]);
        assert_eq!(failure.exit, Exit::TasksFail);
        assert_eq!(failure.message, "web does not run: 0 of 1 running, 1 failed\n  exit code 3");
    }

    #[test]
    fn what_is_restarted_always_is_waited_for() {
        assert!(settle(&service(1, "always"), &[task(1, 1, "failed")]).is_none());
        assert!(settle(&service(1, "always"), &[task(1, 1, "complete")]).is_none());
        assert!(settle(&service(1, "no"), &[task(1, 1, "lost")]).is_none());
    }

    #[test]
    fn tasks_of_the_spec_before_and_tasks_too_many_are_waited_for() {
        let outdated = v1::Task { fencing_token: 10, ..task(1, 1, "running") };
        assert!(settle(&service(1, "always"), std::slice::from_ref(&outdated)).is_none());
        let stopping = v1::Task { desired: "removed".into(), ..task(2, 1, "running") };
        assert!(settle(&service(1, "always"), &[task(1, 1, "running"), stopping.clone()]).is_none());
        assert_eq!(
            view(&service(1, "always"), &[outdated, stopping], 10).summary(),
            "1 of 1 running, 1 to be replaced, 1 more to stop"
        );
    }

    #[test]
    fn a_slot_that_crash_loops_shows_why() {
        let failed = v1::Task { exit_code: Some(1), error: "cannot open the database".into(), ..task(1, 1, "failed") };
        let view = view(&service(1, "always"), &[failed, task(1, 2, "pending")], 10);
        let slot = &view.slots[0];
        assert_eq!((slot.problem.as_str(), slot.failures), ("cannot open the database (exit code 1)", 1));
    }

    #[test]
    fn a_task_that_was_stopped_to_be_replaced_is_no_problem() {
        let stopped = v1::Task { reason: "stop-requested".into(), exit_code: Some(143), ..task(1, 1, "stopped") };
        let view = view(&service(1, "always"), &[stopped, task(1, 2, "starting")], 10);
        assert_eq!((view.slots[0].problem.as_str(), view.slots[0].failures), ("", 0));
    }
}
