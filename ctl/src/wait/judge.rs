//! Whether a service has converged, from lists of its tasks. Pure: time comes in as an argument.
//!
//! ```text
//! look --> every slot runs, steadily            --> reached
//!      --> the rest cannot be placed, unchanged --> failed (3)
//!      --> the rest has ended, unchanged        --> failed (1)
//!      --> anything else                        --> not yet
//! ```

use std::time::Duration;

use goat_proto::v1;
use tokio::time::Instant;

use super::Verdict;
use super::view::{Stage, View, view};
use crate::exit::{Exit, Failure};

/// What does not change for so long will not change by itself.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// A task that has just been started must run for so long to count: what fails at once is not running.
const STEADY_AFTER: Duration = Duration::from_millis(500);
/// After so long without a look, nothing is known of what went on: the managers were busy with themselves.
const LOOK_GAP: Duration = Duration::from_secs(2);

/// Judges one service, look by look.
#[derive(Debug)]
pub struct Judge {
    /// The log index of the change: tasks that were assigned later are its effect.
    changed_at: u64,
    last_look: Option<Instant>,
    /// Since when `signature` is what it is.
    since: Option<Instant>,
    signature: Vec<(String, String, String)>,
}

impl Judge {
    pub fn new(changed_at: u64) -> Self {
        Self { changed_at, last_look: None, since: None, signature: vec![] }
    }

    /// `tasks`: the service's, with those that have ended.
    pub fn look(&mut self, now: Instant, service: &v1::Service, tasks: &[v1::Task]) -> (View, Verdict) {
        let view = view(service, tasks);
        let unchanged = self.unchanged_for(now, tasks);
        let verdict = self.verdict(&view, tasks, unchanged);
        (view, verdict)
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

    fn verdict(&self, view: &View, tasks: &[v1::Task], unchanged: Duration) -> Verdict {
        let any = |stage| view.slots.iter().any(|slot| slot.stage == stage);
        if view.settled() == view.desired as usize && view.leftover == 0 {
            let steady_after = self.steady_after(tasks);
            return if unchanged >= steady_after {
                Verdict::Reached
            } else {
                Verdict::NotYet(steady_after - unchanged)
            };
        }
        if any(Stage::Moving) || any(Stage::Outdated) || view.leftover > 0 {
            return Verdict::NotYet(SETTLED_AFTER);
        }
        if unchanged < SETTLED_AFTER {
            return Verdict::NotYet(SETTLED_AFTER - unchanged);
        }
        Verdict::Failed(if any(Stage::Stuck) { cannot_be_placed(view) } else { has_ended(view) })
    }

    /// How long all must have run: not at all where nothing was started, longer where something has failed.
    fn steady_after(&self, tasks: &[v1::Task]) -> Duration {
        let new = || tasks.iter().filter(|task| task.fencing_token > self.changed_at);
        if new().any(|task| matches!(task.state.as_str(), "failed" | "rejected")) {
            SETTLED_AFTER
        } else if new().any(|task| task.state == "running") {
            STEADY_AFTER
        } else {
            Duration::ZERO
        }
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

fn has_ended(view: &View) -> Failure {
    let message = format!("{} does not run: {}{}", view.name, view.summary(), view.problems(Stage::Ended));
    Failure::failed(message).with_hint(format!(
        "its restart policy lets it rest; `goatctl task logs {}.{}` shows its output",
        view.name,
        view.slots.iter().find(|slot| slot.stage == Stage::Ended).map_or(1, |slot| slot.number)
    ))
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

    /// Looks twice a second at what stays the same; the verdict, and after how many steps it came.
    fn settle(service: &v1::Service, tasks: &[v1::Task]) -> Option<(u32, Verdict)> {
        let mut judge = Judge::new(10);
        let start = Instant::now();
        (0..20).find_map(|step| match judge.look(start + STEP * step, service, tasks).1 {
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
    fn what_runs_already_has_converged_and_what_was_started_must_last_a_moment() {
        let old = v1::Task { fencing_token: 5, ..task(1, 1, "running") };
        let mut at_rest = service(1, "always");
        at_rest.spec_version = 1;
        assert!(matches!(settle(&at_rest, &[old]), Some((0, Verdict::Reached))));
        assert!(matches!(settle(&service(1, "always"), &[task(1, 1, "running")]), Some((1, Verdict::Reached))));
        assert!(matches!(settle(&service(0, "always"), &[]), Some((0, Verdict::Reached))));
    }

    #[test]
    fn after_a_failure_a_task_must_run_longer_to_count() {
        let tasks = [task(1, 1, "failed"), task(1, 2, "running")];
        assert!(matches!(settle(&service(1, "always"), &tasks), Some((6, Verdict::Reached))));
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
        let mut judge = Judge::new(10);
        let start = Instant::now();
        let look = |judge: &mut Judge, after_ms: u64| {
            let now = start + Duration::from_millis(after_ms);
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
        assert_eq!(failure.exit, Exit::Failed);
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
            view(&service(1, "always"), &[outdated, stopping]).summary(),
            "0 of 1 running, 1 to be replaced, 1 more to stop"
        );
    }

    #[test]
    fn a_slot_that_crash_loops_shows_why() {
        let failed = v1::Task { exit_code: Some(1), error: "cannot open the database".into(), ..task(1, 1, "failed") };
        let view = view(&service(1, "always"), &[failed, task(1, 2, "pending")]);
        assert_eq!(view.slots[0].problem, "cannot open the database (exit code 1)");
    }
}
