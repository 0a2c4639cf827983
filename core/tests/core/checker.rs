//! The checker must find what must never be. States that `apply` cannot reach are made from forged rows.

use goat_core::check::{Violation, check_plan, check_state};
use goat_core::codec;
use goat_core::model::{Desired, NodeState, ServiceId, Task, TaskId, TaskState};
use goat_core::plan::Plan;
use goat_core::state::State;
use goat_core::state::command::Step;

use crate::support::{Leader, needing, sized, spec, tcp};

const WEB: ServiceId = ServiceId::from_random(1);

/// Two nodes, and a service with a port and a running task on each.
fn sound() -> Leader {
    let mut leader = Leader::new();
    leader.nodes(2);
    let mut wanted = spec("web", 2);
    wanted.ports = vec![tcp(7777)];
    wanted.reservations = needing(3_000, 0);
    leader.service(1, wanted);
    leader.work();
    leader
}

/// What the checker says once a task's row, or a copy of it under another id, was forged.
fn told(leader: &Leader, id: Option<TaskId>, forge: impl FnOnce(&mut Task)) -> Vec<String> {
    let mut task = leader.newest(WEB, 1).clone();
    task.id = id.unwrap_or(task.id);
    forge(&mut task);
    judged(leader, &task)
}

/// What the checker says once a task's row was forged.
fn judged(leader: &Leader, task: &Task) -> Vec<String> {
    let mut rows = leader.rows.clone();
    let key = [&[4][..], &task.id.bits().to_be_bytes()].concat();
    rows.insert(key, codec::encode(task));
    let state = State::from_rows(&rows).expect("well-formed");
    check_state(&state).iter().map(ToString::to_string).collect()
}

#[test]
fn a_sound_state_is_sound() {
    let leader = sound();
    assert_eq!(told(&leader, None, |_| ()), Vec::<String>::new());
}

#[test]
fn a_second_task_that_may_run_in_a_slot_is_found() {
    let leader = sound();
    let first = leader.newest(WEB, 1).id;
    let other = TaskId::from_random(u64::MAX);
    let found = told(&leader, Some(other), |task| {
        (task.attempt, task.previous, task.node) = (2, Some(first), None);
        (task.state, task.fencing_token, task.started_at_ms) = (TaskState::Pending, 0, None);
    });
    let twice = format!("slot {WEB}.1 may run 2 tasks: [{first}, {other}]");
    assert_eq!(found, [twice, format!("task {first} may run although its slot has a newer one")]);
}

#[test]
fn what_was_given_away_twice_is_found() {
    let leader = sound();
    let node = leader.newest(WEB, 2).node.expect("it runs");
    let found = told(&leader, None, |task| task.node = Some(node));
    assert!(found.contains(&format!("port 7777 of node {node} is held twice")), "{found:?}");
    assert!(found.iter().any(|text| text.starts_with(&format!("node {node} has "))), "{found:?}");
}

#[test]
fn a_node_that_came_back_smaller_is_not_blamed() {
    let mut leader = sound();
    leader.node(1, sized(10, 0));
    assert_eq!(check_state(&leader.state), []);
}

#[test]
fn rows_that_contradict_themselves_or_others_are_found() {
    let mut leader = sound();
    let down = leader.newest(WEB, 2).node.expect("it runs");
    leader.set_state(down, NodeState::Down);
    let id = leader.newest(WEB, 1).id;
    let applied = leader.state.applied_index();
    type Forge = Box<dyn FnOnce(&mut Task)>;
    let cases: [(&str, Forge); 9] = [
        ("has ended at no time", Box::new(|task| task.state = TaskState::Failed)),
        ("has not ended and has a time of its end", Box::new(|task| task.finished_at_ms = Some(1))),
        ("has not ended and has an exit code", Box::new(|task| task.exit_code = Some(0))),
        ("is pending on a node", Box::new(|task| task.state = TaskState::Pending)),
        ("runs since no time", Box::new(|task| task.started_at_ms = None)),
        ("runs nowhere", Box::new(|task| (task.node, task.fencing_token) = (None, 0))),
        ("has a node without a fencing token, or the reverse", Box::new(|task| task.fencing_token = 0)),
        ("may run on a node that is down", Box::new(move |task| task.node = Some(down))),
        ("bears the index of a command that was not applied yet", Box::new(move |task| task.version = applied + 1)),
    ];
    for (problem, forge) in cases {
        let found = told(&leader, None, forge);
        assert!(found.contains(&format!("task {id} {problem}")), "{found:?}");
    }
}

#[test]
fn steps_that_must_not_be_taken_are_found() {
    let leader = sound();
    let task = leader.newest(WEB, 1);
    let (id, seen_version) = (task.id, task.version);
    let node = leader.newest(WEB, 2).node.expect("it runs");
    let stop = Step::Desire { task: id, seen_version, desired: Desired::Stopped, cause: Default::default() };
    let service_version = leader.state.service(WEB).expect("it is there").version;
    let cases = [
        (vec![Step::Assign { task: id, seen_version, node }], "assigns what is not pending"),
        (vec![Step::Forget { task: id, seen_version }], "forgets a task that may run"),
        (vec![Step::Forget { task: id, seen_version: seen_version + 1 }], "saw another version"),
        (vec![stop.clone(), stop], "touches a task again"),
        (
            vec![Step::ForgetService { service: WEB, seen_version: service_version }],
            "forgets a service that was not removed",
        ),
    ];
    for (steps, text) in cases {
        let last = steps.len() - 1;
        let found = check_plan(&leader.state, &Plan { steps, ..Plan::default() });
        let [Violation::Step { step, problem }] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(*step, last);
        assert!(problem.starts_with(&format!("{text}: ")), "{problem}");
    }
}

#[test]
fn beside_a_task_that_came_back_only_what_is_to_stop_may_run_and_nothing_that_was_fenced() {
    let mut leader = sound();
    leader.node(3, sized(8_000, 0));
    let back = leader.newest(WEB, 1).clone();
    let node = back.node.expect("it runs");
    leader.set_state(node, NodeState::Down);
    leader.work();
    let other = leader.newest(WEB, 1).id;
    assert_eq!(leader.state.task(other).map(|task| task.state), Some(TaskState::Running));
    leader.node_with(node.bits(), sized(8_000, 0), vec![back.id]);
    let back = leader.state.task(back.id).expect("it is there").clone();
    assert!(back.returned > 0 && check_state(&leader.state).is_empty());

    let other = leader.state.task(other).expect("it is there").clone();
    let wanted = Task { desired: Desired::Running, stop_cause: None, ..other.clone() };
    let twice = format!("slot {WEB}.1 may run 2 tasks: [{}, {}]", other.id, back.id);
    assert_eq!(
        judged(&leader, &wanted),
        [twice, format!("task {} may run although its slot has a newer one", other.id)]
    );
    let fenced = Task { fenced: true, ..back.clone() };
    assert_eq!(judged(&leader, &fenced), [format!("task {} was fenced and may run", back.id)]);
    let never = Task { returned: 0, ..back };
    assert!(judged(&leader, &never).iter().any(|text| text.contains("may run 2 tasks")));
}
