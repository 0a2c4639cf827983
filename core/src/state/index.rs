//! Indexes over the tables: derived, never stored. Every change of a row passes through here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{Desired, NodeId, Protocol, Resources, ServiceId, Task, TaskId, TaskState};

#[derive(Debug, Default)]
pub(super) struct Indexes {
    pub service_names: HashMap<String, ServiceId>,
    pub node_names: HashMap<String, NodeId>,
    /// Oldest first within a slot.
    pub slots: HashMap<ServiceId, BTreeMap<u32, Vec<TaskId>>>,
    /// The use of each spec, by service and version; specs without a task are left out.
    pub spec_use: HashMap<(ServiceId, u64), SpecUse>,
    pub by_node: HashMap<NodeId, BTreeSet<TaskId>>,
    pub pending: BTreeSet<TaskId>,
    pub running: HashMap<ServiceId, u32>,
    pub node_use: HashMap<NodeId, NodeUse>,
    /// States without a task are left out.
    pub by_state: BTreeMap<TaskState, usize>,
}

/// The number of tasks that run a spec.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SpecUse {
    /// Ended ones that are remembered included.
    tasks: u32,
    live: u32,
}

/// What a node's tasks hold: those that are assigned and not known to have ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeUse {
    pub reserved: Resources,
    pub ports: BTreeMap<(u16, Protocol), TaskId>,
    pub tasks: u32,
    pub by_service: BTreeMap<ServiceId, u32>,
}

impl NodeUse {
    /// Adds what a task holds.
    pub fn add(&mut self, task: &Task) {
        self.reserved = self.reserved.plus(task.reservations);
        for port in &task.ports {
            self.ports.insert((port.host_port, port.protocol), task.id);
        }
        self.tasks += 1;
        *self.by_service.entry(task.service).or_default() += 1;
    }

    fn remove(&mut self, task: &Task) {
        self.reserved = self.reserved.minus(task.reservations);
        for port in &task.ports {
            self.ports.remove(&(port.host_port, port.protocol));
        }
        self.tasks -= 1;
        if let Some(count) = self.by_service.get_mut(&task.service) {
            *count -= 1;
            if *count == 0 {
                self.by_service.remove(&task.service);
            }
        }
    }
}

fn is_pending(task: &Task) -> bool {
    task.node.is_none() && task.state == TaskState::Pending && task.desired == Desired::Running
}

impl Indexes {
    /// A task's row was written.
    pub fn add_task(&mut self, task: &Task, attempt_of: impl Fn(TaskId) -> u32) {
        let slot = self.slots.entry(task.service).or_default().entry(task.slot).or_default();
        let at = slot.partition_point(|id| attempt_of(*id) < task.attempt);
        slot.insert(at, task.id);
        let spec_use = self.spec_use.entry((task.service, task.spec_version)).or_default();
        spec_use.tasks += 1;
        spec_use.live += u32::from(!task.state.is_terminal());
        if let Some(node) = task.node {
            self.by_node.entry(node).or_default().insert(task.id);
            if task.holds_resources() {
                self.node_use.entry(node).or_default().add(task);
            }
        }
        if is_pending(task) {
            self.pending.insert(task.id);
        }
        if task.state == TaskState::Running {
            *self.running.entry(task.service).or_default() += 1;
        }
        *self.by_state.entry(task.state).or_default() += 1;
    }

    /// A task's row is about to be written anew or to go.
    pub fn remove_task(&mut self, task: &Task) {
        if let Some(slots) = self.slots.get_mut(&task.service) {
            if let Some(slot) = slots.get_mut(&task.slot) {
                slot.retain(|id| *id != task.id);
                if slot.is_empty() {
                    slots.remove(&task.slot);
                }
            }
            if slots.is_empty() {
                self.slots.remove(&task.service);
            }
        }
        if let Some(node) = task.node {
            if let Some(tasks) = self.by_node.get_mut(&node) {
                tasks.remove(&task.id);
                if tasks.is_empty() {
                    self.by_node.remove(&node);
                }
            }
            if task.holds_resources()
                && let Some(node_use) = self.node_use.get_mut(&node)
            {
                node_use.remove(task);
                if node_use.tasks == 0 {
                    self.node_use.remove(&node);
                }
            }
        }
        self.pending.remove(&task.id);
        if task.state == TaskState::Running
            && let Some(count) = self.running.get_mut(&task.service)
        {
            *count -= 1;
            if *count == 0 {
                self.running.remove(&task.service);
            }
        }
        self.uncount(task.state);
        self.uncount_spec(task);
    }

    /// Whether a task of this spec has not ended.
    pub fn is_live(&self, spec: (ServiceId, u64)) -> bool {
        self.spec_use.get(&spec).is_some_and(|spec_use| spec_use.live > 0)
    }

    fn uncount_spec(&mut self, task: &Task) {
        let spec = (task.service, task.spec_version);
        if let Some(spec_use) = self.spec_use.get_mut(&spec) {
            spec_use.tasks -= 1;
            spec_use.live -= u32::from(!task.state.is_terminal());
            if spec_use.tasks == 0 {
                self.spec_use.remove(&spec);
            }
        }
    }

    fn uncount(&mut self, state: TaskState) {
        if let Some(count) = self.by_state.get_mut(&state) {
            *count -= 1;
            if *count == 0 {
                self.by_state.remove(&state);
            }
        }
    }
}
