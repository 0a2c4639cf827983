//! Each rule of the plan, in one line of its output.

use super::*;

const TASK: TaskId = TaskId::from_random(1);

fn wanted(desired: Desired) -> Wanted {
    Wanted { desired, driver: Driver::Docker, on_disconnect: OnDisconnect::Keep, unusable: None }
}

fn known(state: TaskState, doing: Doing) -> Known {
    Known { state, doing, on_disconnect: OnDisconnect::Keep, stop_grace_ms: 10_000 }
}

/// The plan for one task, in one line; `told`: whether managers have said anything yet.
fn planned(told: bool, wanted: Option<Wanted>, known: Option<Known>, is_lease_valid: bool) -> String {
    let wanted: BTreeMap<_, _> = wanted.into_iter().map(|wanted| (TASK, wanted)).collect();
    let known: BTreeMap<_, _> = known.into_iter().map(|known| (TASK, known)).collect();
    let drivers = BTreeSet::from([Driver::Docker]);
    let view = View {
        wanted: told.then_some(&wanted),
        known: &known,
        drivers: &drivers,
        lease: Validity { is_leased: is_lease_valid, is_sheltered: is_lease_valid },
        is_watched: true,
        lease_stop_grace_ms: 500,
    };
    let actions: Vec<String> = plan(&view).iter().map(ToString::to_string).collect();
    actions.join("; ")
}

#[test]
fn a_wanted_task_is_started_once() {
    let want = || Some(wanted(Desired::Running));
    assert_eq!(planned(true, want(), None, true), "start 000000000001");
    assert_eq!(planned(true, want(), Some(known(TaskState::Assigned, Doing::Nothing)), true), "start 000000000001");
    assert_eq!(planned(true, want(), Some(known(TaskState::Starting, Doing::Running)), true), "");
    for ended in [TaskState::Complete, TaskState::Failed, TaskState::Stopped, TaskState::Rejected] {
        assert_eq!(planned(true, want(), Some(known(ended, Doing::Nothing)), true), "", "{ended:?}");
    }
}

#[test]
fn a_stop_is_never_taken_back() {
    let stopping = Some(known(TaskState::Running, Doing::Stopping { grace_ms: 10_000 }));
    assert_eq!(planned(true, Some(wanted(Desired::Running)), stopping, true), "");
}

#[test]
fn what_is_not_wanted_is_stopped_and_then_forgotten() {
    let running = || Some(known(TaskState::Running, Doing::Running));
    let stop = "stop 000000000001 within 10000 ms: stop-requested";
    assert_eq!(planned(true, Some(wanted(Desired::Stopped)), running(), true), stop);
    assert_eq!(planned(true, Some(wanted(Desired::Removed)), running(), true), stop);
    assert_eq!(planned(true, None, running(), true), "stop 000000000001 within 10000 ms: not-assigned");
    let ended = || Some(known(TaskState::Stopped, Doing::Nothing));
    assert_eq!(planned(true, Some(wanted(Desired::Removed)), ended(), true), "");
    assert_eq!(planned(true, None, ended(), true), "forget 000000000001");
    assert_eq!(planned(true, None, Some(known(TaskState::Stopped, Doing::Forgetting)), true), "");
}

#[test]
fn until_managers_have_spoken_nothing_is_stopped_or_forgotten() {
    assert_eq!(planned(false, None, Some(known(TaskState::Running, Doing::Running)), false), "");
    assert_eq!(planned(false, None, Some(known(TaskState::Failed, Doing::Nothing)), false), "");
}

#[test]
fn a_task_that_was_never_begun_and_is_to_stop_is_declined() {
    assert_eq!(planned(true, Some(wanted(Desired::Stopped)), None, true), "decline 000000000001");
    let idle = Some(known(TaskState::Assigned, Doing::Nothing));
    assert_eq!(planned(true, Some(wanted(Desired::Removed)), idle, true), "decline 000000000001");
}

#[test]
fn what_cannot_run_here_is_rejected() {
    let other = Wanted { driver: Driver::Process, ..wanted(Desired::Running) };
    assert_eq!(planned(true, Some(other), None, true), "reject 000000000001: the runtime Process is not enabled here");
    let bad = Wanted { unusable: Some("driver: no".into()), ..wanted(Desired::Running) };
    assert_eq!(planned(true, Some(bad), None, true), "reject 000000000001: driver: no");
}

#[test]
fn only_leased_tasks_stop_at_the_end_of_the_lease_and_start_only_within_one() {
    let leased = |doing| {
        let known = known(TaskState::Running, doing);
        Some(Known { on_disconnect: OnDisconnect::Stop, ..known })
    };
    let stop = "stop 000000000001 within 500 ms: lease-expired";
    let want = || Some(Wanted { on_disconnect: OnDisconnect::Stop, ..wanted(Desired::Running) });
    assert_eq!(planned(true, want(), leased(Doing::Running), true), "");
    assert_eq!(planned(true, want(), leased(Doing::Running), false), stop);
    assert_eq!(planned(false, None, leased(Doing::Running), false), stop);
    assert_eq!(planned(true, want(), leased(Doing::Stopping { grace_ms: 10_000 }), false), stop);
    assert_eq!(planned(true, want(), leased(Doing::Stopping { grace_ms: 500 }), false), "");
    assert_eq!(planned(true, want(), None, false), "");
    assert_eq!(planned(true, want(), None, true), "start 000000000001");
    let kept = known(TaskState::Running, Doing::Running);
    assert_eq!(planned(true, Some(wanted(Desired::Running)), Some(kept), false), "");
}

/// What is done about one `stop-if-isolated` task that is wanted, and runs or was not begun.
fn planned_alone(runs: bool, is_leased: bool, is_sheltered: bool, is_watched: bool) -> String {
    let on_disconnect = OnDisconnect::StopIfIsolated;
    let wanted = BTreeMap::from([(TASK, Wanted { on_disconnect, ..wanted(Desired::Running) })]);
    let running = Known { on_disconnect, ..known(TaskState::Running, Doing::Running) };
    let known: BTreeMap<_, _> = runs.then_some((TASK, running)).into_iter().collect();
    let drivers = BTreeSet::from([Driver::Docker]);
    let lease = Validity { is_leased, is_sheltered };
    let view =
        View { wanted: Some(&wanted), known: &known, drivers: &drivers, lease, is_watched, lease_stop_grace_ms: 500 };
    plan(&view).iter().map(ToString::to_string).collect()
}

#[test]
fn a_sheltered_task_runs_on_but_none_is_begun_in_shelter_or_unwatched() {
    assert_eq!(planned_alone(true, false, true, true), "");
    assert_eq!(planned_alone(true, false, false, true), "stop 000000000001 within 500 ms: lease-expired");
    assert_eq!(planned_alone(false, false, true, true), "");
    assert_eq!(planned_alone(false, true, true, false), "");
    assert_eq!(planned_alone(true, true, true, false), "");
    assert_eq!(planned_alone(false, true, true, true), "start 000000000001");
}
