//! What a change set says of why a task changed: events are made of it.

use goat_core::model::{Availability, NodeState, OnDisconnect, ServiceId, ServiceSpec, TaskId, TaskState, reason};
use goat_core::state::change::ChangeSet;
use goat_core::state::command::{Action, Answer, Command, TaskReport};

use crate::support::{Leader, report_of, roomy, spec};

const WEB: ServiceId = ServiceId::from_random(1);

fn changes(leader: &mut Leader, action: Action) -> ChangeSet {
    leader.command(&Command { now_ms: leader.now_ms, request: None, action }).1
}

/// As `goatctl events` shows them: changes of state only.
fn told(changes: &ChangeSet) -> Vec<String> {
    let word = |state: Option<TaskState>| state.map_or("-", TaskState::as_str);
    let moved = changes.tasks.iter().filter(|change| change.from != change.to && change.to.is_some());
    moved.map(|change| format!("{} {} {}", word(change.from), word(change.to), change.cause.as_str())).collect()
}

fn report(leader: &mut Leader, task: TaskId, state: TaskState, why: Option<&str>) -> Vec<String> {
    let node = leader.state.task(task).and_then(|task| task.node).expect("it has a node");
    let report = TaskReport { reason: why.map(str::to_owned), ..report_of(task, state, leader.now_ms) };
    told(&changes(leader, Action::ReportTasks { node, reports: vec![report] }))
}

fn planned(leader: &mut Leader) -> Vec<String> {
    let steps = leader.plan().steps;
    told(&changes(leader, Action::Plan { steps }))
}

/// Two nodes and a task on each.
fn running() -> Leader {
    let mut leader = Leader::new();
    leader.nodes(2);
    leader.service(1, spec("web", 2));
    leader.work();
    leader
}

#[test]
fn a_new_task_says_who_wanted_it() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, spec("web", 1));
    assert_eq!(planned(&mut leader), ["- assigned user"]);
    let task = leader.newest(WEB, 1).id;
    assert_eq!(report(&mut leader, task, TaskState::Running, None), ["assigned running user"]);
    leader.done(Action::ScaleService { id: WEB, replicas: 2 });
    assert_eq!(planned(&mut leader), ["- assigned scale"]);
}

/// What is done to the cluster makes a task end so, and its successor is made for the same cause.
#[test]
fn an_end_that_managers_wanted_says_what_for() {
    type Done = fn(&mut Leader);
    let cases: [(Done, &str, Option<&str>); 4] = [
        (
            |leader| assert_ne!(leader.done(Action::ScaleService { id: WEB, replicas: 1 }), Answer::Nothing),
            "scale",
            None,
        ),
        (|leader| assert_ne!(leader.done(Action::RemoveService { id: WEB }), Answer::Nothing), "user", None),
        (|leader| leader.update(WEB, |spec| spec.image = "app:2".into()), "update", Some("update")),
        (
            |leader| {
                let node = leader.newest(WEB, 2).node.expect("it runs");
                leader.done(Action::SetAvailability { node, availability: Availability::Drain });
            },
            "drain",
            Some("drain"),
        ),
    ];
    for (done, cause, next) in cases {
        let mut leader = running();
        done(&mut leader);
        leader.settle();
        let stopping = leader.state.tasks().filter(|task| task.stop_cause.is_some());
        let task = stopping.max_by_key(|task| task.slot).expect("one is to stop").id;
        assert_eq!(report(&mut leader, task, TaskState::Stopped, None), [format!("running stopped {cause}")]);
        let made: Vec<String> = next.iter().map(|next| format!("- assigned {next}")).collect();
        assert_eq!(planned(&mut leader), made, "{cause}");
    }
}

#[test]
fn an_end_of_its_own_is_an_exit_unless_its_health_or_its_lease_ended_it() {
    for (state, why, cause) in [
        (TaskState::Failed, Some("oom-killed"), "exit"),
        (TaskState::Complete, None, "exit"),
        (TaskState::Rejected, Some("no-runtime"), "exit"),
        (TaskState::Failed, Some(reason::UNHEALTHY), "health"),
        (TaskState::Stopped, Some("lease-expired"), "node-lost"),
    ] {
        let mut leader = running();
        let task = leader.newest(WEB, 2).id;
        let word = state.as_str();
        assert_eq!(report(&mut leader, task, state, why), [format!("running {word} {cause}")]);
        assert_eq!(planned(&mut leader), [format!("- assigned {cause}")]);
    }
}

#[test]
fn a_node_that_goes_and_comes_back_says_so() {
    let mut leader = Leader::new();
    leader.nodes(2);
    leader.service(1, ServiceSpec { on_disconnect: Some(OnDisconnect::Keep), ..spec("web", 1) });
    leader.work();
    let task = leader.newest(WEB, 1).clone();
    let node = task.node.expect("it runs");
    let seen_version = leader.state.node(node).expect("it is there").version;
    let down = Action::SetNodeState { node, seen_version, state: NodeState::Down };
    assert_eq!(told(&changes(&mut leader, down)), ["running lost node-lost"]);
    assert_eq!(planned(&mut leader), ["- assigned node-lost"]);
    let other = leader.newest(WEB, 1).id;
    assert_eq!(report(&mut leader, other, TaskState::Running, None), ["assigned running node-lost"]);
    let register = Action::RegisterNode {
        node,
        name: leader.state.node(node).expect("it is there").name.clone(),
        address: String::new(),
        labels: Default::default(),
        inventory: roomy(),
        running: vec![task.id],
    };
    assert_eq!(told(&changes(&mut leader, register)), ["lost running node-back"]);
    assert_eq!(report(&mut leader, other, TaskState::Stopped, None), ["running stopped node-back"]);
    assert_eq!(planned(&mut leader), [""; 0]);
}
