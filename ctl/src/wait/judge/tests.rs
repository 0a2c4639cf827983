//! Verdicts on tasks that a test makes up.

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
    (0..20).find_map(|step| match judge.look(now(start, STEP * step), service, tasks, true).1 {
        Verdict::NotYet(_) => None,
        verdict => Some((step, verdict)),
    })
}

/// As [`settle`], of tasks that change: `tasks` says what there is after so many steps.
fn watch(kind: ChangeKind, service: &v1::Service, tasks: impl Fn(u32) -> Vec<v1::Task>) -> Option<(u32, Verdict)> {
    let (mut judge, start) = (judge(kind), Instant::now());
    (0..100).find_map(|step| match judge.look(now(start, STEP * step), service, &tasks(step), true).1 {
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
    let look = judge.look(now(Instant::now(), STEP), &service(1, "always"), &[task(1, 1, "running")], true);
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
    let newest = task(1, step / 2 + 1, if step.is_multiple_of(2) { "running" } else { "starting" });
    ended.chain([newest]).collect()
}

#[test]
fn a_crash_loop_gets_a_verdict_that_names_the_task_and_its_end() {
    let Some((step, Verdict::Failed(failure))) = watch(ChangeKind::Create, &service(1, "always"), crash_loop) else {
        panic!("no failure");
    };
    // The first failure was seen at step 2, and five seconds are ten steps.
    assert_eq!((step, failure.exit), (13, Exit::TasksFail));
    assert_eq!(
        failure.message,
        "web does not stay up: 0 of 1 running, 1 starting\n  web.1 failed 6 times since the change: exit code 3"
    );
}

/// As of a service that is too large for its history to be listed.
#[test]
fn without_a_history_attempts_are_counted() {
    let (mut judge, start) = (judge(ChangeKind::Create), Instant::now());
    let looks = (0..40).find_map(|step| {
        let newest = crash_loop(step).pop().expect("there is one");
        match judge.look(now(start, STEP * step), &service(1, "always"), &[newest], false).1 {
            Verdict::NotYet(_) => None,
            verdict => Some(verdict),
        }
    });
    let Some(Verdict::Failed(failure)) = looks else { panic!("no failure") };
    assert!(failure.message.contains("web.1 failed 6 times since the change: its history says why"), "{failure}");
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
    let failed = v1::Task { reason: "image-not-found".into(), error: "no such image".into(), ..task(1, 1, "failed") };
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
        assert!(settle(&service(2, "always"), &[stuck(1, "no node fits"), task(2, 1, moving)]).is_none(), "{moving}");
    }
    assert!(settle(&service(2, "always"), &[stuck(1, "no node fits")]).is_none(), "a slot without a task");
}

#[test]
fn a_gap_between_looks_starts_the_quiet_seconds_again() {
    let (mut judge, start) = (judge(ChangeKind::Create), Instant::now());
    let look = |judge: &mut Judge, after_ms: u64| {
        let now = now(start, Duration::from_millis(after_ms));
        matches!(judge.look(now, &service(1, "always"), &[stuck(1, "no node fits")], true).1, Verdict::Failed(_))
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
