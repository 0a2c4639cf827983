//! Whether the state's indexes say what its rows say. Counts from rows; asks each index only to compare.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rows, Violation, has_ended, sum};
use crate::model::{Desired, NodeId, Protocol, ServiceId, Task, TaskId, TaskState};
use crate::state::State;

/// Each slot's tasks are in the order of attempts by now.
pub(super) fn check(state: &State, rows: &Rows<'_>, found: &mut Vec<Violation>) {
    let mut wrong = |problem: String| found.push(Violation::Index { problem });
    check_services(state, rows, &mut wrong);
    check_nodes(state, rows, &mut wrong);
    let pending: BTreeSet<TaskId> = state.tasks().filter(|task| waits_for_a_node(task)).map(|task| task.id).collect();
    if state.pending().len() != pending.len() || !state.pending().all(|id| pending.contains(&id)) {
        wrong("pending tasks".into());
    }
    let mut by_state: BTreeMap<TaskState, usize> = BTreeMap::new();
    state.tasks().for_each(|task| *by_state.entry(task.state).or_default() += 1);
    if *state.tasks_by_state() != by_state {
        wrong("tasks by state".into());
    }
    if !state.tasks().all(|task| state.task(task.id) == Some(task)) {
        wrong("tasks by id".into());
    }
}

fn waits_for_a_node(task: &Task) -> bool {
    task.state == TaskState::Pending && task.desired == Desired::Running
}

fn check_services(state: &State, rows: &Rows<'_>, wrong: &mut impl FnMut(String)) {
    for service in state.services() {
        let id = service.id;
        if state.service_by_name(&service.spec.name).map(|found| found.id) != Some(id) {
            wrong(format!("the name of service {id}"));
        }
        let slots = rows.of_service(id);
        let counted: Vec<(u32, Vec<TaskId>)> =
            slots.map(|(slot, tasks)| (slot, tasks.iter().map(|task| task.id).collect())).collect();
        if !state.slots(id).map(|(slot, tasks)| (slot, tasks.to_vec())).eq(counted) {
            wrong(format!("the slots of service {id}"));
        }
        let tasks = || rows.of_service(id).flat_map(|(_, tasks)| tasks);
        let running = tasks().filter(|task| task.state == TaskState::Running).count();
        if state.running(id) as usize != running {
            wrong(format!("running tasks of service {id}"));
        }
        let is_updating = tasks().any(|task| !has_ended(task) && task.spec_version != service.spec_version);
        if state.is_updating(id) != is_updating {
            wrong(format!("whether service {id} is updating"));
        }
    }
}

fn check_nodes(state: &State, rows: &Rows<'_>, wrong: &mut impl FnMut(String)) {
    for node in state.nodes() {
        if state.node_by_name(&node.name).map(|found| found.id) != Some(node.id) {
            wrong(format!("the name of node {}", node.id));
        }
    }
    let nodes: BTreeSet<NodeId> = rows.nodes.keys().chain(rows.by_node.keys()).copied().collect();
    for id in nodes {
        let of_node = rows.by_node.get(&id).into_iter().flatten().copied();
        if !state.tasks_of_node(id).map(|task| task.id).eq(of_node) {
            wrong(format!("tasks of node {id}"));
        }
        check_use(state, id, rows.holders.get(&id).map_or(&[], Vec::as_slice), wrong);
    }
}

fn check_use(state: &State, id: NodeId, tasks: &[&Task], wrong: &mut impl FnMut(String)) {
    let told = state.node_use(id);
    if told.reserved != sum(tasks) || state.reserved_on(id) != told.reserved || told.tasks as usize != tasks.len() {
        wrong(format!("what is reserved on node {id}"));
    }
    let mut by_service: BTreeMap<ServiceId, u32> = BTreeMap::new();
    let mut ports: BTreeMap<(u16, Protocol), TaskId> = BTreeMap::new();
    for task in tasks {
        *by_service.entry(task.service).or_default() += 1;
        ports.extend(task.ports.iter().map(|port| ((port.host_port, port.protocol), task.id)));
    }
    if told.by_service != by_service {
        wrong(format!("tasks of each service on node {id}"));
    }
    let are_told = ports.iter().all(|((port, protocol), task)| state.port_holder(id, *port, *protocol) == Some(*task));
    if told.ports != ports || !are_told {
        wrong(format!("ports of node {id}"));
    }
}
