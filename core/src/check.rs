//! An independent judge of a state: what must never be. It looks at rows only and uses none of the code that it checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{Desired, NodeId, Resources, ServiceId, Task, TaskId, TaskState};
use crate::state::State;

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Two tasks of one slot that may both run.
    Twice { service: ServiceId, slot: u32, tasks: Vec<TaskId> },
    /// More is reserved on a node than it has.
    Oversubscribed { node: NodeId, reserved: Resources, total: Resources },
    /// Two tasks hold one port of a node.
    PortTwice { node: NodeId, port: u16 },
    /// A task's fields contradict each other.
    Task { task: TaskId, problem: &'static str },
    /// What the indexes say is not what the rows say.
    Index { problem: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice { service, slot, tasks } => write!(f, "slot {service}.{slot} may run {} tasks: {tasks:?}", tasks.len()),
            Self::Oversubscribed { node, reserved, total } => write!(f, "node {node} has {total:?} and gave away {reserved:?}"),
            Self::PortTwice { node, port } => write!(f, "port {port} of node {node} is held twice"),
            Self::Task { task, problem } => write!(f, "task {task} {problem}"),
            Self::Index { problem } => write!(f, "index: {problem}"),
        }
    }
}

fn has_ended(task: &Task) -> bool {
    use TaskState::{Complete, Failed, Lost, Rejected, Stopped};
    matches!(task.state, Complete | Failed | Lost | Rejected | Stopped)
}

/// Judges the whole state; empty means that it is as it must be.
pub fn check_state(state: &State) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut live_by_slot: BTreeMap<(ServiceId, u32), Vec<TaskId>> = BTreeMap::new();
    let mut by_node: BTreeMap<NodeId, Vec<&Task>> = BTreeMap::new();
    let (mut pending, mut running): (BTreeSet<TaskId>, BTreeMap<ServiceId, u32>) = Default::default();
    for task in state.tasks() {
        found.extend(task_problem(task).map(|problem| Violation::Task { task: task.id, problem }));
        if task.state == TaskState::Running {
            *running.entry(task.service).or_default() += 1;
        }
        if task.state == TaskState::Pending && task.desired == Desired::Running {
            pending.insert(task.id);
        }
        if has_ended(task) {
            continue;
        }
        live_by_slot.entry((task.service, task.slot)).or_default().push(task.id);
        if let Some(node) = task.node {
            by_node.entry(node).or_default().push(task);
        }
    }
    let twice = live_by_slot.into_iter().filter(|(_, tasks)| tasks.len() > 1);
    found.extend(twice.map(|((service, slot), tasks)| Violation::Twice { service, slot, tasks }));
    for (node, tasks) in &by_node {
        check_node(state, *node, tasks, &mut found);
    }
    if pending != state.pending().collect() {
        found.push(Violation::Index { problem: "pending".into() });
    }
    for service in state.services() {
        if state.running(service.id) != running.get(&service.id).copied().unwrap_or(0) {
            found.push(Violation::Index { problem: format!("running of {}", service.id) });
        }
    }
    found
}

fn check_node(state: &State, node: NodeId, tasks: &[&Task], found: &mut Vec<Violation>) {
    let mut reserved = Resources::ZERO;
    let mut ports = BTreeSet::new();
    for task in tasks {
        reserved = reserved.plus(task.reservations);
        for port in &task.ports {
            if !ports.insert((port.host_port, port.protocol)) {
                found.push(Violation::PortTwice { node, port: port.host_port });
            }
        }
    }
    if state.reserved_on(node) != reserved {
        found.push(Violation::Index { problem: format!("reserved on {node}") });
    }
    // A node may come back with less than it had; what it holds by then stays.
    let granted = tasks.iter().any(|task| task.state == TaskState::Assigned);
    if let Some(row) = state.node(node)
        && granted
        && tasks.iter().all(|task| task.version > row.version)
        && !reserved.fits_into(row.inventory.total)
    {
        found.push(Violation::Oversubscribed { node, reserved, total: row.inventory.total });
    }
}

fn task_problem(task: &Task) -> Option<&'static str> {
    if has_ended(task) && task.finished_at_ms.is_none() {
        return Some("has ended at no time");
    }
    if !has_ended(task) && task.finished_at_ms.is_some() {
        return Some("has not ended and has a time of its end");
    }
    if task.state == TaskState::Pending && task.node.is_some() {
        return Some("is pending on a node");
    }
    if task.node.is_some() && task.fencing_token == 0 {
        return Some("has a node and no fencing token");
    }
    if !has_ended(task) && task.state != TaskState::Pending && task.node.is_none() {
        return Some("runs nowhere");
    }
    None
}
