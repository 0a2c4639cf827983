//! Tasks that run where their service's placement excludes them, because it or the node has changed, are moved one at a time.

use std::collections::BTreeMap;

use goat_core::model::{Cause, Constraint, Desired, NodeId, ServiceId, Task, TaskState};
use goat_core::orchestrator::{is_misplaced, waits_for};
use goat_core::state::command::Action;

use crate::support::{Leader, roomy, spec};

const WEB: ServiceId = ServiceId::from_random(1);

fn only_on(label: &str, value: &str) -> Constraint {
    Constraint { label: label.into(), equal: true, value: value.into() }
}

fn leaving(leader: &Leader) -> Vec<&Task> {
    leader.state.tasks().filter(|task| task.desired != Desired::Running && !task.state.is_terminal()).collect()
}

/// Three replicas, one on each of three nodes.
fn spread() -> Leader {
    let mut leader = Leader::new();
    leader.nodes(3);
    leader.service(1, spec("web", 3));
    leader.work();
    assert_eq!(leader.nodes_of(WEB).len(), 3);
    leader
}

#[test]
fn a_changed_constraint_moves_tasks_one_at_a_time() {
    let mut leader = spread();
    leader.update(WEB, |spec| spec.placement.constraints = vec![only_on("node.name", "w2")]);
    for left in [2, 1, 0] {
        leader.settle();
        leader.assert_settled();
        let misplaced = leader.state.tasks().filter(|task| is_misplaced(&leader.state, task)).count();
        let stopping = leaving(&leader);
        assert_eq!((misplaced, stopping.len()), if left == 0 { (0, 0) } else { (left - 1, 1) });
        let Some(id) = stopping.first().map(|task| (task.id, task.stop_cause)) else { break };
        assert_eq!(id.1, Some(Cause::Update));
        leader.report(id.0, TaskState::Stopped);
        leader.settle();
        assert_eq!(leaving(&leader).len(), 0, "its replacement does not run yet");
        let next = leader.state.tasks().find(|task| task.state == TaskState::Assigned).expect("one is made").id;
        leader.report(next, TaskState::Running);
    }
    assert_eq!(leader.nodes_of(WEB), [NodeId::from_random(2)].into());
    assert_eq!(leader.state.running(WEB), 3);
}

#[test]
fn what_no_node_may_take_runs_on_and_says_so() {
    let mut leader = spread();
    leader.update(WEB, |spec| spec.placement.constraints = vec![only_on("node.name", "w9")]);
    leader.work();
    leader.assert_settled();
    assert_eq!(leader.state.running(WEB), 3);
    let task = leader.newest(WEB, 1);
    assert!(is_misplaced(&leader.state, task));
    let waits = waits_for(&leader.state, task).expect("it waits");
    assert!(waits.starts_with("room (no node fits: 3 outside the constraint node.name==w9"), "{waits}");

    leader.node(9, roomy());
    leader.work();
    leader.assert_settled();
    assert_eq!(leader.nodes_of(WEB), [NodeId::from_random(9)].into());
}

#[test]
fn a_lower_number_for_each_node_spreads_what_runs() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, spec("web", 3));
    leader.work();
    leader.nodes(3);
    leader.update(WEB, |spec| spec.placement.max_per_node = 1);
    leader.work();
    leader.assert_settled();
    assert_eq!((leader.nodes_of(WEB).len(), leader.state.running(WEB)), (3, 3));
    assert!(leader.state.tasks().all(|task| !is_misplaced(&leader.state, task)));
}

#[test]
fn a_node_whose_labels_change_loses_what_they_exclude_and_nothing_else() {
    let mut leader = Leader::new();
    let zoned = |zone: &str| BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
    let register = |leader: &mut Leader, number: u64, zone: &str| {
        let node = NodeId::from_random(number);
        let running = leader.state.tasks_of_node(node).filter(|task| !task.state.is_terminal());
        let running = running.map(|task| task.id).collect();
        leader.done(Action::RegisterNode {
            node,
            name: format!("w{number}"),
            address: format!("127.0.0.{number}"),
            labels: zoned(zone),
            inventory: roomy(),
            running,
        });
        node
    };
    let first = register(&mut leader, 1, "a");
    let mut web = spec("web", 1);
    web.placement.constraints = vec![only_on("zone", "a")];
    leader.service(1, web);
    let other = leader.service(2, spec("other", 1));
    leader.work();
    let second = register(&mut leader, 2, "a");
    register(&mut leader, 1, "b");
    leader.work();
    leader.assert_settled();
    assert_eq!(leader.nodes_of(WEB), [second].into());
    assert_eq!((leader.nodes_of(other), leader.newest(other, 1).attempt), ([first].into(), 1));
}
