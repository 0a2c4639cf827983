//! What follows a failure that was not the task's own: of its node, of the registry, or of the image's name.

use goat_core::model::{ImageInfo, Inventory, NodeId, RestartCondition, RestartPolicy, ServiceId, Task, TaskState};
use goat_core::orchestrator::{Decision, decide};
use goat_core::state::command::{Action, TaskReport};

use crate::support::{GIB, Leader, report_of, roomy, spec};

const IMAGE: &str = "registry.example/app:1";

/// The slot's newest task fails for `reason`; the task that follows it, and how long it waits.
fn fail(leader: &mut Leader, service: ServiceId, reason: &str) -> (Task, u64) {
    let task = leader.newest(service, 1).clone();
    let report = report_of(task.id, TaskState::Failed, leader.now_ms);
    let reports = vec![TaskReport { reason: Some(reason.into()), ..report }];
    leader.done(Action::ReportTasks { node: task.node.expect("it has one"), reports });
    leader.settle();
    let next = leader.newest(service, 1).clone();
    let wait_ms = next.not_before_ms.saturating_sub(leader.now_ms);
    (next, wait_ms)
}

/// Until the wait is over and the task has its node.
fn placed(leader: &mut Leader, service: ServiceId, wait_ms: u64) -> NodeId {
    leader.pass(wait_ms);
    leader.settle();
    leader.newest(service, 1).node.expect("it was placed")
}

fn condition(leader: &mut Leader, node: NodeId, conditions: &[&str]) {
    let conditions = conditions.iter().map(|word| (*word).to_owned()).collect();
    leader.done(Action::UpdateInventory { node, inventory: Inventory { conditions, ..roomy() } });
    leader.settle();
}

fn one_instance(nodes: u64) -> (Leader, ServiceId) {
    let mut leader = Leader::new();
    leader.nodes(nodes);
    let service = leader.service(1, spec("web", 1));
    leader.settle();
    (leader, service)
}

#[test]
fn a_full_disk_and_a_dead_runtime_move_the_task_at_once_even_where_it_must_not_be_restarted() {
    for reason in ["disk-full", "runtime-down"] {
        let mut leader = Leader::new();
        leader.nodes(3);
        let restart = RestartPolicy { condition: RestartCondition::No, ..RestartPolicy::default() };
        let service = leader.service(1, goat_core::model::ServiceSpec { restart, ..spec("web", 1) });
        leader.settle();
        let before = leader.newest(service, 1).node;
        let (next, wait_ms) = fail(&mut leader, service, reason);
        assert_eq!((wait_ms, next.attempt), (0, 2), "{reason}");
        assert!(next.node.is_some() && next.node != before, "{reason}: it stayed");
    }
}

#[test]
fn nothing_is_placed_under_disk_pressure_until_it_is_over() {
    let (mut leader, service) = one_instance(1);
    let node = leader.newest(service, 1).node.expect("placed");
    condition(&mut leader, node, &["disk-pressure"]);
    let (next, _) = fail(&mut leader, service, "disk-full");
    assert_eq!((next.state, next.node), (TaskState::Pending, None));
    let error = next.error.expect("it says why");
    assert!(error.contains("with a problem of its own"), "{error}");
    condition(&mut leader, node, &[]);
    assert_eq!(leader.newest(service, 1).node, Some(node));
}

#[test]
fn a_node_whose_runtime_is_down_keeps_what_it_has_and_gets_nothing_new() {
    let (mut leader, service) = one_instance(2);
    leader.work();
    let node = leader.newest(service, 1).node.expect("placed");
    condition(&mut leader, node, &["runtime-down"]);
    assert_eq!((leader.newest(service, 1).attempt, leader.newest(service, 1).state), (1, TaskState::Running));
    let other = leader.service(2, spec("api", 4));
    leader.settle();
    assert!(!leader.nodes_of(other).contains(&node));
}

#[test]
fn an_unreachable_registry_is_asked_again_from_elsewhere_after_a_wait() {
    let (mut leader, service) = one_instance(2);
    let mut before = leader.newest(service, 1).node.expect("placed");
    for middle_ms in [1_000_u64, 2_000, 4_000] {
        let (_, wait_ms) = fail(&mut leader, service, "registry-unreachable");
        assert!(wait_ms.abs_diff(middle_ms) <= middle_ms / 10, "{wait_ms} instead of {middle_ms}");
        let node = placed(&mut leader, service, wait_ms);
        assert_ne!(node, before);
        before = node;
    }
}

#[test]
fn an_image_of_another_platform_is_tried_on_another_node() {
    let (mut leader, service) = one_instance(2);
    let before = leader.newest(service, 1).node.expect("placed");
    let (_, wait_ms) = fail(&mut leader, service, "wrong-platform");
    assert_ne!(placed(&mut leader, service, wait_ms), before);
}

#[test]
fn an_image_that_is_not_there_is_not_asked_for_over_and_over() {
    for reason in ["image-not-found", "pull-denied"] {
        let (mut leader, service) = one_instance(3);
        let (mut asked, begun_ms) = (1, leader.now_ms);
        while leader.now_ms < begun_ms + 3_600_000 {
            let (_, wait_ms) = fail(&mut leader, service, reason);
            assert!(wait_ms >= 27_000, "{reason}: {wait_ms}");
            placed(&mut leader, service, wait_ms);
            asked += 1;
        }
        assert!((8..=12).contains(&asked), "{reason}: {asked} times within an hour");
        leader.update(service, |spec| spec.image = "registry.example/app:2".into());
        leader.settle();
        leader.work();
        assert_eq!(leader.newest(service, 1).state, TaskState::Running, "a new spec does not wait for the old one");
    }
}

#[test]
fn a_wrong_name_is_the_services_own_fault_and_its_policy_holds() {
    let (mut leader, service) = one_instance(1);
    fail(&mut leader, service, "image-not-found");
    let history: Vec<&Task> = leader.state.tasks_of_service(service).collect();
    let failed = history.iter().find(|task| task.state == TaskState::Failed).expect("it is kept");
    let once = RestartPolicy { condition: RestartCondition::No, ..RestartPolicy::default() };
    assert_eq!(decide(&once, failed, 0), Decision::Rest);
    let unreachable = Task { reason: Some("registry-unreachable".into()), ..(*failed).clone() };
    assert_ne!(decide(&once, &unreachable, 0), Decision::Rest);
}

#[test]
fn an_image_counts_where_it_is_absent_by_tag_and_by_digest() {
    let digest = format!("registry.example/app@sha256:{}", "0".repeat(64));
    for (asked, listed) in [
        (IMAGE.to_owned(), IMAGE.to_owned()),
        (digest.clone(), digest.clone()),
        (digest.replace('@', ":1@"), digest.clone()),
        ("localhost:5000/app".to_owned(), "localhost:5000/app:latest".to_owned()),
    ] {
        let mut leader = Leader::new();
        let image = ImageInfo { reference: listed, size_bytes: 2 * GIB };
        let present = leader.node(1, Inventory { images: vec![image], disk_free_bytes: GIB, ..roomy() });
        leader.node(2, Inventory { disk_free_bytes: GIB, ..roomy() });
        let service = leader.service(1, goat_core::model::ServiceSpec { image: asked.clone(), ..spec("web", 3) });
        leader.settle();
        assert_eq!(leader.nodes_of(service), [present].into(), "{asked}: 2 GiB do not fit into 1");
    }
}
