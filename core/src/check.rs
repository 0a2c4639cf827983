//! An independent judge: what must never be. [`check_state`] judges a state, [`check_plan`] a plan made on it.
//!
//! It begins at the rows and counts everything again; it uses none of the code that it checks. Indexes are only asked in
//! order to compare what they say with what was counted.

mod indexes;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::codec::BOUNDED_FORMAT;
use crate::model::{Desired, Node, NodeId, NodeState, Port, Protocol, Resources, ServiceId, Task, TaskId, TaskState};
use crate::state::{Service, State};

pub use plan::check_plan;

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Tasks of one slot that may run side by side.
    Twice { service: ServiceId, slot: u32, tasks: Vec<TaskId> },
    /// Something was given away on a node that did not have it any more.
    Oversubscribed { node: NodeId, reserved: Resources, total: Resources },
    /// Two tasks hold one port of a node.
    PortTwice { node: NodeId, port: u16 },
    /// A task's row contradicts itself or the rows around it.
    Task { task: TaskId, problem: &'static str },
    /// Two rows bear one name.
    NameTwice { name: String },
    /// What the indexes say is not what the rows say.
    Index { problem: String },
    /// A step of a plan that its state refuses, or must refuse.
    Step { step: usize, problem: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice { service, slot, tasks } => {
                write!(f, "slot {service}.{slot} may run {} tasks: {tasks:?}", tasks.len())
            }
            Self::Oversubscribed { node, reserved, total } => {
                write!(f, "node {node} has {total:?} and gave away {reserved:?}")
            }
            Self::PortTwice { node, port } => write!(f, "port {port} of node {node} is held twice"),
            Self::Task { task, problem } => write!(f, "task {task} {problem}"),
            Self::NameTwice { name } => write!(f, "the name {name:?} is borne twice"),
            Self::Index { problem } => write!(f, "index: {problem}"),
            Self::Step { step, problem } => write!(f, "step {step} {problem}"),
        }
    }
}

/// Judges the whole state; empty means that it is as it must be. Each row is looked at a fixed number of times, and looked
/// up in maps: O(rows log rows).
pub fn check_state(state: &State) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut rows = Rows::new(state);
    for task in state.tasks() {
        let problems = [own_problem(task), place_problem(state, &rows, task), version_problem(state, task)];
        found.extend(problems.into_iter().flatten().map(|problem| Violation::Task { task: task.id, problem }));
    }
    for ((service, slot), tasks) in &mut rows.by_slot {
        check_slot(*service, *slot, tasks, &mut found);
    }
    for (node, tasks) in &rows.holders {
        check_node(&rows, *node, tasks, &mut found);
    }
    check_names(state, &mut found);
    indexes::check(state, &rows, &mut found);
    found
}

/// The rows in the checker's own order: the indexes of the state are what it checks.
struct Rows<'a> {
    services: BTreeMap<ServiceId, &'a Service>,
    nodes: BTreeMap<NodeId, &'a Node>,
    /// All tasks; each slot's in the order of attempts, once it was checked.
    by_slot: BTreeMap<(ServiceId, u32), Vec<&'a Task>>,
    by_node: BTreeMap<NodeId, BTreeSet<TaskId>>,
    /// Tasks that have a node and have not ended.
    holders: BTreeMap<NodeId, Vec<&'a Task>>,
}

impl<'a> Rows<'a> {
    fn new(state: &'a State) -> Self {
        let mut rows = Self {
            services: state.services().map(|service| (service.id, service)).collect(),
            nodes: state.nodes().map(|node| (node.id, node)).collect(),
            by_slot: BTreeMap::new(),
            by_node: BTreeMap::new(),
            holders: BTreeMap::new(),
        };
        for task in state.tasks() {
            rows.by_slot.entry((task.service, task.slot)).or_default().push(task);
            if let Some(node) = task.node {
                rows.by_node.entry(node).or_default().insert(task.id);
                if !has_ended(task) {
                    rows.holders.entry(node).or_default().push(task);
                }
            }
        }
        rows
    }

    fn of_service(&self, service: ServiceId) -> impl Iterator<Item = (u32, &[&'a Task])> {
        self.by_slot.range((service, 0)..=(service, u32::MAX)).map(|((_, slot), tasks)| (*slot, tasks.as_slice()))
    }
}

/// Listed anew rather than asked of the model.
fn has_ended(task: &Task) -> bool {
    use TaskState::{Complete, Failed, Lost, Rejected, Stopped};
    matches!(task.state, Complete | Failed | Lost | Rejected | Stopped)
}

/// What contradicts itself within one row.
fn own_problem(task: &Task) -> Option<&'static str> {
    let ended = has_ended(task);
    match task.state {
        _ if ended && task.finished_at_ms.is_none() => Some("has ended at no time"),
        _ if !ended && task.finished_at_ms.is_some() => Some("has not ended and has a time of its end"),
        _ if !ended && task.exit_code.is_some() => Some("has not ended and has an exit code"),
        _ if !ended && task.fenced => Some("was fenced and may run"),
        _ if (task.desired == Desired::Running) != task.stop_cause.is_none() => {
            Some("is not wanted for no cause, or the reverse")
        }
        TaskState::Pending if task.node.is_some() => Some("is pending on a node"),
        TaskState::Lost if task.node.is_none() => Some("was lost without having had a node"),
        TaskState::Running if task.started_at_ms.is_none() => Some("runs since no time"),
        TaskState::Assigned | TaskState::Preparing | TaskState::Starting | TaskState::Running
            if task.node.is_none() =>
        {
            Some("runs nowhere")
        }
        _ if task.node.is_some() != (task.fencing_token > 0) => {
            Some("has a node without a fencing token, or the reverse")
        }
        _ if task.slot == 0 || task.attempt == 0 => Some("has a slot or an attempt 0; both count from 1"),
        _ => None,
    }
}

/// What contradicts its service or its node.
fn place_problem(state: &State, rows: &Rows<'_>, task: &Task) -> Option<&'static str> {
    let Some(service) = rows.services.get(&task.service) else {
        return Some("has no service");
    };
    // From that format on the planner stops them, in bounded plans.
    if service.removed && task.desired == Desired::Running && state.format() < BOUNDED_FORMAT {
        return Some("is wanted although its service was removed");
    }
    if state.spec_of(task).is_none() {
        return Some("runs a spec that is not there");
    }
    if task.spec_version > service.spec_version {
        return Some("runs a spec newer than its service's");
    }
    let id = task.node.filter(|_| !has_ended(task))?;
    match rows.nodes.get(&id) {
        None => Some("may run on a node that is not there"),
        Some(node) if node.state == NodeState::Down => Some("may run on a node that is down"),
        Some(_) => None,
    }
}

fn version_problem(state: &State, task: &Task) -> Option<&'static str> {
    let applied = state.newest_version();
    let newest = task.version.max(task.spec_version).max(task.fencing_token).max(task.returned);
    (task.version == 0 || newest > applied || task.fencing_token.max(task.returned) > task.version)
        .then_some("bears the index of a command that was not applied yet")
}

/// A slot's tasks follow one another: only the newest may run, and each bears a greater fencing token. One that was taken
/// back is the newest for a second time, and what stood in for it may still be on its way to its end.
fn check_slot(service: ServiceId, slot: u32, tasks: &mut [&Task], found: &mut Vec<Violation>) {
    tasks.sort_by_key(|task| task.attempt);
    let is_returned = tasks.last().is_some_and(|task| task.returned > 0);
    let may_run = |task: &&&Task| !has_ended(task) && (!is_returned || task.desired == Desired::Running);
    let side_by_side: Vec<TaskId> = tasks.iter().filter(may_run).map(|task| task.id).collect();
    if side_by_side.len() > 1 {
        found.push(Violation::Twice { service, slot, tasks: side_by_side });
    }
    let mut last = 0;
    for (at, task) in tasks.iter().enumerate() {
        let mut wrong = |problem| found.push(Violation::Task { task: task.id, problem });
        if at + 1 < tasks.len() && may_run(&task) {
            wrong("may run although its slot has a newer one");
        }
        if at > 0 && tasks[at - 1].attempt == task.attempt {
            wrong("has the same attempt as another of its slot");
        }
        // The one it followed may have been forgotten, or taken back.
        let is_in = |tasks: &[&Task], id| tasks.iter().any(|other| other.id == id && other.returned == 0);
        let follows = task.previous.is_some_and(|id| id == tasks[at.max(1) - 1].id || !is_in(tasks, id));
        if at > 0 && !follows {
            wrong("does not follow the task before it");
        }
        let held_since = task.fencing_token.max(task.returned);
        if held_since > 0 {
            if held_since <= last {
                wrong("has a fencing token that does not grow");
            }
            last = held_since;
        }
    }
}

/// A node may come back with less than it had, and what it holds by then stays. Afterwards nothing may be granted of
/// what has run out; `fencing_token` tells which grants came after the node's row last changed, and `returned` which tasks
/// were taken back with it.
fn check_node(rows: &Rows<'_>, node: NodeId, tasks: &[&Task], found: &mut Vec<Violation>) {
    let mut ports: BTreeSet<(u16, Protocol)> = BTreeSet::new();
    for Port { host_port, protocol, .. } in tasks.iter().flat_map(|task| &task.ports) {
        if !ports.insert((*host_port, *protocol)) {
            found.push(Violation::PortTwice { node, port: *host_port });
        }
    }
    let Some(row) = rows.nodes.get(&node) else {
        return;
    };
    let total = row.inventory.total;
    let reserved = sum(tasks);
    let granted_since = |amount: fn(&Resources) -> u64| {
        amount(&reserved) > amount(&total)
            && tasks
                .iter()
                .any(|task| task.fencing_token.max(task.returned) >= row.version && amount(&task.reservations) > 0)
    };
    if AMOUNTS.into_iter().any(granted_since) {
        found.push(Violation::Oversubscribed { node, reserved, total });
    }
}

const AMOUNTS: [fn(&Resources) -> u64; 3] = [|r| r.cpu_millis, |r| r.memory_bytes, |r| r.disk_bytes];

fn sum(tasks: &[&Task]) -> Resources {
    let of = |amount: fn(&Resources) -> u64| {
        tasks.iter().map(|task| u128::from(amount(&task.reservations))).sum::<u128>().try_into().unwrap_or(u64::MAX)
    };
    let [cpu_millis, memory_bytes, disk_bytes] = AMOUNTS.map(of);
    Resources { cpu_millis, memory_bytes, disk_bytes }
}

fn check_names(state: &State, found: &mut Vec<Violation>) {
    let mut once = |names: &mut dyn Iterator<Item = &String>| {
        let mut seen = BTreeSet::new();
        let twice = names.filter(|name| !seen.insert(name.as_str())).cloned();
        found.extend(twice.map(|name| Violation::NameTwice { name }));
    };
    once(&mut state.services().map(|service| &service.spec.name));
    once(&mut state.nodes().map(|node| &node.name));
}
