//! A leader without a network: the state, its planner, the rows a store would hold, and the checker after every step.

use std::collections::{BTreeMap, BTreeSet};

use goat_core::check::{check_plan, check_state};
use goat_core::codec::FORMAT;
use goat_core::model::{
    ClusterId, Driver, Inventory, Mode, NodeId, NodeState, Port, Protocol, Resources, ServiceId, ServiceSpec, Task,
    TaskId, TaskState,
};
use goat_core::orchestrator::{Planner, Policy};
use goat_core::plan::Plan;
use goat_core::scheduler::mix;
use goat_core::state::change::ChangeSet;
use goat_core::state::command::{Action, Answer, Command, Outcome, Refusal, Reported, TaskReport};
use goat_core::state::{At, State};

pub const GIB: u64 = 1 << 30;
/// Plans in a row without a change from outside; more means that the planner goes round in circles.
const MOST_PLANS: usize = 200;

/// splitmix64, so that a run is its seed.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `end`, which is above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.below(of.len() as u64) as usize]) }
    }
}

pub struct Leader {
    pub state: State,
    pub planner: Planner,
    pub policy: Policy,
    pub now_ms: u64,
    pub rows: BTreeMap<Vec<u8>, Vec<u8>>,
    index: u64,
    plans: u64,
}

impl Leader {
    pub fn new() -> Self {
        Self::with(Policy::default())
    }

    pub fn with(policy: Policy) -> Self {
        let mut leader = Self::of_the_first_format(policy);
        leader.done(Action::SetFormat { format: FORMAT });
        leader
    }

    /// A cluster whose format was never raised.
    pub fn of_the_first_format(policy: Policy) -> Self {
        let state = State::new();
        let planner = Planner::new(&state, policy);
        let mut leader = Self { state, planner, policy, now_ms: 1_000_000, rows: BTreeMap::new(), index: 0, plans: 0 };
        leader.done(Action::InitCluster { id: ClusterId::from_random(1) });
        leader
    }

    /// A leader over rows that were saved after the command at that index.
    pub fn over(rows: &BTreeMap<Vec<u8>, Vec<u8>>, index: u64, now_ms: u64) -> Self {
        let state = State::from_rows(rows).expect("rows that a state wrote make a state");
        let policy = Policy::default();
        let planner = Planner::new(&state, policy);
        Self { state, planner, policy, now_ms, rows: rows.clone(), index, plans: 0 }
    }

    /// Applies a command as its manager does: rows to the store, the change set to the planner.
    pub fn command(&mut self, command: &Command) -> (Outcome, ChangeSet) {
        self.index += 1;
        let mut rows = Vec::new();
        let (outcome, changes) = self.state.apply(At { index: self.index, term: 1 }, command, &mut rows);
        for row in rows {
            match row.value {
                Some(value) => drop(self.rows.insert(row.key, value)),
                None => drop(self.rows.remove(&row.key)),
            }
        }
        self.planner.observe(&self.state, &changes);
        assert_eq!(check_state(&self.state), [], "after {command:?}");
        (outcome, changes)
    }

    pub fn apply(&mut self, action: Action) -> Outcome {
        self.command(&Command { now_ms: self.now_ms, request: None, action }).0
    }

    pub fn done(&mut self, action: Action) -> Answer {
        match self.apply(action) {
            Outcome::Done(answer) => answer,
            Outcome::Refused(refusal) => panic!("refused: {refusal}"),
        }
    }

    pub fn refused(&mut self, action: Action) -> Refusal {
        match self.apply(action) {
            Outcome::Done(answer) => panic!("done: {answer:?}"),
            Outcome::Refused(refusal) => refusal,
        }
    }

    /// Plans on the state as it is; the checker judges the plan.
    pub fn plan(&mut self) -> Plan {
        self.plans += 1;
        let plan = self.planner.plan(&self.state, self.now_ms, mix(self.plans));
        assert_eq!(check_plan(&self.state, &plan), []);
        plan
    }

    pub fn carry_out(&mut self, plan: Plan) -> Answer {
        let command = Command { now_ms: plan.at_ms, request: None, action: Action::Plan { steps: plan.steps } };
        match self.command(&command).0 {
            Outcome::Done(answer) => answer,
            Outcome::Refused(refusal) => panic!("refused: {refusal}"),
        }
    }

    /// Plans and carries out until nothing is left to do now.
    pub fn settle(&mut self) {
        for _ in 0..MOST_PLANS {
            if !self.planner.has_work(self.now_ms) {
                return;
            }
            let plan = self.plan();
            if !plan.is_empty() {
                let steps = plan.steps.len() as u32;
                let Answer::Counted { applied, .. } = self.carry_out(plan) else { unreachable!("plans are counted") };
                assert_eq!(applied, steps, "steps of a plan on the newest state were stale");
            }
        }
        panic!("still planning: {}", self.plan());
    }

    /// A new leader has nothing to do where the old one had nothing left.
    pub fn assert_settled(&mut self) {
        assert!(!self.planner.has_work(self.now_ms), "there is work");
        let plan = Planner::new(&self.state, self.policy).plan(&self.state, self.now_ms, 7);
        assert!(plan.is_empty(), "a new leader would: {plan}");
    }

    /// As when another manager is elected: what the planner remembers is gone.
    pub fn elect(&mut self) {
        self.planner = Planner::new(&self.state, self.policy);
    }

    /// The state that a manager would have after a restart.
    pub fn reload(&self) -> State {
        State::from_rows(&self.rows).expect("rows that a state wrote make a state")
    }

    pub fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    // The world.

    pub fn node(&mut self, number: u64, inventory: Inventory) -> NodeId {
        self.node_with(number, inventory, vec![])
    }

    /// A node says hello, with the tasks that still run on it.
    pub fn node_with(&mut self, number: u64, inventory: Inventory, running: Vec<TaskId>) -> NodeId {
        let node = NodeId::from_random(number);
        let (name, address) = (format!("w{number}"), format!("127.0.0.{number}"));
        self.done(Action::RegisterNode { node, name, address, labels: BTreeMap::new(), inventory, running });
        node
    }

    pub fn nodes(&mut self, count: u64) -> Vec<NodeId> {
        (1..=count).map(|number| self.node(number, roomy())).collect()
    }

    pub fn service(&mut self, number: u64, spec: ServiceSpec) -> ServiceId {
        let id = ServiceId::from_random(number);
        self.done(Action::CreateService { id, spec: Box::new(spec) });
        id
    }

    pub fn update(&mut self, id: ServiceId, change: impl FnOnce(&mut ServiceSpec)) {
        let mut spec = (*self.state.service(id).expect("it is there").spec).clone();
        change(&mut spec);
        self.done(Action::UpdateService { id, seen_version: None, spec: Box::new(spec) });
    }

    pub fn set_state(&mut self, node: NodeId, state: NodeState) {
        let seen_version = self.state.node(node).expect("it is there").version;
        self.done(Action::SetNodeState { node, seen_version, state });
    }

    pub fn report(&mut self, task: TaskId, state: TaskState) -> Answer {
        let node = self.state.task(task).and_then(|task| task.node).expect("it has a node");
        let reports = vec![TaskReport { exit_code: exit_code(state), ..report_of(task, state, self.now_ms) }];
        self.done(Action::ReportTasks { node, reports })
    }

    /// Workers that do at once what is wanted of them, on nodes that are ready; and the leader's answer to it.
    pub fn work(&mut self) {
        for _ in 0..MOST_PLANS {
            self.settle();
            let ready = |task: &&Task| {
                let node = task.node.and_then(|node| self.state.node(node));
                node.is_some_and(|node| node.state == NodeState::Ready)
            };
            let next = self.state.tasks().filter(ready).find_map(|task| match (task.desired, task.state) {
                (_, state) if state.is_terminal() => None,
                (goat_core::model::Desired::Running, TaskState::Running) => None,
                (goat_core::model::Desired::Running, _) => Some((task.id, TaskState::Running)),
                _ => Some((task.id, TaskState::Stopped)),
            });
            match next {
                Some((task, state)) => drop(self.report(task, state)),
                None => return,
            }
        }
        panic!("the workers never come to rest");
    }

    // Looking.

    /// A slot's newest task.
    pub fn newest(&self, service: ServiceId, slot: u32) -> &Task {
        let id = self.state.slot(service, slot).last().expect("the slot has a task");
        self.state.task(*id).expect("the index is right")
    }

    /// Each slot's newest task as `slot state node`.
    pub fn picture(&self, service: ServiceId) -> Vec<String> {
        let line = |slot: u32| {
            let task = self.newest(service, slot);
            let node = task
                .node
                .map_or("-".to_owned(), |id| self.state.node(id).map_or("gone".to_owned(), |node| node.name.clone()));
            format!("{slot} {} {node}", task.state.as_str())
        };
        self.state.slots(service).map(|(slot, _)| line(slot)).collect()
    }

    /// The nodes that a service's live tasks are on.
    pub fn nodes_of(&self, service: ServiceId) -> BTreeSet<NodeId> {
        let live = self.state.tasks_of_service(service).filter(|task| !task.state.is_terminal());
        live.filter_map(|task| task.node).collect()
    }
}

const fn exit_code(state: TaskState) -> Option<i32> {
    match state {
        TaskState::Complete => Some(0),
        TaskState::Failed => Some(1),
        TaskState::Stopped => Some(143),
        _ => None,
    }
}

pub fn report_of(task: TaskId, state: TaskState, at_ms: u64) -> TaskReport {
    TaskReport { task, state, exit_code: None, reason: None, error: None, container_id: None, at_ms }
}

/// The answer to one report that took effect.
pub const APPLIED: Answer = Answer::Reported(Reported { applied: 1, ..NOTHING_REPORTED });
/// The answer to one report that was no news.
pub const STALE: Answer = Answer::Reported(Reported { stale: 1, ..NOTHING_REPORTED });
pub const NOTHING_REPORTED: Reported =
    Reported { applied: 0, stale: 0, unknown: 0, foreign: 0, backwards: 0, absurd: 0 };

/// Four CPUs, 4 GiB, 10 GiB of disk, both drivers.
pub fn roomy() -> Inventory {
    sized(4_000, 4 * GIB)
}

pub fn sized(cpu_millis: u64, memory_bytes: u64) -> Inventory {
    Inventory {
        total: Resources { cpu_millis, memory_bytes, disk_bytes: 10 * GIB },
        drivers: [Driver::Docker, Driver::Process].into(),
        disk_free_bytes: 10 * GIB,
        ..Inventory::default()
    }
}

pub fn spec(name: &str, replicas: u32) -> ServiceSpec {
    ServiceSpec {
        name: name.into(),
        image: "registry.example/app:1".into(),
        mode: Mode::Replicated { replicas },
        ..ServiceSpec::default()
    }
}

pub fn needing(cpu_millis: u64, memory_bytes: u64) -> Resources {
    Resources { cpu_millis, memory_bytes, disk_bytes: 0 }
}

pub const fn tcp(host_port: u16) -> Port {
    Port { host_port, container_port: 80, protocol: Protocol::Tcp }
}
