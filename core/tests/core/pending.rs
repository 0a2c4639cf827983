//! Why tasks wait, counted, as against what the planner says of each.

use std::collections::BTreeMap;

use goat_core::model::{Mode, NodeState, TaskState};
use goat_core::scheduler::pending::{BACKOFF, DUE, NO_NODE, OTHER};
use goat_core::scheduler::{describe, explain, pending_by_reason};
use goat_core::state::command::{Action, Step};

use crate::support::{GIB, Leader, needing, spec, tcp};

const MANY: usize = 100;

fn counted(leader: &Leader, most_specs: usize) -> Vec<(&'static str, usize)> {
    pending_by_reason(&leader.state, leader.now_ms, most_specs).into_iter().collect()
}

#[test]
fn tasks_wait_for_the_filter_that_refuses_most_nodes() {
    let mut leader = Leader::new();
    leader.service(1, spec("web", 2));
    leader.settle();
    assert_eq!(counted(&leader, MANY), [(NO_NODE, 2)]);
    let nodes = leader.nodes(3);
    assert_eq!(counted(&leader, MANY), [(DUE, 2)], "not planned yet");
    leader.work();
    assert_eq!(counted(&leader, MANY), []);
    let mut large = spec("large", 3);
    large.reservations = needing(100, 64 * GIB);
    leader.service(2, large);
    let mut fixed = spec("fixed", 5);
    fixed.ports = vec![tcp(8_080)];
    leader.service(3, fixed);
    leader.work();
    assert_eq!(counted(&leader, MANY), [("memory", 3), ("port", 2)]);
    assert_eq!(counted(&leader, 1), [("memory", 3), (OTHER, 2)]);
    leader.set_state(nodes[0], NodeState::Disconnected);
    leader.set_state(nodes[1], NodeState::Disconnected);
    leader.settle();
    assert_eq!(counted(&leader, MANY), [("ready", 5)]);
}

/// What is said of one that waits stays true when others take what was left.
#[test]
fn the_reason_follows_what_others_take() {
    let mut leader = Leader::new();
    leader.nodes(1);
    let mut first = spec("first", 1);
    first.ports = vec![tcp(80)];
    leader.service(1, first);
    let mut waits = spec("waits", 2);
    (waits.ports, waits.reservations) = (vec![tcp(80)], needing(3_000, 0));
    let waits = leader.service(2, waits);
    leader.work();
    let told = |leader: &Leader| leader.newest(waits, 1).error.clone().unwrap_or_default();
    assert!(told(&leader).contains("port 80"), "{}", told(&leader));
    let mut takes = spec("takes", 1);
    takes.reservations = needing(2_000, 0);
    leader.service(3, takes);
    leader.work();
    assert!(told(&leader).contains("lack CPU"), "{}", told(&leader));
    leader.assert_settled();
}

/// Every placement changes how many nodes refuse a task. That alone rewrites no row: of 100,000 pending tasks it was 200
/// commands each time.
#[test]
fn a_placement_elsewhere_rewrites_no_reason() {
    let mut leader = Leader::new();
    leader.nodes(3);
    let mut first = spec("first", 3);
    first.ports = vec![tcp(80)];
    leader.service(1, first);
    let mut waits = spec("waits", 50);
    (waits.ports, waits.reservations) = (vec![tcp(80)], needing(3_000, 0));
    let waits = leader.service(2, waits);
    leader.work();
    let versions = |leader: &Leader| (1..=50).map(|slot| leader.newest(waits, slot).version).collect::<Vec<_>>();
    let mut takes = spec("takes", 1);
    takes.reservations = needing(2_000, 0);
    let takes = leader.service(3, takes);
    leader.work();
    let counts = |leader: &Leader| describe(&explain(&leader.state, leader.newest(waits, 1).id));
    assert!(counts(&leader).starts_with("no node fits: 1 lack CPU"), "{}", counts(&leader));
    let before = versions(&leader);
    leader.update(takes, |spec| spec.mode = Mode::Replicated { replicas: 2 });
    leader.work();
    assert!(counts(&leader).starts_with("no node fits: 2 lack CPU"), "{}", counts(&leader));
    assert_eq!(versions(&leader), before);
    leader.assert_settled();
}

/// What an earlier leader planned may be applied after its successor has begun with an older state.
#[test]
fn what_an_earlier_leader_said_last_is_set_right() {
    let mut leader = Leader::new();
    leader.nodes(1);
    let mut waits = spec("waits", 3);
    waits.ports = vec![tcp(80)];
    let waits = leader.service(1, waits);
    leader.work();
    let why = |leader: &Leader| [2, 3].map(|slot| leader.newest(waits, slot).error.clone().unwrap_or_default());
    let told = why(&leader);
    assert!(told[0].contains("port 80"), "{told:?}");
    let explain = |slot| {
        let task = leader.newest(waits, slot);
        Step::Explain { task: task.id, seen_version: task.version, error: "no node fits: 1 not ready".to_owned() }
    };
    leader.done(Action::Plan { steps: [2, 3].map(explain).into() });
    assert_ne!(why(&leader), told);
    leader.work();
    assert_eq!(why(&leader), told);
    leader.assert_settled();
}

#[test]
fn a_task_between_restarts_waits_for_its_time() {
    let mut leader = Leader::new();
    leader.nodes(1);
    let web = leader.service(1, spec("web", 1));
    // The first restart comes at once.
    for _ in 0..2 {
        leader.work();
        leader.report(leader.newest(web, 1).id, TaskState::Failed);
        leader.settle();
    }
    assert_eq!(counted(&leader, MANY), [(BACKOFF, 1)]);
}

#[test]
fn states_are_counted_as_the_rows_have_them() {
    let mut leader = Leader::new();
    leader.nodes(2);
    let web = leader.service(1, spec("web", 3));
    for _ in 0..2 {
        leader.work();
        leader.report(leader.newest(web, 1).id, TaskState::Failed);
        leader.settle();
    }
    let expected = BTreeMap::from([(TaskState::Pending, 1), (TaskState::Running, 2), (TaskState::Failed, 2)]);
    assert_eq!(*leader.state.tasks_by_state(), expected);
    assert_eq!(*leader.reload().tasks_by_state(), expected, "made again from the rows");
    leader.done(Action::RemoveService { id: web });
    leader.work();
    assert_eq!(*leader.state.tasks_by_state(), BTreeMap::new());
}
