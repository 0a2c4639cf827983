//! What a cluster lives through, told step by step.

use goat_core::model::{
    Availability, Cause, Desired, NodeState, RestartCondition, RestartPolicy, ServiceId, TaskState,
};
use goat_core::state::command::{Action, Answer, Command};

use crate::support::{Leader, STALE, needing, report_of, roomy, spec, tcp};

const WEB: ServiceId = ServiceId::from_random(1);

#[test]
fn a_service_is_spread_over_the_nodes_in_one_plan() {
    let mut leader = Leader::new();
    leader.nodes(3);
    leader.service(1, spec("web", 6));
    let plan = leader.plan();
    assert_eq!(plan.steps.len(), 6, "created and assigned in one step each: {plan}");
    assert_eq!(leader.carry_out(plan), Answer::Counted { applied: 6, stale: 0 });
    assert!(leader.nodes_of(WEB).iter().all(|node| leader.state.node_use(*node).tasks == 2));
    leader.work();
    assert_eq!(leader.state.running(WEB), 6);
    leader.assert_settled();
}

#[test]
fn a_lost_node_s_tasks_move_and_what_it_reports_later_is_stale() {
    let mut leader = Leader::new();
    let nodes = leader.nodes(2);
    leader.service(1, spec("web", 2));
    leader.work();
    let victim = leader.newest(WEB, 1).clone();
    let lost_on = victim.node.expect("it runs");
    leader.set_state(lost_on, NodeState::Disconnected);
    leader.settle();
    assert_eq!(leader.newest(WEB, 1).id, victim.id, "nothing moves before the lease has run out");

    leader.set_state(lost_on, NodeState::Down);
    let lost = leader.state.task(victim.id).expect("it stays as history");
    assert_eq!((lost.state, lost.reason.as_deref()), (TaskState::Lost, Some("node-lost")));
    leader.work();
    let next = leader.newest(WEB, 1);
    assert_eq!((next.previous, next.attempt, next.failures, next.cause), (Some(victim.id), 2, 0, Cause::NodeLost));
    assert!(next.fencing_token > victim.fencing_token);
    assert_ne!(next.node, Some(lost_on));

    let late = Action::ReportTasks { node: lost_on, reports: vec![report_of(victim.id, TaskState::Running, 1)] };
    assert_eq!(leader.done(late), STALE);
    leader.node(if lost_on == nodes[0] { 1 } else { 2 }, roomy());
    leader.work();
    assert_eq!(leader.state.running(WEB), 2);
    leader.assert_settled();
}

#[test]
fn a_drained_node_is_emptied_one_stop_before_each_start_and_takes_nothing() {
    let mut leader = Leader::new();
    let nodes = leader.nodes(2);
    leader.service(1, spec("web", 4));
    leader.work();
    leader.done(Action::SetAvailability { node: nodes[0], availability: Availability::Drain });
    leader.settle();
    let leaving: Vec<_> = leader.state.tasks_of_node(nodes[0]).map(|task| (task.desired, task.state)).collect();
    assert_eq!(leaving, [(Desired::Stopped, TaskState::Running); 2]);
    assert_eq!(leader.state.tasks().count(), 4, "no replacement while the old one may run");
    leader.work();
    assert_eq!(leader.nodes_of(WEB), [nodes[1]].into());
    assert_eq!(leader.state.running(WEB), 4);
    assert!(
        (1..=4)
            .map(|slot| leader.newest(WEB, slot))
            .filter(|task| task.attempt == 2)
            .all(|task| task.cause == Cause::Drain)
    );
    leader.assert_settled();
}

#[test]
fn scaling_leaves_what_runs_alone_and_takes_the_highest_slots_first() {
    let mut leader = Leader::new();
    leader.nodes(2);
    leader.service(1, spec("web", 2));
    leader.work();
    let first_two = [leader.newest(WEB, 1).id, leader.newest(WEB, 2).id];
    leader.done(Action::ScaleService { id: WEB, replicas: 5 });
    leader.work();
    leader.done(Action::ScaleService { id: WEB, replicas: 3 });
    leader.work();
    assert_eq!(leader.state.slots(WEB).map(|(slot, _)| slot).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!([leader.newest(WEB, 1).id, leader.newest(WEB, 2).id], first_two);
    leader.done(Action::ScaleService { id: WEB, replicas: 0 });
    leader.work();
    assert_eq!(leader.state.tasks().count(), 0);
    leader.assert_settled();
}

#[test]
fn a_removed_service_goes_when_its_last_task_has_ended_and_frees_its_name() {
    let mut leader = Leader::new();
    leader.nodes(2);
    leader.service(1, spec("web", 3));
    leader.work();
    leader.done(Action::RemoveService { id: WEB });
    leader.settle();
    assert_eq!(leader.state.tasks().count(), 3, "workers still have to stop them");
    leader.work();
    assert_eq!((leader.state.tasks().count(), leader.state.services().count()), (0, 0));
    leader.service(2, spec("web", 1));
    leader.work();
    assert_eq!(leader.state.running(ServiceId::from_random(2)), 1);
}

#[test]
fn a_service_removed_while_its_node_is_silent_goes_when_the_node_is_down() {
    let mut leader = Leader::new();
    let nodes = leader.nodes(1);
    leader.service(1, spec("web", 2));
    leader.work();
    leader.set_state(nodes[0], NodeState::Disconnected);
    leader.done(Action::RemoveService { id: WEB });
    leader.settle();
    assert_eq!(leader.state.tasks().count(), 2);
    leader.set_state(nodes[0], NodeState::Down);
    leader.settle();
    assert_eq!((leader.state.tasks().count(), leader.state.services().count()), (0, 0));
    leader.done(Action::RemoveNode { node: nodes[0] });
    assert_eq!(leader.state.nodes().count(), 0);
}

#[test]
fn a_task_that_keeps_failing_waits_longer_each_time_and_the_wait_outlives_the_leader() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, spec("web", 1));
    let mut waits = Vec::new();
    for _ in 0..4 {
        leader.work();
        let running = leader.newest(WEB, 1).id;
        leader.report(running, TaskState::Failed);
        leader.settle();
        leader.elect();
        leader.settle();
        let next = leader.newest(WEB, 1).clone();
        waits.push(next.not_before_ms.saturating_sub(leader.now_ms));
        let waits_for = if next.not_before_ms == 0 { TaskState::Assigned } else { TaskState::Pending };
        assert_eq!(next.state, waits_for);
        assert_eq!(leader.plan().wake_at_ms, (next.not_before_ms > 0).then_some(next.not_before_ms));
        leader.now_ms = leader.now_ms.max(next.not_before_ms);
    }
    assert_eq!(waits[0], 0);
    for (wait_ms, middle_ms) in waits[1..].iter().zip([1_000, 2_000, 4_000]) {
        assert!(wait_ms.abs_diff(middle_ms) <= middle_ms / 10, "{waits:?}");
    }
}

#[test]
fn a_stable_run_makes_the_next_restart_immediate_again() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, spec("web", 1));
    for (run_ms, failures) in [(10, 1), (10, 2), (60_000, 1), (59_999, 2)] {
        leader.work();
        leader.pass(run_ms);
        let running = leader.newest(WEB, 1).id;
        leader.report(running, TaskState::Failed);
        leader.settle();
        assert_eq!(leader.newest(WEB, 1).failures, failures, "after {run_ms} ms");
        leader.pass(70_000);
    }
}

#[test]
fn a_job_that_completes_rests_and_one_that_fails_too_often_is_given_up() {
    let mut leader = Leader::new();
    leader.nodes(2);
    let restart =
        RestartPolicy { condition: RestartCondition::OnFailure, max_attempts: Some(2), ..RestartPolicy::default() };
    leader.service(1, goat_core::model::ServiceSpec { restart, ..spec("job", 2) });
    leader.work();
    let first = leader.newest(WEB, 1).id;
    leader.report(first, TaskState::Complete);
    for _ in 0..3 {
        leader.work();
        let second = leader.newest(WEB, 2).id;
        leader.report(second, TaskState::Failed);
        leader.settle();
        leader.pass(10_000);
    }
    leader.settle();
    assert_eq!(leader.newest(WEB, 1).state, TaskState::Complete);
    assert_eq!((leader.newest(WEB, 2).state, leader.newest(WEB, 2).attempt), (TaskState::Failed, 3));
    leader.assert_settled();
}

#[test]
fn after_two_failures_on_one_node_another_is_tried() {
    let mut leader = Leader::new();
    leader.nodes(2);
    // The second service's tasks make node 2 the worse choice, so that only the failures speak for it.
    leader.service(1, goat_core::model::ServiceSpec { reservations: needing(100, 0), ..spec("web", 1) });
    leader.work();
    let bad = leader.newest(WEB, 1).node;
    let other = leader.state.nodes().map(|node| node.id).find(|id| Some(*id) != bad).expect("there are two");
    let name = leader.state.node(other).expect("it is there").name.clone();
    let constraint = goat_core::model::Constraint { label: "node.name".into(), equal: true, value: name };
    let mut ballast = spec("ballast", 1);
    ballast.placement.constraints = vec![constraint];
    ballast.reservations = needing(2_000, 0);
    leader.service(2, ballast);
    for attempt in 1..=2 {
        leader.work();
        assert_eq!((leader.newest(WEB, 1).attempt, leader.newest(WEB, 1).node), (attempt, bad));
        let running = leader.newest(WEB, 1).id;
        leader.report(running, TaskState::Failed);
        leader.settle();
        leader.pass(5_000);
    }
    leader.work();
    assert_eq!(leader.newest(WEB, 1).node, Some(other));
}

#[test]
fn history_is_kept_to_five_a_slot() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, spec("web", 1));
    for _ in 0..9 {
        leader.work();
        let running = leader.newest(WEB, 1).id;
        leader.report(running, TaskState::Failed);
        leader.settle();
        leader.pass(120_000);
    }
    leader.work();
    let attempts: Vec<u32> = leader.state.tasks_of_service(WEB).map(|task| task.attempt).collect();
    assert_eq!(attempts, [5, 6, 7, 8, 9, 10]);
}

#[test]
fn a_pending_task_is_placed_when_room_appears() {
    let mut leader = Leader::new();
    let nodes = leader.nodes(1);
    leader.service(1, goat_core::model::ServiceSpec { ports: vec![tcp(7777)], ..spec("web", 2) });
    leader.work();
    assert_eq!(leader.picture(WEB), ["1 running w1", "2 pending -"]);
    leader.assert_settled();
    leader.node(2, roomy());
    leader.work();
    assert_eq!(leader.picture(WEB), ["1 running w1", "2 running w2"]);

    leader.set_state(nodes[0], NodeState::Down);
    leader.work();
    assert_eq!(leader.picture(WEB), ["1 pending -", "2 running w2"]);
    leader.node(1, roomy());
    leader.work();
    assert_eq!(leader.picture(WEB), ["1 running w1", "2 running w2"]);
}

#[test]
fn a_retry_gets_the_first_answer_and_changes_nothing() {
    let mut leader = Leader::new();
    let request = Some(goat_core::model::RequestId::from_random(9));
    let create = |id| Command {
        now_ms: 1,
        request,
        action: Action::CreateService { id: ServiceId::from_random(id), spec: Box::new(spec("web", 1)) },
    };
    let (first, changes) = leader.command(&create(1));
    assert_eq!(changes.services, [WEB]);
    let (second, changes) = leader.command(&create(2));
    assert!(first == second && changes.is_empty());
    assert_eq!(leader.state.services().count(), 1);

    let mut reloaded = leader.reload();
    let at = goat_core::state::At { index: leader.state.applied_index() + 1, term: 2 };
    assert_eq!(reloaded.apply(at, &create(3), &mut Vec::new()).0, first, "after a restart too");
}

#[test]
fn a_name_passes_to_a_new_worker_only_from_one_that_is_down() {
    let mut leader = Leader::new();
    let old = leader.nodes(1)[0];
    let new = goat_core::model::NodeId::from_random(50);
    let register = |node, name: &str| Action::RegisterNode {
        node,
        name: name.into(),
        address: "127.0.0.1".into(),
        labels: Default::default(),
        inventory: roomy(),
        running: vec![],
    };
    assert_eq!(
        leader.refused(register(new, "w1")).to_string(),
        "a node named \"w1\" exists already with another id and is not down; give this worker another name"
    );
    leader.set_state(old, NodeState::Down);
    leader.done(register(new, "w1"));
    assert_eq!(leader.state.node_by_name("w1").map(|node| node.id), Some(new));
    assert_eq!(leader.state.node(old).map(|node| node.name.clone()), Some(old.to_string()));
    // The name that it was given instead is taken from it as well.
    leader.done(register(goat_core::model::NodeId::from_random(51), &old.to_string()));
    assert_eq!(leader.state.nodes().count(), 3);
}
