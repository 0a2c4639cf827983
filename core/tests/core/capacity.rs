//! How many tasks a cluster can hold, and which changes are refused.

use goat_core::capacity::{MAX_TASKS_WITHOUT_NODES, capacity, check};
use goat_core::model::{Inventory, MAX_NODE_TASKS, NodeState, Resources, ServiceId, default_task_limit};
use goat_core::state::command::Action;

use crate::support::{GIB, Leader, roomy, sized, spec};

const WEB: ServiceId = ServiceId::from_random(1);
const OTHER: ServiceId = ServiceId::from_random(2);

fn refused(leader: &Leader, id: ServiceId, replicas: u32) -> String {
    check(&leader.state, &[(id, replicas)]).expect_err("too many").to_string()
}

#[test]
fn a_nodes_default_follows_its_cpus_and_its_memory() {
    let limit = |cpu_millis, memory_bytes| default_task_limit(Resources { cpu_millis, memory_bytes, disk_bytes: 0 });
    assert_eq!(limit(2_000, 8 * GIB), 250);
    assert_eq!(limit(2_000, GIB), 64);
    assert_eq!(limit(100, 0), 16);
    assert_eq!(limit(u64::MAX, u64::MAX), MAX_NODE_TASKS);
    assert_eq!(Inventory { max_tasks: 7, ..roomy() }.task_limit(), 7);
    assert_eq!(Inventory { max_tasks: u32::MAX, ..roomy() }.task_limit(), MAX_NODE_TASKS);
    assert_eq!(sized(2_000, 8 * GIB).task_limit(), 250, "of a worker that does not say");
}

#[test]
fn a_change_that_is_too_much_is_refused_with_the_figures() {
    let mut leader = Leader::new();
    for number in 1..=3 {
        leader.node(number, sized(2_000, 8 * GIB));
    }
    leader.service(2, spec("other", 3));
    assert_eq!(
        refused(&leader, WEB, 100_000),
        "replicas: 100000 would make 100003 tasks, more than the 750 that the 3 nodes of this cluster can hold; add \
         workers, raise max_tasks on them, or ask for at most 747"
    );
    assert_eq!(check(&leader.state, &[(WEB, 747)]), Ok(()));
    refused(&leader, WEB, 748);
    // Both together are too many.
    let both = check(&leader.state, &[(WEB, 400), (OTHER, 400)]).expect_err("too many");
    assert_eq!((both.total, both.left), (800, 350));
    let removed = [(WEB, 750), (OTHER, 0)];
    assert_eq!(check(&leader.state, &removed), Ok(()));
}

#[test]
fn a_change_that_asks_for_no_more_is_accepted_though_there_are_too_many() {
    let mut leader = Leader::new();
    leader.service(1, spec("web", 500));
    leader.node(1, Inventory { max_tasks: 100, ..roomy() });
    for replicas in [500, 499, 0] {
        assert_eq!(check(&leader.state, &[(WEB, replicas)]), Ok(()));
    }
    let text = refused(&leader, WEB, 501);
    assert!(text.contains("more than the 100 that the only node of this cluster can hold"), "{text}");
    assert!(text.ends_with("at most 500"), "{text}");
}

#[test]
fn services_can_be_made_before_there_are_workers() {
    let leader = Leader::new();
    let most = u32::try_from(MAX_TASKS_WITHOUT_NODES).expect("it is small");
    assert_eq!(check(&leader.state, &[(WEB, most)]), Ok(()));
    let text = refused(&leader, WEB, most + 1);
    assert!(text.contains("that a cluster without workers accepts; add workers, or ask for at most"), "{text}");
}

#[test]
fn silent_nodes_count_and_those_given_up_only_if_there_is_no_other() {
    let mut leader = Leader::new();
    let nodes = leader.nodes(3);
    let each = u64::from(roomy().task_limit());
    let of = |leader: &Leader| (capacity(&leader.state).nodes, capacity(&leader.state).tasks / each);
    leader.set_state(nodes[0], NodeState::Disconnected);
    assert_eq!(of(&leader), (3, 3));
    leader.set_state(nodes[0], NodeState::Down);
    assert_eq!(of(&leader), (2, 2));
    for node in &nodes[1..] {
        leader.set_state(*node, NodeState::Down);
    }
    assert_eq!(of(&leader), (3, 3));
    leader.done(Action::RemoveNode { node: nodes[0] });
    assert_eq!(of(&leader), (2, 2));
}
