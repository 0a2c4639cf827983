//! Rows of a saved snapshot are put in the place of managers that are lost, while workers run on: what they run and the
//! rows do not know, what the rows think and is not so, and that nothing leased ever runs twice.

use std::collections::{BTreeMap, BTreeSet};

use goat_core::model::{
    Desired, NodeId, NodeState, OnDisconnect, RestartCondition, RestartPolicy, ServiceId, ServiceSpec, Standing, Task,
    TaskId, TaskState,
};
use goat_core::state::State;
use goat_core::state::command::{Action, KnownTask, Origin, Refusal};

use crate::support::{Leader, Random, report_of, roomy, spec};

const WEB: ServiceId = ServiceId::from_random(1);
const LEAP: u64 = 1_000_000;
/// The first that three managers have not used, nor may have used unseen.
const NEXT: u64 = 103;

fn refound(id: u64) -> Action {
    Action::Refound { id, name: "m1".into(), address: "host:1".into(), leap: LEAP }
}

/// As it was when it was saved, with a new manager over it.
fn restored(saved: &Saved) -> Leader {
    let mut leader = Leader::over(&saved.rows, saved.index, saved.now_ms + 60_000);
    leader.done(refound(leader.state.first_free_manager()));
    leader
}

struct Saved {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    index: u64,
    now_ms: u64,
}

fn save(leader: &Leader) -> Saved {
    Saved { rows: leader.rows.clone(), index: leader.state.applied_index(), now_ms: leader.now_ms }
}

/// A cluster of three managers and so many nodes.
fn cluster(nodes: u64) -> Leader {
    let mut leader = Leader::new();
    for name in ["m1", "m2", "m3"] {
        leader.done(Action::AddManager { name: name.into(), address: format!("{name}:1") });
    }
    leader.nodes(nodes);
    leader
}

fn stopping(name: &str, replicas: u32) -> ServiceSpec {
    let restart = RestartPolicy { condition: RestartCondition::Always, delay_ms: 0, ..RestartPolicy::default() };
    ServiceSpec { on_disconnect: Some(OnDisconnect::Stop), restart, ..spec(name, replicas) }
}

fn known(task: &Task) -> KnownTask {
    KnownTask {
        task: task.id,
        origin: Some(Origin {
            service: task.service,
            slot: task.slot,
            attempt: task.attempt,
            spec_version: task.spec_version,
            fencing_token: task.fencing_token,
        }),
        state: if task.state == TaskState::Lost { TaskState::Running } else { task.state },
        container_id: None,
        at_ms: 1,
    }
}

/// All that a node knows by what its lost managers knew.
fn all_of(truth: &Leader, node: NodeId) -> Vec<KnownTask> {
    truth.state.tasks_of_node(node).filter(|task| task.state > TaskState::Pending).map(known).collect()
}

/// The node's session begins: hello, reports, stock.
fn returns(leader: &mut Leader, node: NodeId, known: Vec<KnownTask>) {
    let number = node.bits();
    let running = known.iter().filter(|task| task.state == TaskState::Running).map(|task| task.task).collect();
    leader.node_with(number, roomy(), running);
    let reports = known.iter().map(|task| report_of(task.task, task.state, leader.now_ms)).collect();
    leader.done(Action::ReportTasks { node, reports });
    leader.done(Action::TakeStock { node, known });
    leader.settle();
}

fn settle(leader: &mut Leader) {
    let seen_version = leader.state.restored().expect("it is restored").version;
    leader.done(Action::SettleRestore { seen_version });
    leader.work();
    leader.assert_settled();
}

const fn node(number: u64) -> NodeId {
    NodeId::from_random(number)
}

/// Live tasks of a service that are wanted, by slot.
fn wanted(leader: &Leader, service: ServiceId) -> Vec<(u32, TaskId)> {
    let live = |task: &&Task| !task.state.is_terminal() && task.desired == Desired::Running;
    leader.state.tasks_of_service(service).filter(live).map(|task| (task.slot, task.id)).collect()
}

#[test]
fn a_new_manager_goes_on_above_everything_and_the_lost_ones_are_strangers() {
    let leader = cluster(1);
    let (saved, before) = (save(&leader), leader.state.newest_version());
    let mut new = Leader::over(&saved.rows, saved.index, saved.now_ms);
    assert_eq!(new.state.first_free_manager(), NEXT);
    for used in [1, 3, NEXT - 1] {
        assert!(matches!(new.refused(refound(used)), Refusal::Impossible { .. }), "{used}");
    }
    new.done(refound(500));
    assert!(new.state.newest_version() > before + LEAP);
    let members: Vec<u64> = new.state.managers().filter(|manager| manager.is_member()).map(|own| own.id).collect();
    assert_eq!(members, [500]);
    assert!([1, 2, 3, 4, 102, 499].into_iter().all(|lost| new.state.is_removed_manager(lost)));
    new.done(Action::AddManager { name: "m2".into(), address: "m2:1".into() });
    assert_eq!(new.state.manager(501).map(|manager| manager.standing), Some(Standing::Voter));
    assert_eq!(new.reload().hash(), new.state.hash());
}

#[test]
fn what_runs_as_it_was_saved_runs_on_and_nothing_begins_before_it_is_settled() {
    let mut truth = cluster(2);
    truth.service(1, spec("web", 4));
    truth.work();
    let mut new = restored(&save(&truth));
    let before = wanted(&new, WEB);
    new.service(2, spec("later", 2));
    new.settle();
    for number in [1, 2] {
        let all = all_of(&truth, node(number));
        returns(&mut new, node(number), all);
        assert_eq!(wanted(&new, WEB), before, "node {number}");
    }
    let waiting = new.newest(ServiceId::from_random(2), 1);
    assert_eq!(waiting.state, TaskState::Pending);
    assert!(waiting.error.as_ref().is_some_and(|text| text.contains("every worker")), "{:?}", waiting.error);
    settle(&mut new);
    assert_eq!(wanted(&new, WEB), before);
    assert_eq!(new.state.running(ServiceId::from_random(2)), 2);
    assert!(matches!(new.refused(Action::SettleRestore { seen_version: 1 }), Refusal::Impossible { .. }));
}

#[test]
fn a_task_that_the_rows_do_not_know_is_taken_in_whoever_speaks_first() {
    let mut truth = cluster(2);
    truth.service(1, stopping("web", 1));
    truth.work();
    let saved = save(&truth);
    let old = truth.newest(WEB, 1).clone();
    let old_node = old.node.expect("it has one");
    truth.done(Action::SetAvailability { node: old_node, availability: goat_core::model::Availability::Drain });
    truth.work();
    let moved = truth.newest(WEB, 1).clone();
    let new_node = moved.node.expect("it has one");
    assert_ne!((moved.id, new_node), (old.id, old_node));

    for order in [[old_node, new_node], [new_node, old_node]] {
        let mut new = restored(&saved);
        new.settle();
        for node in order {
            let all = all_of(&truth, node);
            returns(&mut new, node, all);
        }
        assert_eq!(wanted(&new, WEB), [(1, moved.id)], "{order:?}");
        settle(&mut new);
        assert_eq!(wanted(&new, WEB), [(1, moved.id)], "{order:?}");
        let row = new.state.task(moved.id).expect("it is taken in");
        assert_eq!((row.fencing_token, row.node), (moved.fencing_token, Some(new_node)));
        // What follows it is above it.
        new.report(moved.id, TaskState::Failed);
        new.work();
        assert!(new.newest(WEB, 1).fencing_token > moved.fencing_token + LEAP);
    }
}

#[test]
fn one_of_another_spec_ends_before_its_slot_is_given_away() {
    let mut truth = cluster(1);
    truth.service(1, stopping("web", 1));
    truth.work();
    let saved = save(&truth);
    truth.update(WEB, |spec| spec.image = "registry.example/app:2".into());
    truth.work();
    let later = truth.newest(WEB, 1).clone();

    let mut new = restored(&saved);
    let all = all_of(&truth, node(1));
    returns(&mut new, node(1), all);
    let row = new.state.task(later.id).expect("it is known while it runs");
    assert_eq!((row.state, row.desired), (TaskState::Running, Desired::Stopped));
    let seen_version = new.state.restored().expect("it is restored").version;
    new.done(Action::SettleRestore { seen_version });
    new.settle();
    assert_eq!(wanted(&new, WEB), [], "it may still run");
    new.report(later.id, TaskState::Stopped);
    new.work();
    assert_eq!(new.state.running(WEB), 1);
}

#[test]
fn what_its_node_has_forgotten_is_not_begun_for_a_second_time() {
    let mut truth = cluster(1);
    truth.service(1, stopping("web", 1));
    truth.work();
    let old = truth.newest(WEB, 1).id;
    let mut new = restored(&save(&truth));
    returns(&mut new, node(1), vec![]);
    let row = new.state.task(old).expect("it is remembered");
    assert_eq!((row.state, row.reason.as_deref(), row.fenced), (TaskState::Lost, Some("not-there"), true));
    settle(&mut new);
    assert_ne!(wanted(&new, WEB), [(1, old)]);
    assert_eq!(new.state.running(WEB), 1);
}

#[test]
fn what_an_older_worker_has_runs_on_though_it_says_no_more_than_that() {
    let mut truth = cluster(1);
    truth.service(1, stopping("web", 2));
    truth.work();
    let mut new = restored(&save(&truth));
    let before = wanted(&new, WEB);
    let bare = all_of(&truth, node(1)).into_iter().map(|task| KnownTask { origin: None, ..task });
    returns(&mut new, node(1), bare.collect());
    settle(&mut new);
    assert_eq!(wanted(&new, WEB), before);
}

#[test]
fn once_settled_an_unknown_task_is_left_to_be_stopped() {
    let mut truth = cluster(2);
    truth.service(1, spec("web", 1));
    truth.work();
    let saved = save(&truth);
    truth.service(2, spec("later", 1));
    truth.work();
    let later = truth.newest(ServiceId::from_random(2), 1).clone();
    let mut new = restored(&saved);
    let all = all_of(&truth, later.node.expect("it has one"));
    returns(&mut new, later.node.expect("it has one"), all.clone());
    assert!(new.state.task(later.id).is_none(), "nobody knows its service");
    let seen_version = new.state.restored().expect("it is restored").version;
    new.done(Action::SettleRestore { seen_version });
    let tasks: BTreeSet<TaskId> = new.state.tasks().map(|task| task.id).collect();
    new.done(Action::TakeStock { node: later.node.expect("it has one"), known: vec![] });
    assert!(tasks.iter().all(|id| new.state.task(*id).is_some_and(|task| task.state != TaskState::Lost)));
}

#[test]
fn a_node_that_is_lost_too_is_given_up_as_always() {
    let mut truth = cluster(2);
    truth.service(1, stopping("web", 2));
    truth.work();
    let mut new = restored(&save(&truth));
    let all = all_of(&truth, node(1));
    returns(&mut new, node(1), all);
    new.set_state(node(2), NodeState::Down);
    new.settle();
    assert_eq!(new.state.running(WEB), 1, "nothing is placed yet");
    settle(&mut new);
    assert_eq!(new.state.running(WEB), 2);
    assert_eq!(new.nodes_of(WEB), [node(1)].into());
}

/// What workers run, whatever managers think.
struct World {
    running: BTreeMap<TaskId, (NodeId, ServiceId, u32)>,
}

impl World {
    fn of(truth: &State) -> Self {
        let running = truth.tasks().filter(|task| task.state == TaskState::Running);
        Self {
            running: running.map(|task| (task.id, (task.node.expect("it runs"), task.service, task.slot))).collect(),
        }
    }

    /// The node does what it is told: it stops what is not wanted of it, and begins nothing that it knows to have ended.
    fn obey(&mut self, leader: &mut Leader, at: NodeId, seed: u64) {
        let own: Vec<TaskId> =
            self.running.iter().filter(|(_, (node, ..))| *node == at).map(|(task, _)| *task).collect();
        for task in own {
            let row = leader.state.task(task).filter(|row| row.node == Some(at) && row.state != TaskState::Lost);
            if row.is_some_and(|row| row.desired == Desired::Running && !row.state.is_terminal()) {
                continue;
            }
            let is_known = row.is_some_and(|row| !row.state.is_terminal());
            self.running.remove(&task);
            if is_known {
                leader.report(task, TaskState::Stopped);
            }
        }
        let wanted = leader.state.tasks_of_node(at).filter(|task| !task.state.is_terminal());
        let begins: Vec<Task> = wanted.filter(|task| !self.running.contains_key(&task.id)).cloned().collect();
        assert!(begins.iter().all(|task| task.desired != Desired::Running), "seed {seed}: {begins:?} would begin");
    }

    fn assert_once(&self, leased: ServiceId, seed: u64) {
        let mut slots = BTreeSet::new();
        for (_, service, slot) in self.running.values().filter(|(_, service, _)| *service == leased) {
            assert!(slots.insert((*service, *slot)), "seed {seed}: slot {slot} runs twice");
        }
    }
}

fn disturb(truth: &mut Leader, random: &mut Random) {
    let service = ServiceId::from_random(1 + random.below(2));
    match random.below(4) {
        0 => {
            let image = format!("registry.example/app:{}", random.below(3));
            truth.update(service, |spec| spec.image = image);
        }
        1 => {
            let replicas = 1 + random.below(4) as u32;
            truth.done(Action::ScaleService { id: service, replicas });
        }
        _ => {
            let running: Vec<TaskId> =
                truth.state.tasks().filter(|task| task.state == TaskState::Running).map(|task| task.id).collect();
            if let Some(task) = random.pick(&running) {
                truth.report(task, TaskState::Failed);
            }
        }
    }
    truth.pass(60_000);
    truth.work();
}

#[test]
fn whatever_happened_after_it_was_saved_nothing_runs_twice_and_what_fits_runs_on() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut truth = cluster(3);
        truth.service(1, stopping("leased", 3));
        truth.service(2, ServiceSpec { on_disconnect: Some(OnDisconnect::Keep), ..stopping("kept", 3) });
        truth.work();
        for _ in 0..random.below(4) {
            disturb(&mut truth, &mut random);
        }
        let saved = save(&truth);
        for _ in 0..random.below(6) {
            disturb(&mut truth, &mut random);
        }
        let mut world = World::of(&truth.state);
        let mut new = restored(&saved);
        new.settle();
        let fits = |task: &TaskId, new: &Leader| {
            let task = truth.state.task(*task).expect("it runs");
            let service = new.state.service(task.service).expect("it was there all the time");
            task.spec_version == service.spec_version && task.slot <= service.spec.replicas()
        };
        let lasting: Vec<TaskId> = world.running.keys().filter(|task| fits(task, &new)).copied().collect();
        let mut nodes: Vec<NodeId> = (1..=3).map(node).collect();
        while !nodes.is_empty() {
            let at = nodes.swap_remove(random.below(nodes.len() as u64) as usize);
            let mut all = all_of(&truth, at);
            all.retain(|task| !task.state.is_terminal() || random.once_in(2));
            returns(&mut new, at, all);
            world.obey(&mut new, at, seed);
            new.settle();
            world.assert_once(WEB, seed);
        }
        for number in 1..=3 {
            world.obey(&mut new, node(number), seed);
        }
        assert!(lasting.iter().all(|task| world.running.contains_key(task)), "seed {seed}: something was stopped");
        settle(&mut new);
        for task in &lasting {
            assert_eq!(new.state.task(*task).map(|row| row.state), Some(TaskState::Running), "seed {seed}");
        }
        for service in new.state.services() {
            assert_eq!(new.state.running(service.id), service.spec.replicas(), "seed {seed}");
        }
    }
}
