//! What a large state costs in memory and time: the longest that anybody is kept waiting, since nothing is applied while
//! a plan is made or a state is read. Figures of one machine at one moment.
//!
//! `cargo run -p goat-core --example scale [TASKS]`

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use goat_core::check::check_state;
use goat_core::codec::{FIRST_FORMAT, FORMAT};
use goat_core::model::{
    Constraint, Driver, Inventory, Mode, NodeId, NodeState, Resources, ServiceId, ServiceSpec, TaskId, TaskState,
};
use goat_core::orchestrator::{Planner, Policy};
use goat_core::state::command::{Action, Command, TaskReport};
use goat_core::state::{At, State};

const GIB: u64 = 1 << 30;
const PER_SERVICE: u32 = 1_000;
const PER_NODE: u64 = 100;

fn main() {
    let tasks: u32 = std::env::args().nth(1).map_or(100_000, |text| text.parse().expect("a number of tasks"));
    println!("{tasks} tasks that no node fits, {PER_SERVICE} a service:");
    measure(World::new(tasks, true));
    println!("{tasks} tasks that run, {PER_NODE} a node:");
    measure(World::new(tasks, false));
    for (is_stuck, what) in [(true, "pending"), (false, "running")] {
        for format in [FIRST_FORMAT, FORMAT] {
            println!("{tasks} {what} tasks of one service, format {format}:");
            measure_removal(World::with(tasks, is_stuck, tasks, format));
        }
    }
}

/// Removes the only service, and looks at its largest node before.
fn measure_removal(mut world: World) {
    let node = world.state.nodes().map(|node| (node.id, node.version)).next();
    let service = world.state.services().next().expect("there is one").id;
    world.applied = Times::default();
    let spec = Box::new((*world.state.service(service).expect("it is there").spec).clone());
    world.apply(Action::UpdateService {
        id: service,
        seen_version: None,
        spec: Box::new(ServiceSpec { args: vec!["new".into()], ..*spec }),
    });
    world.applied.tell("an update of the service");
    if let Some((node, seen_version)) = node {
        world.applied = Times::default();
        world.apply(Action::SetNodeState { node, seen_version, state: NodeState::Down });
        world.applied.tell("a node is down");
    }
    (world.applied, world.plans) = (Times::default(), Times::default());
    world.apply(Action::RemoveService { id: service });
    world.applied.tell("the removal itself");
    world.settle();
    world.stop_all();
    assert_eq!((world.state.services().len(), world.state.tasks().len()), (0, 0));
    world.plans.tell("plans until nothing of it is left");
    world.applied.tell("commands applied until then");
}

/// The longest one, and all of them together.
#[derive(Default)]
struct Times {
    longest: Duration,
    total: Duration,
    count: u32,
}

impl Times {
    fn take<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let made = work();
        let took = started.elapsed();
        (self.longest, self.total, self.count) = (self.longest.max(took), self.total + took, self.count + 1);
        made
    }

    fn tell(&self, what: &str) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "  {what:<46} {:>6} times, longest {:>8.1} ms, all {:>9.1} ms",
            self.count,
            ms(self.longest),
            ms(self.total)
        );
    }
}

struct World {
    state: State,
    planner: Planner,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    index: u64,
    seed: u64,
    plans: Times,
    applied: Times,
}

impl World {
    fn new(tasks: u32, is_stuck: bool) -> Self {
        Self::with(tasks, is_stuck, PER_SERVICE, FORMAT)
    }

    fn with(tasks: u32, is_stuck: bool, per_service: u32, format: u8) -> Self {
        let state = State::new();
        let planner = Planner::new(&state, Policy::default());
        let (plans, applied) = (Times::default(), Times::default());
        let mut world = Self { state, planner, rows: BTreeMap::new(), index: 0, seed: 0, plans, applied };
        if format > FIRST_FORMAT {
            world.apply(Action::SetFormat { format });
        }
        for number in 0..u64::from(tasks) / PER_NODE {
            world.register(number);
        }
        for number in 0..tasks.div_ceil(per_service) {
            let replicas = per_service.min(tasks - number * per_service);
            world.apply(Action::CreateService {
                id: ServiceId::from_random(u64::from(number) + 1),
                spec: spec(number, replicas, is_stuck),
            });
        }
        world.settle();
        if !is_stuck {
            world.run_all();
        }
        world
    }

    fn register(&mut self, number: u64) {
        let total = Resources { cpu_millis: 1_000_000, memory_bytes: 1_000 * GIB, disk_bytes: 1_000 * GIB };
        let inventory = Inventory {
            total,
            drivers: BTreeSet::from([Driver::Process]),
            disk_free_bytes: 1_000 * GIB,
            ..Inventory::default()
        };
        self.apply(Action::RegisterNode {
            node: NodeId::from_random(number + 1),
            name: format!("w{number}"),
            address: "host".into(),
            labels: BTreeMap::new(),
            inventory,
            running: vec![],
        });
    }

    fn apply(&mut self, action: Action) {
        self.index += 1;
        let command = Command { now_ms: 1_000_000 + self.index, request: None, action };
        let mut rows = Vec::new();
        let at = At { index: self.index, term: 1 };
        let (_, changes) = self.applied.take(|| self.state.apply(at, &command, &mut rows));
        for row in rows {
            match row.value {
                Some(value) => drop(self.rows.insert(row.key, value)),
                None => drop(self.rows.remove(&row.key)),
            }
        }
        self.planner.observe(&self.state, &changes);
    }

    fn settle(&mut self) {
        let now_ms = 2_000_000;
        while self.planner.has_work(now_ms) {
            self.seed += 1;
            let plan = self.plans.take(|| self.planner.plan(&self.state, now_ms, self.seed));
            if !plan.is_empty() {
                self.apply(Action::Plan { steps: plan.steps });
            }
        }
    }

    fn run_all(&mut self) {
        let nodes: Vec<NodeId> = self.state.nodes().map(|node| node.id).collect();
        for node in nodes {
            let of_node = self.state.tasks_of_node(node);
            let reports = of_node.map(|task| report(task.id, TaskState::Running)).collect();
            self.apply(Action::ReportTasks { node, reports });
        }
        self.settle();
    }

    fn stop_all(&mut self) {
        let nodes: Vec<NodeId> = self.state.nodes().map(|node| node.id).collect();
        for node in nodes {
            let live = self.state.tasks_of_node(node).filter(|task| !task.state.is_terminal());
            let reports = live.map(|task| report(task.id, TaskState::Stopped)).collect();
            self.apply(Action::ReportTasks { node, reports });
        }
        self.settle();
    }
}

fn report(task: TaskId, state: TaskState) -> TaskReport {
    TaskReport { task, state, exit_code: None, reason: None, error: None, container_id: None, at_ms: 1_000_000 }
}

fn spec(number: u32, replicas: u32, is_stuck: bool) -> Box<ServiceSpec> {
    let mut spec = ServiceSpec {
        name: format!("scale-{number}"),
        driver: Driver::Process,
        command: vec!["/bin/true".into()],
        mode: Mode::Replicated { replicas },
        ..ServiceSpec::default()
    };
    if is_stuck {
        spec.placement.constraints.push(Constraint { label: "zone".into(), equal: true, value: "nowhere".into() });
    }
    Box::new(spec)
}

fn measure(mut world: World) {
    world.plans.tell("plans until all is done");
    world.applied.tell("commands applied until then");

    world.plans = Times::default();
    world.planner = Planner::new(&world.state, Policy::default());
    world.settle();
    world.plans.tell("plans of a new leader");

    world.plans = Times::default();
    for _ in 0..20 {
        let node = world.state.nodes().next().expect("there are nodes");
        let (node, inventory) = (node.id, node.inventory.clone());
        world.apply(Action::UpdateInventory { node, inventory });
        world.settle();
    }
    world.plans.tell("plans after 20 nodes told of their disks");

    let mut loads = Times::default();
    let loaded = loads.take(|| State::from_rows(&world.rows).expect("its own rows"));
    loads.tell("state from its rows");
    assert_eq!(loaded.tasks().len(), world.state.tasks().len());
    let mut checks = Times::default();
    assert_eq!(checks.take(|| check_state(&world.state)), []);
    checks.tell("the checker");
    let bytes: usize = world.rows.iter().map(|(key, value)| key.len() + value.len()).sum();
    println!("  rows: {}, {:.1} MiB", world.rows.len(), bytes as f64 / (1 << 20) as f64);
    if let Some(kib) = resident_kib() {
        println!("  resident, with two such states and the rows: {} MiB", kib / 1024);
    }
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
