//! A node that was given up is back, and some of its tasks still run: which of the two that a slot then has is kept.

use goat_core::model::{
    Availability, Cause, Desired, NodeId, NodeState, OnDisconnect, RestartCondition, ServiceId, ServiceSpec, Task,
    TaskId, TaskState,
};
use goat_core::state::command::Action;

use crate::support::{GIB, Leader, STALE, needing, report_of, roomy, sized, spec, tcp};

const WEB: ServiceId = ServiceId::from_random(1);

/// Two nodes with a task each; the first is given up. Its task, and the leader before anything was put in its place.
fn given_up(wanted: ServiceSpec) -> (Leader, TaskId) {
    let mut leader = Leader::new();
    leader.nodes(2);
    leader.service(1, wanted);
    leader.work();
    let task = leader.state.tasks_of_node(node(1)).next().expect("one is there").id;
    leader.set_state(node(1), NodeState::Down);
    (leader, task)
}

const fn node(number: u64) -> NodeId {
    NodeId::from_random(number)
}

/// A port makes that each node takes one task only.
fn one_a_node(replicas: u32) -> ServiceSpec {
    ServiceSpec { ports: vec![tcp(7777)], ..spec("web", replicas) }
}

fn row(leader: &Leader, task: TaskId) -> Task {
    leader.state.task(task).expect("it is remembered").clone()
}

#[test]
fn what_still_runs_is_taken_back_and_the_replacement_that_found_no_room_goes() {
    let (mut leader, task) = given_up(one_a_node(2));
    leader.work();
    let slot = row(&leader, task).slot;
    let waiting = leader.newest(WEB, slot).clone();
    assert_eq!((waiting.state, waiting.attempt), (TaskState::Pending, 2));

    leader.node_with(1, roomy(), vec![task]);
    leader.work();
    let back = row(&leader, task);
    assert_eq!((back.state, back.desired, back.node), (TaskState::Running, Desired::Running, Some(node(1))));
    assert_eq!((back.attempt, back.previous, back.reason), (3, Some(waiting.id), None));
    let waiting = row(&leader, waiting.id);
    assert_eq!((waiting.state, waiting.stop_cause), (TaskState::Stopped, Some(Cause::NodeBack)));
    assert_eq!(leader.state.running(WEB), 2);
    leader.assert_settled();

    leader.report(task, TaskState::Failed);
    leader.work();
    let next = leader.newest(WEB, slot);
    assert_eq!((next.attempt, next.previous, next.failures, next.cause), (4, Some(task), 1, Cause::Exit));
}

#[test]
fn a_replacement_that_runs_elsewhere_is_stopped_and_nothing_follows_it() {
    let (mut leader, task) = given_up(spec("web", 2));
    leader.work();
    let slot = row(&leader, task).slot;
    let other = leader.newest(WEB, slot).clone();
    assert_eq!((other.state, other.node), (TaskState::Running, Some(node(2))));

    leader.node_with(1, roomy(), vec![task]);
    leader.settle();
    assert_eq!(row(&leader, other.id).desired, Desired::Stopped);
    assert_eq!(leader.newest(WEB, slot).id, task);
    // The one that was taken back fails while the other is still being stopped: only then is a third one made.
    leader.report(task, TaskState::Failed);
    leader.settle();
    assert_eq!(leader.newest(WEB, slot).id, task, "the other may still run");
    leader.report(other.id, TaskState::Stopped);
    leader.work();
    assert_eq!((leader.newest(WEB, slot).attempt, leader.newest(WEB, slot).state), (4, TaskState::Running));
    assert_eq!(leader.state.running(WEB), 2);
    leader.assert_settled();
}

#[test]
fn a_node_that_is_back_before_anything_was_put_in_its_place_has_lost_nothing() {
    let (mut leader, task) = given_up(spec("web", 2));
    leader.node_with(1, roomy(), vec![task]);
    leader.work();
    let back = row(&leader, task);
    assert_eq!((back.state, back.attempt, leader.state.tasks().count()), (TaskState::Running, 1, 2));
    leader.assert_settled();
}

#[test]
fn attempts_that_failed_meanwhile_stay_as_history_and_are_not_held_against_it() {
    let (mut leader, task) = given_up(spec("web", 2));
    let slot = row(&leader, task).slot;
    for _ in 0..2 {
        leader.work();
        let stand_in = leader.newest(WEB, slot).id;
        leader.report(stand_in, TaskState::Failed);
        leader.settle();
    }
    assert_eq!(leader.newest(WEB, slot).state, TaskState::Pending, "it waits for its backoff");
    leader.node_with(1, roomy(), vec![task]);
    leader.work();
    let attempts: Vec<(u32, TaskState)> = leader
        .state
        .slot(WEB, slot)
        .iter()
        .map(|id| row(&leader, *id))
        .map(|task| (task.attempt, task.state))
        .collect();
    let (failed, stopped, running) = (TaskState::Failed, TaskState::Stopped, TaskState::Running);
    assert_eq!(attempts, [(2, failed), (3, failed), (4, stopped), (5, running)]);
    assert_eq!(row(&leader, task).failures, 0);
    leader.assert_settled();
    leader.pass(600_000);
    leader.settle();
    assert_eq!(row(&leader, task).state, TaskState::Running, "the end of the wait brings nothing");
    assert_eq!(leader.reload().slot(WEB, slot), leader.state.slot(WEB, slot), "in the same order after a restart");
}

#[test]
fn the_oldest_of_several_that_come_back_is_kept() {
    for order in [[1, 2], [2, 1]] {
        let mut leader = Leader::new();
        leader.nodes(1);
        leader.service(1, ServiceSpec { on_disconnect: Some(OnDisconnect::Keep), ..spec("web", 1) });
        leader.work();
        let oldest = leader.newest(WEB, 1).id;
        leader.set_state(node(1), NodeState::Down);
        leader.node(2, roomy());
        leader.work();
        let second = leader.newest(WEB, 1).id;
        assert_eq!(row(&leader, second).node, Some(node(2)));
        leader.set_state(node(2), NodeState::Down);
        leader.settle();
        for number in order {
            let running = if number == 1 { oldest } else { second };
            leader.node_with(number, roomy(), vec![running]);
            leader.work();
        }
        assert_eq!(row(&leader, oldest).state, TaskState::Running, "back in the order {order:?}");
        assert!(matches!(row(&leader, second).state, TaskState::Lost | TaskState::Stopped));
        assert_eq!(leader.newest(WEB, 1).id, oldest);
        leader.assert_settled();
    }
}

type Meanwhile = fn(&mut Leader, TaskId);

/// What happens between the loss of a task and the return of its node, so that it is not wanted back.
const MEANWHILE: [(&str, Meanwhile); 8] = [
    ("the service is removed", |leader, _| {
        leader.done(Action::RemoveService { id: WEB });
    }),
    ("the service was updated", |leader, _| leader.update(WEB, |spec| spec.image = "app:2".into())),
    ("the slot was scaled away", |leader, _| {
        leader.done(Action::ScaleService { id: WEB, replicas: 0 });
    }),
    ("it is leased by now", |leader, _| {
        leader.update(WEB, |spec| spec.on_disconnect = Some(OnDisconnect::StopIfIsolated));
    }),
    ("its node drains", |leader, _| {
        leader.done(Action::SetAvailability { node: node(1), availability: Availability::Drain });
    }),
    ("the slot is done", |leader, task| {
        leader.work();
        let done = leader.newest(WEB, row(leader, task).slot).id;
        leader.report(done, TaskState::Complete);
    }),
    ("the slot's history has forgotten it", |leader, task| {
        let slot = row(leader, task).slot;
        for _ in 0..7 {
            leader.work();
            let next = leader.newest(WEB, slot).id;
            leader.report(next, TaskState::Failed);
            leader.settle();
            leader.pass(120_000);
        }
    }),
    ("another worker says so", |leader, task| {
        leader.node(3, roomy());
        leader.set_state(node(3), NodeState::Down);
        leader.node_with(3, roomy(), vec![task]);
    }),
];

#[test]
fn what_its_slot_does_not_want_any_more_stays_lost() {
    for (what, meanwhile) in MEANWHILE {
        let mut wanted = ServiceSpec { on_disconnect: Some(OnDisconnect::Keep), ..spec("web", 2) };
        wanted.restart.condition = RestartCondition::OnFailure;
        let (mut leader, task) = given_up(wanted);
        meanwhile(&mut leader, task);
        leader.settle();
        leader.node_with(1, roomy(), if what.starts_with("another") { vec![] } else { vec![task] });
        leader.work();
        let state = leader.state.task(task).map(|task| task.state);
        assert!(matches!(state, None | Some(TaskState::Lost)), "{what}: {state:?}");
        leader.assert_settled();
    }
}

#[test]
fn what_its_node_has_not_claimed_when_it_came_back_stays_lost() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, ServiceSpec { on_disconnect: Some(OnDisconnect::Keep), ..spec("web", 1) });
    leader.work();
    let older = leader.newest(WEB, 1).id;
    leader.set_state(node(1), NodeState::Down);
    // It has forgotten what it ran, and gets another; and is given up again, and now knows both.
    leader.node(1, roomy());
    leader.work();
    let newer = leader.newest(WEB, 1).id;
    leader.set_state(node(1), NodeState::Down);
    leader.settle();
    leader.node_with(1, roomy(), vec![newer, older]);
    assert_eq!([older, newer].map(|id| row(&leader, id).state), [TaskState::Lost, TaskState::Running]);
    leader.work();
    leader.assert_settled();
}

#[test]
fn what_was_leased_is_never_taken_back_whatever_the_service_says_now() {
    for leased in [OnDisconnect::Stop, OnDisconnect::StopIfIsolated] {
        let (mut leader, task) = given_up(ServiceSpec { on_disconnect: Some(leased), ..one_a_node(2) });
        assert!(row(&leader, task).fenced);
        leader.update(WEB, |spec| spec.on_disconnect = Some(OnDisconnect::Keep));
        leader.work();
        leader.node_with(1, roomy(), vec![task]);
        assert_eq!(row(&leader, task).state, TaskState::Lost);
        leader.work();
        assert_eq!(leader.state.running(WEB), 2);
        leader.assert_settled();
    }
}

#[test]
fn a_node_that_comes_back_smaller_gets_back_what_fits() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, ServiceSpec { reservations: needing(1_500, GIB), ..spec("web", 2) });
    leader.work();
    let both: Vec<TaskId> = leader.state.tasks().map(|task| task.id).collect();
    leader.set_state(node(1), NodeState::Down);
    leader.settle();
    leader.node_with(1, sized(2_000, 4 * GIB), both.clone());
    let states: Vec<TaskState> = both.iter().map(|task| row(&leader, *task).state).collect();
    assert_eq!(states, [TaskState::Running, TaskState::Lost]);
    assert_eq!(leader.state.reserved_on(node(1)), needing(1_500, GIB));
    leader.work();
    leader.assert_settled();
}

#[test]
fn a_report_or_a_node_that_was_never_down_takes_nothing_back() {
    let (mut leader, task) = given_up(spec("web", 2));
    leader.settle();
    let reports = vec![report_of(task, TaskState::Running, 1)];
    assert_eq!(leader.done(Action::ReportTasks { node: node(1), reports }), STALE);
    leader.node(1, roomy());
    // It has been told by now that it is to stop it.
    leader.node_with(1, roomy(), vec![task]);
    assert_eq!(row(&leader, task).state, TaskState::Lost);
    leader.work();
    assert_eq!(leader.state.running(WEB), 2);
}

#[test]
fn a_node_on_which_a_task_that_came_back_keeps_failing_is_avoided() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, ServiceSpec { on_disconnect: Some(OnDisconnect::Keep), ..spec("web", 1) });
    leader.work();
    let first = leader.newest(WEB, 1).id;
    leader.report(first, TaskState::Failed);
    leader.work();
    let second = leader.newest(WEB, 1).id;
    leader.set_state(node(1), NodeState::Down);
    leader.settle();
    leader.node_with(1, roomy(), vec![second]);
    leader.work();
    leader.node(2, sized(500, GIB));
    leader.report(second, TaskState::Failed);
    leader.settle();
    leader.pass(120_000);
    leader.work();
    assert_eq!(leader.newest(WEB, 1).node, Some(node(2)), "it failed twice in a row on the other");
}
