//! How many tasks a cluster can hold, and whether a change asks for more. Checked by the manager that receives a change,
//! before it is proposed; `apply` does not check it, so a change that raced with another one is not refused later. The
//! scheduler's filter `max-tasks` bounds each node in any case.

use crate::model::{NodeState, ServiceId};
use crate::state::State;

/// Most tasks that services may ask for while the cluster has no worker: as many as `testcluster bench scale` measures.
pub const MAX_TASKS_WITHOUT_NODES: u64 = 300_000;

/// How many tasks the nodes of a cluster can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Nodes that were counted: those that are not down, or all if each one is down.
    pub nodes: usize,
    pub tasks: u64,
}

/// A change would make more tasks than the cluster can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("replicas: {asked} would make {total} tasks, more than the {} {}; {} at most {left}", .capacity.tasks, holder(.capacity), remedy(.capacity))]
pub struct Exceeded {
    pub asked: u32,
    pub total: u64,
    pub capacity: Capacity,
    /// Most replicas that the service may have.
    pub left: u64,
}

fn holder(capacity: &Capacity) -> String {
    match capacity.nodes {
        0 => "that a cluster without workers accepts".into(),
        1 => "that the only node of this cluster can hold".into(),
        nodes => format!("that the {nodes} nodes of this cluster can hold"),
    }
}

const fn remedy(capacity: &Capacity) -> &'static str {
    if capacity.nodes == 0 { "add workers, or ask for" } else { "add workers, raise max_tasks on them, or ask for" }
}

/// The capacity of the cluster as it is. Nodes that are disconnected or drain count: they are expected back.
pub fn capacity(state: &State) -> Capacity {
    let is_there = |down: bool| state.nodes().filter(move |node| down || node.state != NodeState::Down);
    let all_down = is_there(false).next().is_none();
    let (mut nodes, mut tasks) = (0, 0);
    for node in is_there(all_down) {
        nodes += 1;
        tasks += u64::from(node.inventory.task_limit());
    }
    if nodes == 0 { Capacity { nodes, tasks: MAX_TASKS_WITHOUT_NODES } } else { Capacity { nodes, tasks } }
}

/// Refuses changes that make more tasks than the cluster can hold. `changes`: the services that change, each with the
/// replicas it has from then on. A change that asks for no more tasks than before is always accepted.
///
/// # Errors
/// [`Exceeded`], which names the first change that is too much.
pub fn check(state: &State, changes: &[(ServiceId, u32)]) -> Result<(), Exceeded> {
    let wanted = |id: ServiceId| {
        let service = state.service(id).filter(|service| !service.removed);
        service.map_or(0, |service| u64::from(service.spec.replicas()))
    };
    if changes.iter().all(|(id, replicas)| u64::from(*replicas) <= wanted(*id)) {
        return Ok(());
    }
    let capacity = capacity(state);
    let now: u64 =
        state.services().filter(|service| !service.removed).map(|service| u64::from(service.spec.replicas())).sum();
    let mut total = changes.iter().fold(now, |total, (id, _)| total - wanted(*id).min(total));
    for &(id, asked) in changes {
        let others = total;
        total += u64::from(asked);
        if total > capacity.tasks && u64::from(asked) > wanted(id) {
            let left = capacity.tasks.saturating_sub(others).max(wanted(id));
            return Err(Exceeded { asked, total, capacity, left });
        }
    }
    Ok(())
}
