//! Services are brought back from a saved state: what is decided, and that the command does all of it or nothing.

use goat_core::model::{Desired, ServiceId, ServiceSpec, TaskId, TaskState};
use goat_core::state::State;
use goat_core::state::command::{Action, Command, Outcome, Refusal, ServiceChange};
use goat_core::undo::{Present, Undo, Wish, plan};

use crate::support::{Leader, spec};

fn present(leader: &Leader) -> Vec<Present> {
    let row = |service: &goat_core::state::Service| Present {
        id: service.id,
        spec: (*service.spec).clone(),
        removed: service.removed,
        version: service.version,
    };
    leader.state.services().map(row).collect()
}

fn planned(saved: &State, leader: &Leader, wish: &Wish) -> Undo {
    plan(saved, &present(leader), wish).expect("every name is known")
}

fn restore(leader: &mut Leader, undo: &Undo) {
    leader.done(Action::RestoreServices { changes: undo.changes() });
    leader.work();
    leader.assert_settled();
}

/// Four services that run.
fn four() -> Leader {
    let mut leader = Leader::new();
    leader.nodes(3);
    for (number, name) in (1..).zip(["a", "b", "c", "d"]) {
        leader.service(number, spec(name, 2));
    }
    leader.work();
    leader
}

fn live(leader: &Leader, number: u64) -> Vec<TaskId> {
    let tasks = leader.state.tasks_of_service(ServiceId::from_random(number));
    tasks.filter(|task| task.desired == Desired::Running && !task.state.is_terminal()).map(|task| task.id).collect()
}

fn remove(leader: &mut Leader, number: u64) {
    leader.done(Action::RemoveService { id: ServiceId::from_random(number) });
}

#[test]
fn what_was_removed_or_changed_is_again_as_it_was_and_the_rest_is_not_touched() {
    let mut leader = four();
    let saved = leader.reload();
    let untouched = live(&leader, 1);
    remove(&mut leader, 2);
    leader.work();
    leader.done(Action::ScaleService { id: ServiceId::from_random(3), replicas: 0 });
    leader.update(ServiceId::from_random(4), |spec| spec.image = "registry.example/app:2".into());
    leader.service(9, spec("new", 1));
    leader.work();

    let undo = planned(&saved, &leader, &Wish::default());
    assert_eq!(
        undo.to_string(),
        "a is untouched: it is as in the file; b comes back: it was removed; c is changed back: replicas; \
         d is changed back: image; new is untouched: it is not in the file"
    );
    restore(&mut leader, &undo);
    assert_eq!(live(&leader, 1), untouched);
    let again = planned(&saved, &leader, &Wish::default());
    assert_eq!(again.changes(), [], "{again}");
    for number in 1..=4 {
        assert_eq!(leader.state.running(ServiceId::from_random(number)), 2);
    }
    assert!(leader.state.service_by_name("new").is_some());
}

#[test]
fn exactly_as_in_the_file_means_that_later_services_go_and_names_narrow_it() {
    let mut leader = four();
    let saved = leader.reload();
    leader.service(9, spec("new", 1));
    remove(&mut leader, 1);
    leader.work();
    let only = Wish { exact: true, only: vec!["a".into(), "b".into()] };
    let undo = planned(&saved, &leader, &only);
    assert_eq!(undo.to_string(), "a comes back: it was removed; b is untouched: it is as in the file");
    restore(&mut leader, &undo);
    let all = planned(&saved, &leader, &Wish { exact: true, only: vec![] });
    assert_eq!(all.decisions.last().map(ToString::to_string).as_deref(), Some("new is removed: it is not in the file"));
    restore(&mut leader, &all);
    assert!(leader.state.service_by_name("new").is_none());
    let unknown = plan(&saved, &present(&leader), &Wish { only: vec!["nobodys".into()], ..Wish::default() });
    assert_eq!(
        unknown.expect_err("nobody has it").to_string(),
        "no service nobodys, neither in the file nor in the cluster"
    );
}

#[test]
fn a_removal_that_is_not_done_yet_ends_and_other_tasks_take_the_places() {
    let mut leader = four();
    let saved = leader.reload();
    let before = live(&leader, 1);
    remove(&mut leader, 1);
    leader.settle();
    let undo = planned(&saved, &leader, &Wish::default());
    assert!(undo.to_string().starts_with("a stays: it is being removed; "), "{undo}");
    restore(&mut leader, &undo);
    assert_eq!(leader.state.running(ServiceId::from_random(1)), 2);
    let ended = |id: &TaskId| leader.state.task(*id).is_none_or(|task| task.state == TaskState::Stopped);
    assert!(before.iter().all(ended), "they were told to stop");
}

#[test]
fn one_that_was_made_anew_under_its_name_is_changed_back() {
    let mut leader = four();
    let saved = leader.reload();
    remove(&mut leader, 1);
    leader.work();
    leader.service(7, ServiceSpec { image: "registry.example/app:9".into(), ..spec("a", 1) });
    leader.work();
    let undo = planned(&saved, &leader, &Wish::default());
    assert!(undo.to_string().starts_with("a is changed back: image, replicas; "), "{undo}");
    restore(&mut leader, &undo);
    let service = leader.state.service_by_name("a").expect("it is there");
    assert_eq!((service.id, service.spec.replicas()), (ServiceId::from_random(7), 2));
}

#[test]
fn one_that_was_seen_otherwise_is_refused_with_all_others() {
    let mut leader = four();
    let saved = leader.reload();
    remove(&mut leader, 1);
    leader.done(Action::ScaleService { id: ServiceId::from_random(2), replicas: 1 });
    leader.work();
    let undo = planned(&saved, &leader, &Wish::default());
    leader.done(Action::ScaleService { id: ServiceId::from_random(2), replicas: 3 });
    let before = leader.state.services().map(|service| service.version).collect::<Vec<_>>();
    let refusal = leader.refused(Action::RestoreServices { changes: undo.changes() });
    assert!(matches!(refusal, Refusal::Stale { .. }), "{refusal}");
    assert_eq!(leader.state.services().map(|service| service.version).collect::<Vec<_>>(), before);
    assert!(leader.state.service_by_name("a").is_none());
}

#[test]
fn a_bad_change_among_good_ones_leaves_everything_as_it_is() {
    let mut leader = four();
    let version = leader.state.service_by_name("b").expect("it is there").version;
    let change = |number, seen_version, spec: Option<ServiceSpec>| ServiceChange {
        id: ServiceId::from_random(number),
        seen_version,
        spec: spec.map(Box::new),
    };
    let good = change(2, version, Some(spec("b", 5)));
    for bad in [
        change(11, 0, Some(spec("Not A Name", 1))),
        change(11, 0, Some(spec("a", 1))),
        change(11, 0, None),
        change(2, version, None),
        change(3, leader.state.service(ServiceId::from_random(3)).expect("there").version, Some(spec("x", 1))),
    ] {
        leader.refused(Action::RestoreServices { changes: vec![good.clone(), bad.clone()] });
        assert_eq!(leader.state.service_by_name("b").expect("it is there").version, version, "{bad:?}");
    }
}

#[test]
fn a_retry_gets_the_first_answer_and_changes_nothing() {
    let mut leader = four();
    let saved = leader.reload();
    remove(&mut leader, 1);
    leader.work();
    let action = Action::RestoreServices { changes: planned(&saved, &leader, &Wish::default()).changes() };
    let request = Some(goat_core::model::RequestId::from_random(5));
    let command = Command { now_ms: leader.now_ms, request, action };
    let (first, _) = leader.command(&command);
    assert!(matches!(first, Outcome::Done(_)), "{first:?}");
    remove(&mut leader, 1);
    assert_eq!(leader.command(&command).0, first);
    assert!(leader.state.service_by_name("a").is_some_and(|service| service.removed));
}
