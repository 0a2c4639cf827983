//! One command or plan changes a bounded number of rows, whatever the size of a service, and no service or queue of the
//! planner waits for the end of another one.

use goat_core::check::check_state;
use goat_core::model::{
    Availability, Constraint, Desired, Inventory, NodeId, Placement, ServiceId, ServiceSpec, TaskState,
};
use goat_core::orchestrator::{Planner, Policy};
use goat_core::state::change::ChangeSet;
use goat_core::state::command::{Action, Answer, Command, Refusal, ServiceChange, Step};
use goat_core::state::{At, State};

use crate::support::{Leader, needing, roomy, sized, spec};

const WEB: ServiceId = ServiceId::from_random(1);
const SMALL: ServiceId = ServiceId::from_random(9);
const POLICY: Policy = Policy { history_per_slot: 5, max_steps: 50, max_looks: 200 };

/// A state without the checker, for thousands of tasks.
struct Large {
    state: State,
    planner: Planner,
    most_rows: usize,
}

impl Large {
    fn new(leader: &Leader) -> Self {
        let state = leader.reload();
        let planner = Planner::new(&state, POLICY);
        Self { state, planner, most_rows: 0 }
    }

    fn apply(&mut self, action: Action) -> ChangeSet {
        let (at, mut rows) = (At { index: self.state.applied_index() + 1, term: 1 }, Vec::new());
        let command = Command { now_ms: 2_000_000, request: None, action };
        let (_, changes) = self.state.apply(at, &command, &mut rows);
        self.planner.observe(&self.state, &changes);
        self.most_rows = self.most_rows.max(rows.len());
        changes
    }

    /// The number of plans until nothing is left to do.
    fn settle(&mut self) -> usize {
        for plans in 0..1_000 {
            if !self.planner.has_work(2_000_000) {
                return plans;
            }
            let plan = self.planner.plan(&self.state, 2_000_000, 1);
            self.apply(Action::Plan { steps: plan.steps });
        }
        panic!("still planning");
    }
}

fn stuck(name: &str, replicas: u32) -> ServiceSpec {
    ServiceSpec { reservations: needing(64_000, 0), ..spec(name, replicas) }
}

#[test]
fn the_removal_of_a_large_service_is_answered_at_once_and_done_in_bounded_plans() {
    let mut leader = Leader::new();
    leader.nodes(1);
    leader.service(1, stuck("web", 3_000));
    let mut large = Large::new(&leader);
    large.settle();
    assert_eq!(large.state.tasks().len(), 3_000);
    large.most_rows = 0;
    let changes = large.apply(Action::RemoveService { id: WEB });
    assert_eq!((changes.services.as_slice(), changes.tasks.len(), large.most_rows), ([WEB].as_slice(), 0, 2));
    assert!(large.state.service(WEB).is_some_and(|service| service.removed), "it is shown as being removed");
    assert_eq!(check_state(&large.state), []);
    let plans = large.settle();
    // A step for each task and a few more, twice: a task ends, and is forgotten.
    assert!(large.most_rows <= POLICY.max_steps + 10, "{} rows at once", large.most_rows);
    assert!((2 * 3_000 / POLICY.max_steps..=200).contains(&plans), "{plans} plans");
    assert_eq!((large.state.services().len(), large.state.tasks().len()), (0, 0));
    assert_eq!(check_state(&large.state), []);
}

#[test]
fn an_entry_of_the_first_format_has_the_effect_that_it_always_had() {
    let mut leader = Leader::of_the_first_format(Policy::default());
    leader.nodes(1);
    leader.service(1, stuck("web", 20));
    leader.settle();
    let command = Command { now_ms: leader.now_ms, request: None, action: Action::RemoveService { id: WEB } };
    let (_, changes) = leader.command(&command);
    assert_eq!(changes.tasks.len(), 20);
    assert!(leader.state.tasks().all(|task| task.state == TaskState::Stopped));
    let refused = leader.refused(Action::CreateService { id: SMALL, spec: Box::new(spec("web", 1)) });
    assert!(matches!(refused, Refusal::NameTaken { .. }), "{refused:?}");
}

#[test]
fn nothing_of_a_service_that_is_being_removed_begins_and_its_name_is_taken_until_it_is_gone() {
    let mut leader = Leader::new();
    let node = leader.node(1, sized(1_000, 0));
    leader.service(1, ServiceSpec { reservations: needing(1_000, 0), ..spec("web", 2) });
    leader.work();
    let waits = leader.newest(WEB, 2).clone();
    assert_eq!(waits.state, TaskState::Pending);
    leader.done(Action::RemoveService { id: WEB });
    // Room appears before its tasks are stopped, and an older plan gives it away.
    leader.done(Action::UpdateInventory { node, inventory: roomy() });
    let assign = Step::Assign { task: waits.id, seen_version: waits.version, node };
    assert_eq!(leader.done(Action::Plan { steps: vec![assign] }), Answer::Counted { applied: 0, stale: 1 });
    let refused = leader.refused(Action::CreateService { id: SMALL, spec: Box::new(spec("web", 1)) });
    assert!(refused.to_string().starts_with("a service named \"web\" is being removed"), "{refused}");
    leader.settle();
    assert_eq!(leader.newest(WEB, 1).desired, Desired::Removed);
    leader.work();
    assert_eq!(leader.state.services().len(), 0);
    leader.service(9, spec("web", 1));
}

#[test]
fn a_removal_that_is_taken_back_half_way_leaves_running_what_it_had_not_stopped() {
    let mut leader = Leader::with(Policy { max_steps: 4, max_looks: 8, ..POLICY });
    leader.node(1, sized(64_000, 0));
    leader.service(1, spec("web", 12));
    leader.work();
    leader.done(Action::RemoveService { id: WEB });
    let plan = leader.plan();
    leader.carry_out(plan);
    let wanted = |leader: &Leader| leader.state.tasks().filter(|task| task.desired == Desired::Running).count();
    let left = wanted(&leader);
    assert!((1..12).contains(&left), "{left}");
    let service = leader.state.service(WEB).expect("it is being removed");
    let change =
        ServiceChange { id: WEB, seen_version: service.version, spec: Some(Box::new((*service.spec).clone())) };
    leader.done(Action::RestoreServices { changes: vec![change] });
    leader.settle();
    assert_eq!(wanted(&leader), left, "the others go on");
    leader.work();
    assert_eq!(leader.state.running(WEB), 12);
    leader.assert_settled();
}

/// Nodes and specs may change while a plan is on its way.
#[test]
fn what_a_spec_asks_of_a_node_is_checked_again_when_the_plan_is_applied() {
    let mut leader = Leader::new();
    let node = leader.nodes(1)[0];
    let constraint = Constraint { label: "zone".into(), equal: true, value: "a".into() };
    let in_zone = |inventory, zone: &str| Action::RegisterNode {
        node,
        name: "w1".into(),
        address: "127.0.0.1".into(),
        labels: [("zone".to_owned(), zone.to_owned())].into(),
        inventory,
        running: vec![],
    };
    let placement = Placement { constraints: vec![constraint], max_per_node: 1, ..Placement::default() };
    let full = Inventory { conditions: ["disk-pressure".into()].into(), ..roomy() };
    let no_driver = Inventory { drivers: Default::default(), ..roomy() };
    for change in [in_zone(roomy(), "b"), in_zone(full, "a"), in_zone(no_driver, "a")] {
        leader.done(in_zone(roomy(), "a"));
        let service = leader.service(1, ServiceSpec { placement: placement.clone(), ..spec("web", 1) });
        let plan = leader.plan();
        leader.done(change.clone());
        leader.carry_out(plan);
        assert_eq!(leader.newest(service, 1).state, TaskState::Pending, "{change:?}");
        leader.done(Action::RemoveService { id: service });
        leader.work();
        assert_eq!(leader.state.services().len(), 0);
    }
    // The plans of two leaders.
    leader.done(in_zone(roomy(), "a"));
    leader.service(1, ServiceSpec { placement: Placement { max_per_node: 0, ..placement.clone() }, ..spec("web", 2) });
    let plan = leader.plan();
    assert_eq!(plan.steps.len(), 2);
    leader.carry_out(goat_core::plan::Plan { steps: plan.steps[..1].to_vec(), ..plan.clone() });
    let waits = plan.steps[1].clone();
    leader.update(WEB, |spec| spec.placement.max_per_node = 1);
    leader.elect();
    leader.settle();
    let second = leader.newest(WEB, 2);
    let assign = Step::Assign { task: second.id, seen_version: second.version, node };
    assert_eq!(leader.done(Action::Plan { steps: vec![assign, waits] }), Answer::Counted { applied: 0, stale: 2 });
}

/// A node that drains until a deadline, with more tasks that cannot go anywhere than one plan looks at, in a cluster where
/// something changes all the time.
#[test]
fn a_large_drain_keeps_no_other_service_waiting() {
    let mut leader = Leader::with(Policy { max_looks: 4, ..Policy::default() });
    let nodes: Vec<NodeId> = (1..=2).map(|number| leader.node(number, sized(4_000, 0))).collect();
    let on = |node: &str| {
        let constraint = Constraint { label: "node.name".into(), equal: true, value: node.into() };
        Placement { constraints: vec![constraint], ..Placement::default() }
    };
    leader.service(1, ServiceSpec { placement: on("w1"), ..spec("web", 5) });
    leader.service(9, ServiceSpec { placement: on("w2"), ..spec("small", 1) });
    leader.work();
    leader.done(Action::DrainNode { node: nodes[0], within_ms: 86_400_000 });
    leader.settle();
    let failed = leader.newest(SMALL, 1).id;
    leader.report(failed, TaskState::Failed);
    for plans in 1.. {
        leader.done(Action::UpdateInventory { node: nodes[0], inventory: sized(4_000 + plans, 0) });
        let plan = leader.plan();
        leader.carry_out(plan);
        if leader.newest(SMALL, 1).id != failed {
            break;
        }
        assert!(plans < 5, "it is not looked at");
    }
    assert_eq!(leader.state.node(nodes[0]).map(|node| node.availability), Some(Availability::Drain));
}

/// The removal of a large service, pending tasks without end, a large drain: a task that failed is replaced all the same, a
/// new service begins, and each in one of the next plans.
#[test]
fn no_queue_of_the_planner_starves_another() {
    // For as many tasks as a node may have.
    const MEMORY: u64 = 1 << 40;
    let mut leader = Leader::new();
    let first = leader.node(1, sized(400_000, MEMORY));
    leader.service(1, spec("web", 1_000));
    leader.service(2, stuck("stuck", 1_000));
    leader.service(3, spec("leaves", 1_000));
    leader.service(9, spec("small", 1));
    let mut large = Large::new(&leader);
    large.settle();
    let small = large.state.slot(SMALL, 1)[0];
    let running: Vec<_> = large.state.tasks().filter(|task| task.node.is_some()).map(|task| task.id).collect();
    let report = |task, state| crate::support::report_of(task, state, 2_000_000);
    let reports = running.iter().map(|id| report(*id, TaskState::Running)).collect();
    large.apply(Action::ReportTasks { node: first, reports });
    large.settle();
    large.apply(Action::DrainNode { node: first, within_ms: 86_400_000 });
    large.apply(Action::RemoveService { id: WEB });
    large.apply(Action::ScaleService { id: ServiceId::from_random(2), replicas: 2_000 });
    let reports = vec![report(small, TaskState::Failed)];
    large.apply(Action::ReportTasks { node: first, reports });
    let fresh = ServiceId::from_random(10);
    large.apply(Action::CreateService { id: fresh, spec: Box::new(spec("fresh", 1)) });
    let (mut replaced, mut begun, mut stopped) = (None, None, None);
    for plans in 1..=12 {
        large.apply(Action::UpdateInventory { node: first, inventory: sized(400_000 + plans, MEMORY) });
        let plan = large.planner.plan(&large.state, 2_000_000, plans);
        assert!(plan.steps.len() <= POLICY.max_steps + 10, "{}", plan.steps.len());
        large.apply(Action::Plan { steps: plan.steps });
        let removing = |task: &goat_core::model::Task| task.desired == Desired::Removed;
        replaced = replaced.or((large.state.slot(SMALL, 1).last() != Some(&small)).then_some(plans));
        begun = begun.or(large.state.slots(fresh).next().map(|_| plans));
        stopped = stopped.or(large.state.tasks_of_service(WEB).any(removing).then_some(plans));
    }
    assert!(replaced.is_some() && begun.is_some() && stopped.is_some(), "{replaced:?} {begun:?} {stopped:?}");
}

/// For each task that is to leave all nodes are looked at.
#[test]
fn the_search_for_other_nodes_counts_as_what_a_plan_looks_at() {
    let mut leader = Leader::new();
    for number in 1..=400 {
        leader.node(number, sized(4_000, 0));
    }
    for number in 1..=100 {
        leader.service(number, ServiceSpec { reservations: needing(1_000, 0), ..spec(&format!("s{number}"), 1) });
    }
    leader.work();
    for node in leader.state.nodes().map(|node| node.id).take(200).collect::<Vec<_>>() {
        leader.done(Action::DrainNode { node, within_ms: 86_400_000 });
    }
    let draining = |leader: &Leader| {
        let live = leader.state.tasks().filter(|task| task.desired == Desired::Running);
        let drains = |node: NodeId| leader.state.node(node).is_some_and(|node| node.drain_until_ms.is_some());
        live.filter(|task| task.node.is_some_and(drains)).count()
    };
    let before = draining(&leader);
    assert!(before > 20, "{before}");
    let mut planner = Planner::new(&leader.state, POLICY);
    let plan = planner.plan(&leader.state, leader.now_ms, 1);
    // One search takes 10 looks here, and a plan has 200.
    assert!(plan.steps.len() <= 20 && planner.has_work(leader.now_ms), "{} searches in one plan", plan.steps.len());
    leader.settle();
    assert_eq!(draining(&leader), 0);
}

#[test]
fn what_a_worker_says_of_its_disk_has_none_of_its_tasks_looked_at() {
    let mut leader = Leader::new();
    let node = leader.nodes(1)[0];
    leader.service(1, spec("web", 3));
    leader.work();
    leader.done(Action::UpdateInventory { node, inventory: sized(5_000, 0) });
    assert!(!leader.planner.has_work(leader.now_ms));
    leader.done(Action::SetAvailability { node, availability: Availability::Drain });
    assert!(leader.planner.has_work(leader.now_ms));
}
