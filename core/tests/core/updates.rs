//! Updates of a service, and what a planner must not forget between a plan and its taking effect.

use goat_core::model::{
    Availability, Cause, Constraint, Inventory, Mode, RestartCondition, ServiceId, ServiceSpec, TaskState,
};
use goat_core::orchestrator::Policy;
use goat_core::state::command::{Action, Answer};

use crate::support::{Leader, needing, roomy, sized, spec};

const WEB: ServiceId = ServiceId::from_random(1);

#[test]
fn an_update_replaces_one_task_at_a_time_and_says_so() {
    let mut leader = Leader::new();
    leader.nodes(3);
    leader.service(1, spec("web", 3));
    leader.work();
    leader.update(WEB, |spec| spec.image = "registry.example/app:2".into());
    leader.settle();
    let leaving = leader.state.tasks().filter(|task| task.desired != goat_core::model::Desired::Running).count();
    assert_eq!(leaving, 1);
    leader.work();
    let version = leader.state.service(WEB).expect("it is there").spec_version;
    for slot in 1..=3 {
        let task = leader.newest(WEB, slot);
        let seen = (task.state, task.spec_version, task.attempt, task.cause, task.failures);
        assert_eq!(seen, (TaskState::Running, version, 2, Cause::Update, 0));
    }
    assert!(!leader.state.is_updating(WEB), "ended tasks of the old spec are history, not work");
    leader.assert_settled();
}

#[test]
fn an_update_that_does_not_run_stops_after_one_task() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, spec("web", 3));
    leader.work();
    leader.update(WEB, |spec| spec.reservations = needing(99_000, 0));
    leader.work();
    assert_eq!(leader.state.running(WEB), 2);
    leader.update(WEB, |spec| spec.reservations = needing(100, 0));
    leader.work();
    assert_eq!(leader.state.running(WEB), 3, "the next update gets through");
    leader.assert_settled();
}

#[test]
fn a_change_that_tasks_do_not_notice_restarts_none() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, spec("web", 2));
    leader.work();
    leader.update(WEB, |spec| {
        spec.mode = Mode::Replicated { replicas: 3 };
        spec.labels.insert("team".into(), "blue".into());
        spec.restart.delay_ms = 5;
    });
    leader.work();
    assert!((1..=3).all(|slot| leader.newest(WEB, slot).attempt == 1));
}

#[test]
fn an_update_revives_a_slot_that_was_given_up() {
    let mut leader = Leader::new();
    leader.nodes(1);
    let mut given_up = spec("web", 2);
    given_up.restart.condition = RestartCondition::No;
    leader.service(1, given_up);
    leader.work();
    let first = leader.newest(WEB, 1).id;
    leader.report(first, TaskState::Failed);
    leader.work();
    leader.assert_settled();
    leader.update(WEB, |spec| spec.image = "registry.example/app:2".into());
    leader.work();
    assert_eq!(leader.picture(WEB), ["1 running w1", "2 running w1"]);
    assert!((1..=2).all(|slot| leader.newest(WEB, slot).cause == Cause::Update));
    leader.assert_settled();
}

#[test]
fn a_slot_that_completes_under_the_new_spec_does_not_hold_the_update_up() {
    let mut leader = Leader::new();
    leader.nodes(1);
    let mut job = spec("job", 3);
    job.restart.condition = RestartCondition::OnFailure;
    leader.service(1, job);
    leader.work();
    leader.update(WEB, |spec| spec.image = "registry.example/app:2".into());
    leader.settle();
    let leaving = leader.newest(WEB, 1).id;
    leader.report(leaving, TaskState::Stopped);
    leader.settle();
    let updated = leader.newest(WEB, 1).id;
    leader.report(updated, TaskState::Complete);
    leader.work();
    assert_eq!(leader.picture(WEB), ["1 complete w1", "2 running w1", "3 running w1"]);
    assert!(!leader.state.is_updating(WEB));
    leader.assert_settled();
}

#[test]
fn a_relaxed_constraint_places_what_was_stuck() {
    let mut leader = Leader::new();
    leader.nodes(1);
    let mut strict = spec("web", 1);
    strict.placement.constraints = vec![Constraint { label: "zone".into(), equal: true, value: "a".into() }];
    leader.service(1, strict);
    leader.work();
    assert_eq!(leader.newest(WEB, 1).state, TaskState::Pending);
    leader.update(WEB, |spec| spec.placement.constraints.clear());
    leader.work();
    assert_eq!(leader.newest(WEB, 1).state, TaskState::Running);
}

#[test]
fn a_task_whose_assignment_came_too_late_is_placed_elsewhere() {
    let mut leader = Leader::new();
    leader.service(1, spec("web", 1));
    leader.settle();
    let node = leader.node(1, roomy());
    let plan = leader.plan();
    leader.done(Action::SetAvailability { node, availability: Availability::Drain });
    assert_eq!(leader.carry_out(plan), Answer::Counted { applied: 0, stale: 1 });
    leader.settle();
    leader.node(2, roomy());
    leader.work();
    assert_eq!(leader.picture(WEB), ["1 running w2"]);
}

#[test]
fn a_task_whose_node_filled_up_meanwhile_is_placed_when_there_is_room() {
    let mut leader = Leader::new();
    leader.service(1, ServiceSpec { reservations: needing(1_000, 0), ..spec("web", 1) });
    leader.settle();
    leader.node(1, roomy());
    let plan = leader.plan();
    leader.node(1, sized(10, 0));
    assert_eq!(leader.carry_out(plan), Answer::Counted { applied: 0, stale: 1 });
    leader.settle();
    leader.node(1, roomy());
    leader.work();
    assert_eq!(leader.picture(WEB), ["1 running w1"]);
}

#[test]
fn a_plan_never_has_more_steps_than_allowed_and_the_rest_follows() {
    let mut leader = Leader::with(Policy { max_steps: 10, ..Policy::default() });
    leader.service(1, spec("web", 95));
    leader.settle();
    assert_eq!(leader.state.pending().len(), 95);
    leader.nodes(2);
    let mut plans = 0;
    while leader.planner.has_work(leader.now_ms) {
        let plan = leader.plan();
        assert!(plan.steps.len() <= 10, "{} steps", plan.steps.len());
        leader.carry_out(plan);
        plans += 1;
        assert!(plans < 40, "it goes round in circles");
    }
    assert_eq!(leader.state.pending().len(), 0);
    leader.assert_settled();
}

#[test]
fn a_large_service_is_looked_at_over_several_plans_and_nothing_is_left_out() {
    let mut leader = Leader::with(Policy { max_looks: 7, ..Policy::default() });
    leader.service(1, spec("web", 30));
    leader.service(2, spec("db", 12));
    leader.settle();
    assert!(
        leader.state.tasks().count() == 42 && leader.state.tasks().all(|task| task.error.is_some()),
        "all are told"
    );
    leader.nodes(1);
    leader.elect();
    leader.settle();
    assert_eq!(leader.state.pending().len(), 0, "room is found by a leader that has all to look at");
    leader.work();
    leader.done(Action::ScaleService { id: WEB, replicas: 3 });
    // Both while the look at it is under way.
    let plan = leader.plan();
    leader.carry_out(plan);
    leader.done(Action::ScaleService { id: WEB, replicas: 20 });
    leader.work();
    assert_eq!(leader.state.running(WEB), 20);
    leader.done(Action::RemoveService { id: WEB });
    leader.work();
    assert_eq!((leader.state.tasks().count(), leader.state.services().count()), (12, 1));
}

#[test]
fn room_that_does_not_help_costs_one_look_a_kind_however_many_wait() {
    let mut leader = Leader::with(Policy { max_looks: 5, ..Policy::default() });
    let mut large = spec("web", 50);
    large.reservations.cpu_millis = 100_000;
    leader.service(1, large);
    leader.nodes(1);
    leader.settle();
    leader.node(1, roomy());
    let plan = leader.plan();
    assert!(plan.is_empty(), "{plan}");
    assert!(!leader.planner.has_work(leader.now_ms), "one look was enough for all fifty");
    // Another reason is told to all.
    leader.node(2, Inventory { drivers: Default::default(), ..roomy() });
    leader.settle();
    let reason = "no node fits: without the docker driver, lack CPU";
    let told = |task: &goat_core::model::Task| task.error.as_deref().is_some_and(|error| error.starts_with(reason));
    assert!(leader.state.tasks().all(told));
}

#[test]
fn removing_a_service_forgets_each_task_once() {
    let mut leader = Leader::with(Policy { max_steps: 7, ..Policy::default() });
    leader.nodes(3);
    leader.service(1, spec("web", 30));
    leader.work();
    leader.done(Action::RemoveService { id: WEB });
    leader.work();
    assert_eq!((leader.state.tasks().count(), leader.state.services().count()), (0, 0));
    leader.assert_settled();
}

#[test]
fn a_change_of_a_slot_and_of_its_service_at_once_is_planned_once() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, spec("web", 2));
    leader.work();
    let first = leader.newest(WEB, 1).id;
    leader.report(first, TaskState::Failed);
    leader.done(Action::ScaleService { id: WEB, replicas: 3 });
    let plan = leader.plan();
    assert_eq!(plan.steps.len(), 2, "{plan}");
    leader.carry_out(plan);
    leader.work();
    assert_eq!(leader.state.running(WEB), 3);
}

#[test]
fn a_task_that_its_node_refused_is_tried_again_whatever_the_policy() {
    let mut leader = Leader::new();
    leader.nodes(1);
    let mut once = spec("job", 1);
    once.restart.condition = RestartCondition::No;
    leader.service(1, once);
    leader.settle();
    for failures in 1..=3 {
        let task = leader.newest(WEB, 1).id;
        leader.report(task, TaskState::Rejected);
        leader.settle();
        let next = leader.newest(WEB, 1);
        assert_eq!((next.attempt, next.failures), (failures + 1, failures), "and waits in between");
        leader.now_ms = leader.now_ms.max(next.not_before_ms);
        leader.settle();
    }
    leader.work();
    assert_eq!(leader.picture(WEB), ["1 running w1"]);
}

#[test]
fn a_history_of_nothing_does_not_run_a_finished_job_again() {
    let mut leader = Leader::with(Policy { history_per_slot: 0, ..Policy::default() });
    leader.nodes(1);
    let mut once = spec("job", 1);
    once.restart.condition = RestartCondition::No;
    leader.service(1, once);
    leader.work();
    let task = leader.newest(WEB, 1).id;
    leader.report(task, TaskState::Complete);
    leader.work();
    assert_eq!((leader.newest(WEB, 1).id, leader.newest(WEB, 1).state), (task, TaskState::Complete));
}
