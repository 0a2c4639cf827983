//! Nodes that are emptied: at once, or gently until a deadline.

use goat_core::model::{Availability, Cause, Desired, NodeId, NodeState, Placement, TaskState};
use goat_core::orchestrator::waits_for;
use goat_core::state::command::{Action, Refusal};

use crate::support::{Leader, sized, spec};

const WITHIN_MS: u64 = 60_000;
const GIB: u64 = 1 << 30;

/// Tasks on a node that are wanted to run.
fn wanted_on(leader: &Leader, node: NodeId) -> usize {
    let tasks = leader.state.tasks_of_node(node).filter(|task| !task.state.is_terminal());
    tasks.filter(|task| task.desired == Desired::Running).count()
}

fn live_on(leader: &Leader, node: NodeId) -> usize {
    leader.state.tasks_of_node(node).filter(|task| !task.state.is_terminal()).count()
}

fn stops_one(leader: &mut Leader) {
    let leaving = |task: &&goat_core::model::Task| task.desired != Desired::Running && !task.state.is_terminal();
    let ids: Vec<_> = leader.state.tasks().filter(leaving).map(|task| task.id).collect();
    assert_eq!(ids.len(), 1, "one at a time: {ids:?}");
    leader.report(ids[0], TaskState::Stopped);
    leader.settle();
}

fn start_all(leader: &mut Leader) {
    let starting =
        |task: &&goat_core::model::Task| task.state == TaskState::Assigned && task.desired == Desired::Running;
    let ids: Vec<_> = leader.state.tasks().filter(starting).map(|task| task.id).collect();
    for id in ids {
        leader.report(id, TaskState::Running);
    }
    leader.settle();
}

#[test]
fn with_a_deadline_tasks_go_one_at_a_time_and_the_next_when_the_last_runs_again() {
    let mut leader = Leader::new();
    let first = leader.nodes(1)[0];
    leader.service(1, spec("web", 3));
    leader.work();
    assert_eq!(live_on(&leader, first), 3);
    leader.nodes(2);
    leader.done(Action::DrainNode { node: first, within_ms: WITHIN_MS });
    leader.settle();
    for left in [2, 1, 0] {
        assert_eq!(wanted_on(&leader, first), left);
        leader.assert_settled();
        stops_one(&mut leader);
        assert_eq!(wanted_on(&leader, first), left, "its replacement does not run yet");
        start_all(&mut leader);
    }
    assert_eq!(live_on(&leader, first), 0);
    let causes: Vec<_> = leader.state.tasks().filter_map(|task| task.stop_cause).collect();
    assert_eq!(causes, [Cause::Drain; 3]);
}

#[test]
fn what_has_no_room_elsewhere_stays_until_the_deadline_and_says_so() {
    let mut leader = Leader::new();
    let first = leader.node(1, sized(4_000, 4 * GIB));
    let web = leader.service(1, spec("web", 2));
    leader.work();
    leader.done(Action::DrainNode { node: first, within_ms: WITHIN_MS });
    leader.settle();
    assert_eq!(wanted_on(&leader, first), 2);
    leader.assert_settled();
    let task = leader.newest(web, 1).clone();
    assert_eq!(waits_for(&leader.state, &task).as_deref(), Some("room (no node fits: 1 draining)"));

    leader.pass(WITHIN_MS - 1);
    assert!(!leader.planner.has_work(leader.now_ms), "it is not time yet");
    leader.pass(1);
    assert!(leader.planner.has_work(leader.now_ms));
    leader.settle();
    assert_eq!((wanted_on(&leader, first), live_on(&leader, first)), (0, 2), "time is up, for both");
}

/// One request came by a manager whose clock is an hour ahead: the state's stands still until the others are there.
#[test]
fn the_deadline_comes_in_time_although_a_request_came_from_an_hour_ahead() {
    const HOUR_MS: u64 = 3_600_000;
    let mut leader = Leader::new();
    let node = leader.nodes(1)[0];
    let web = leader.service(1, spec("web", 1));
    leader.work();
    leader.now_ms += HOUR_MS;
    leader.done(Action::ScaleService { id: web, replicas: 2 });
    leader.now_ms -= HOUR_MS;
    leader.work();
    leader.done(Action::DrainNode { node, within_ms: WITHIN_MS });
    leader.settle();
    let wait_ms = leader.plan().wake_at_ms.expect("it waits for the deadline") - leader.now_ms;
    assert!(wait_ms <= WITHIN_MS, "{wait_ms} ms");
    leader.pass(wait_ms - 1);
    leader.settle();
    assert_eq!(wanted_on(&leader, node), 2, "it is not time yet");
    leader.pass(1);
    leader.settle();
    assert_eq!(wanted_on(&leader, node), 0);
}

#[test]
fn room_that_appears_lets_them_go() {
    let mut leader = Leader::new();
    let first = leader.nodes(1)[0];
    leader.service(1, spec("web", 1));
    leader.work();
    leader.done(Action::DrainNode { node: first, within_ms: WITHIN_MS });
    leader.settle();
    assert_eq!(wanted_on(&leader, first), 1);
    leader.nodes(2);
    leader.settle();
    assert_eq!(wanted_on(&leader, first), 0);
}

#[test]
fn a_new_leader_keeps_the_deadline_and_activating_ends_the_drain() {
    let mut leader = Leader::new();
    let first = leader.nodes(1)[0];
    leader.service(1, spec("web", 1));
    leader.work();
    leader.done(Action::DrainNode { node: first, within_ms: WITHIN_MS });
    leader.elect();
    leader.settle();
    leader.pass(WITHIN_MS - 1);
    leader.done(Action::SetAvailability { node: first, availability: Availability::Active });
    leader.settle();
    leader.pass(WITHIN_MS);
    leader.settle();
    assert_eq!(wanted_on(&leader, first), 1, "it stays");
    assert_eq!(leader.state.node(first).and_then(|node| node.drain_until_ms), None);
}

#[test]
fn without_a_deadline_all_go_at_once() {
    let mut leader = Leader::new();
    let first = leader.nodes(1)[0];
    leader.service(1, spec("web", 3));
    leader.work();
    leader.done(Action::DrainNode { node: first, within_ms: WITHIN_MS });
    leader.settle();
    assert_eq!(wanted_on(&leader, first), 3);
    leader.done(Action::SetAvailability { node: first, availability: Availability::Drain });
    leader.settle();
    assert_eq!(wanted_on(&leader, first), 0);
}

#[test]
fn without_a_deadline_a_task_goes_whatever_it_is_at() {
    for state in [TaskState::Assigned, TaskState::Preparing, TaskState::Starting, TaskState::Running] {
        let mut leader = Leader::new();
        let node = leader.nodes(1)[0];
        let web = leader.service(1, spec("web", 1));
        leader.settle();
        let task = leader.newest(web, 1).id;
        if state != TaskState::Assigned {
            leader.report(task, state);
        }
        leader.settle();
        leader.done(Action::SetAvailability { node, availability: Availability::Drain });
        leader.settle();
        assert_eq!(leader.newest(web, 1).desired, Desired::Stopped, "{state:?}");
    }
}

#[test]
fn two_services_go_side_by_side_and_a_deadline_has_its_limits() {
    let mut leader = Leader::new();
    let first = leader.nodes(1)[0];
    for (number, name) in [(1, "web"), (2, "db")] {
        let placement = Placement { max_per_node: 5, ..Placement::default() };
        leader.service(number, goat_core::model::ServiceSpec { placement, ..spec(name, 2) });
    }
    leader.work();
    leader.nodes(3);
    leader.done(Action::DrainNode { node: first, within_ms: WITHIN_MS });
    leader.settle();
    assert_eq!((wanted_on(&leader, first), live_on(&leader, first)), (2, 4), "one of each");
    for within_ms in [0, u64::MAX] {
        let refused = leader.refused(Action::DrainNode { node: first, within_ms });
        assert!(matches!(&refused, Refusal::Invalid { field, .. } if field == "deadline"), "{refused}");
    }
}

#[test]
fn a_node_that_is_drained_and_empty_may_be_forgotten() {
    let mut leader = Leader::new();
    let nodes = leader.nodes(2);
    leader.service(1, spec("web", 2));
    leader.work();
    leader.done(Action::SetAvailability { node: nodes[0], availability: Availability::Drain });
    leader.settle();
    let refused = leader.refused(Action::RemoveNode { node: nodes[0] });
    assert!(matches!(refused, Refusal::NodeNotDown { .. }), "its task has not ended: {refused}");
    let wanted = "node \"w1\" is ready; one must be down, or drained and empty, to go";
    assert_eq!(refused.to_string(), wanted);
    // A silent one may be the only one there is.
    let silent = Refusal::NodeNotDown { name: "w1".into(), state: NodeState::Disconnected }.to_string();
    assert!(silent.ends_with("where another worker is heard; if there is none, start one)"), "{silent}");
    leader.work();
    leader.done(Action::RemoveNode { node: nodes[0] });
    assert!(leader.state.node(nodes[0]).is_none());
}
