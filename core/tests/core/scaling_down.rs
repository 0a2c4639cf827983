//! Which tasks go when the count of a service is lowered: first what does not run, then what is on the fullest node.

use std::collections::{BTreeMap, BTreeSet};

use goat_core::model::{Availability, Cause, Desired, NodeId, ServiceId, TaskId, TaskState};
use goat_core::orchestrator::Policy;
use goat_core::state::command::{Action, Step};
use proptest::prelude::*;

use crate::support::{GIB, Leader, Random, needing, sized, spec};

const WEB: ServiceId = ServiceId::from_random(1);

fn scale(leader: &mut Leader, replicas: u32) {
    leader.done(Action::ScaleService { id: WEB, replicas });
}

fn drain(leader: &mut Leader, node: NodeId) {
    leader.done(Action::SetAvailability { node, availability: Availability::Drain });
}

/// Three tasks, one a node; the node of the first drains, so that it is pending.
fn one_of_three_is_pending() -> Leader {
    let mut leader = Leader::new();
    leader.nodes(3);
    let mut web = spec("web", 3);
    web.placement.max_per_node = 1;
    leader.service(1, web);
    leader.work();
    let first = leader.newest(WEB, 1).node.expect("it runs");
    drain(&mut leader, first);
    leader.work();
    assert_eq!(leader.newest(WEB, 1).state, TaskState::Pending);
    leader
}

#[test]
fn a_pending_task_goes_before_those_that_run_and_its_slot_stays_empty() {
    let mut leader = one_of_three_is_pending();
    let running: Vec<TaskId> = [2, 3].map(|slot| leader.newest(WEB, slot).id).into();
    scale(&mut leader, 2);
    leader.work();
    leader.assert_settled();
    let left: Vec<_> = leader.state.slots(WEB).map(|(slot, _)| slot).collect();
    assert_eq!(left, [2, 3], "{:?}", leader.picture(WEB));
    for id in running {
        let task = leader.state.task(id).expect("it is there");
        assert_eq!((task.state, task.desired), (TaskState::Running, Desired::Running));
    }
}

#[test]
fn a_task_above_the_count_that_ends_is_followed_by_one_below() {
    let mut leader = one_of_three_is_pending();
    scale(&mut leader, 2);
    leader.work();
    let above = leader.newest(WEB, 3).id;
    leader.report(above, TaskState::Failed);
    leader.work();
    leader.assert_settled();
    let slots: Vec<_> = leader.state.slots(WEB).map(|(slot, _)| slot).collect();
    assert_eq!((slots, leader.state.running(WEB)), (vec![1, 2], 2));
    assert_eq!(leader.newest(WEB, 1).attempt, 1);
}

#[test]
fn raising_the_count_again_fills_what_is_empty_and_restarts_nothing() {
    let mut leader = one_of_three_is_pending();
    let running: Vec<TaskId> = [2, 3].map(|slot| leader.newest(WEB, slot).id).into();
    scale(&mut leader, 2);
    leader.work();
    leader.nodes(4);
    scale(&mut leader, 3);
    leader.work();
    leader.assert_settled();
    assert_eq!(leader.state.running(WEB), 3);
    assert_eq!([2, 3].map(|slot| leader.newest(WEB, slot).id).to_vec(), running);
}

#[test]
fn a_new_leader_selects_the_same() {
    let mut leader = one_of_three_is_pending();
    scale(&mut leader, 2);
    leader.elect();
    leader.work();
    leader.elect();
    leader.work();
    leader.assert_settled();
    assert_eq!(leader.state.slots(WEB).map(|(slot, _)| slot).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn an_update_replaces_what_stands_in_and_ends_in_the_slots_of_the_count() {
    let mut leader = one_of_three_is_pending();
    scale(&mut leader, 2);
    leader.work();
    leader.update(WEB, |spec| spec.image = "registry.example/app:2".into());
    leader.work();
    leader.assert_settled();
    assert!(!leader.state.is_updating(WEB));
    assert_eq!(leader.state.slots(WEB).map(|(slot, _)| slot).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(leader.state.running(WEB), 2);
}

#[test]
fn a_gentle_drain_waits_for_no_slot_that_stays_empty() {
    let mut leader = one_of_three_is_pending();
    scale(&mut leader, 2);
    leader.work();
    leader.nodes(5);
    let node = leader.newest(WEB, 3).node.expect("it runs");
    leader.done(Action::DrainNode { node, within_ms: 60_000 });
    leader.work();
    leader.assert_settled();
    assert!(leader.nodes_of(WEB).iter().all(|used| *used != node), "{:?}", leader.picture(WEB));
    assert_eq!(leader.state.running(WEB), 2);
}

#[test]
fn the_fullest_node_is_relieved_first() {
    let mut leader = Leader::new();
    // Four of five fit on the first, one on the second.
    leader.node(1, sized(4_000, 4 * GIB));
    let mut web = spec("web", 4);
    web.reservations = needing(1_000, 0);
    leader.service(1, web);
    leader.work();
    leader.node(2, sized(4_000, 4 * GIB));
    scale(&mut leader, 5);
    leader.work();
    let second = NodeId::from_random(2);
    assert_eq!(leader.newest(WEB, 5).node, Some(second), "{:?}", leader.picture(WEB));
    scale(&mut leader, 2);
    leader.work();
    leader.assert_settled();
    assert_eq!(leader.nodes_of(WEB).len(), 2, "one is left on each: {:?}", leader.picture(WEB));
}

#[test]
fn a_job_that_is_done_is_not_run_again_in_another_slot() {
    let mut leader = Leader::new();
    leader.nodes(3);
    let mut job = spec("web", 3);
    job.restart.condition = goat_core::model::RestartCondition::No;
    leader.service(1, job);
    leader.work();
    let first = leader.newest(WEB, 1).id;
    leader.report(first, TaskState::Failed);
    scale(&mut leader, 2);
    leader.work();
    assert_eq!(leader.state.slots(WEB).map(|(slot, _)| slot).collect::<Vec<_>>(), [2, 3], "{:?}", leader.picture(WEB));
    for slot in [2, 3] {
        let id = leader.newest(WEB, slot).id;
        leader.report(id, TaskState::Complete);
    }
    leader.work();
    leader.assert_settled();
    assert_eq!(
        leader.picture(WEB).iter().filter(|line| line.contains("complete")).count(),
        2,
        "{:?}",
        leader.picture(WEB)
    );
}

/// Tasks in all kinds of states: nothing is dropped that is worth more than what is kept.
fn random_world(seed: u64) -> (Leader, u32) {
    let mut random = Random(seed);
    let mut leader = Leader::with(Policy { max_steps: 1 + random.below(40) as usize, ..Policy::default() });
    let nodes = leader.nodes(1 + random.below(4));
    let replicas = 1 + random.below(12) as u32;
    let mut web = spec("web", replicas);
    web.placement.max_per_node = random.below(5) as u32;
    leader.service(1, web);
    leader.settle();
    let assigned: Vec<TaskId> = leader.state.tasks().filter(|task| task.node.is_some()).map(|task| task.id).collect();
    for id in assigned {
        let states: &[TaskState] = match random.below(6) {
            0 => &[],
            1 => &[TaskState::Starting],
            2 => &[TaskState::Running, TaskState::Failed],
            _ => &[TaskState::Running],
        };
        for state in states {
            leader.report(id, *state);
        }
    }
    if random.once_in(3) {
        drain(&mut leader, nodes[random.below(nodes.len() as u64) as usize]);
    }
    leader.settle();
    let restarted: Vec<TaskId> = leader
        .state
        .tasks()
        .filter(|task| task.state == TaskState::Assigned && task.attempt > 1)
        .map(|task| task.id)
        .collect();
    for id in restarted.into_iter().filter(|_| random.once_in(2)) {
        leader.report(id, TaskState::Running);
    }
    leader.settle();
    let count = random.below(u64::from(replicas) + 1) as u32;
    (leader, count)
}

/// Steps until nothing is left to plan; the tasks that they drop because of the count.
fn dropped(leader: &mut Leader) -> BTreeSet<TaskId> {
    let mut dropped = BTreeSet::new();
    for _ in 0..200 {
        if !leader.planner.has_work(leader.now_ms) {
            return dropped;
        }
        let plan = leader.plan();
        for step in &plan.steps {
            if let Step::Desire { task, desired: Desired::Removed, cause, .. } = step {
                assert_eq!(*cause, Cause::Scale);
                dropped.insert(*task);
            }
        }
        leader.carry_out(plan);
    }
    panic!("still planning");
}

/// Whether no node that lost a task is left with less than one below another node's count.
fn is_relieved_evenly(stable: &BTreeMap<TaskId, NodeId>, lost: &BTreeSet<TaskId>) -> bool {
    let mut kept: BTreeMap<NodeId, usize> = stable.values().map(|node| (*node, 0)).collect();
    for (id, node) in stable {
        *kept.entry(*node).or_default() += usize::from(!lost.contains(id));
    }
    lost.iter().all(|id| kept.values().all(|other| *other <= kept[&stable[id]] + 1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_runs_is_kept_and_the_fullest_node_is_relieved(seed in any::<u64>()) {
        let (mut leader, count) = random_world(seed);
        let stable: BTreeMap<TaskId, NodeId> = leader
            .state
            .tasks()
            .filter(|task| task.state == TaskState::Running && task.desired == Desired::Running && task.failures == 0)
            .filter_map(|task| Some((task.id, task.node?)))
            .collect();
        scale(&mut leader, count);
        let dropped = dropped(&mut leader);
        let lost: BTreeSet<TaskId> = stable.keys().filter(|id| dropped.contains(id)).copied().collect();
        prop_assert_eq!(lost.len(), stable.len().saturating_sub(count as usize), "of {:?}", stable);

        prop_assert!(is_relieved_evenly(&stable, &lost), "{:?} of {:?}", lost, stable);

        // A second look changes nothing, and in the end so many run as can.
        leader.assert_settled();
        leader.pass(3_600_000);
        leader.work();
        leader.assert_settled();
        let slots = leader.state.slots(WEB).count();
        prop_assert_eq!(slots, count as usize);
        let pending = leader.state.pending_in(..).count();
        prop_assert_eq!(leader.state.running(WEB) as usize + pending, count as usize);

        // Each task that runs may end: what follows it is in a slot of the count.
        let live: Vec<TaskId> = leader.state.tasks_of_service(WEB)
            .filter(|task| task.state == TaskState::Running).map(|task| task.id).collect();
        for id in live {
            leader.report(id, TaskState::Failed);
            leader.settle();
        }
        leader.pass(3_600_000);
        leader.work();
        leader.assert_settled();
        let slots: Vec<u32> = leader.state.slots(WEB).map(|(slot, _)| slot).collect();
        prop_assert_eq!(slots, (1..=count).collect::<Vec<_>>());
    }
}
