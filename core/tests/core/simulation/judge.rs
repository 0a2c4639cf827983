//! What must hold in the simulated world, asked of the machines as well as of the state.

use std::collections::BTreeMap;

use goat_core::model::{Desired, NodeState, RestartCondition, ServiceId, TaskId, TaskState};

use super::World;
use super::machine::Machine;

impl World {
    /// What the machines say, whatever managers believe: a leased slot with two live processes.
    pub(super) fn leased_slot_that_runs_twice(&self) -> Option<String> {
        let mut live: BTreeMap<(ServiceId, u32), u64> = BTreeMap::new();
        for machine in self.machines.iter().filter(|machine| machine.is_up) {
            let leased = machine.processes.values().filter(|process| process.is_alive() && process.is_leased);
            for process in leased {
                let slot = (process.service, process.slot);
                if let Some(other) = live.insert(slot, machine.number) {
                    let (service, slot) = slot;
                    let number = machine.number;
                    return Some(format!("at {} ms {service}.{slot} runs on w{other} and w{number}", self.real_ms));
                }
            }
        }
        None
    }

    /// Each slot runs, rests for good or cannot be placed, in the state and in the world.
    pub(super) fn is_at_rest(&self) -> bool {
        let state = &self.leader.state;
        let is_right = |slot: u32, id: ServiceId| {
            let Some(task) = state.slot(id, slot).last().and_then(|task| state.task(*task)) else {
                return false;
            };
            match task.state {
                TaskState::Running => task.desired == Desired::Running && self.is_in_the_world(task.id),
                TaskState::Complete => {
                    state.spec_of(task).is_some_and(|spec| spec.restart.condition != RestartCondition::Always)
                }
                // Only ports can be short here.
                TaskState::Pending => !task.ports.is_empty() && task.error.is_some(),
                _ => false,
            }
        };
        !self.leader.planner.has_work(self.leader.now_ms)
            && !self.has_orphans()
            && state.nodes().all(|node| node.state == NodeState::Ready)
            && state.services().all(|service| {
                let wanted = service.spec.replicas();
                // An update goes on only when everything runs, so it waits for ports that are short.
                let is_short = state.tasks_of_service(service.id).any(|task| task.state == TaskState::Pending);
                !service.removed
                    && (is_short || !state.is_updating(service.id))
                    && state.slots(service.id).count() == wanted as usize
                    && (1..=wanted).all(|slot| is_right(slot, service.id))
            })
    }

    pub(super) fn what_is_left(&mut self) -> String {
        let services = self.leader.state.services();
        let pictures: Vec<_> = services.map(|service| self.leader.picture(service.id)).collect();
        let has_work = self.leader.planner.has_work(self.leader.now_ms);
        self.leader.elect();
        format!("{pictures:?}; work: {has_work}; a new leader would: {}", self.leader.plan())
    }

    /// Whether something runs that managers know nothing of, or do not want.
    fn has_orphans(&self) -> bool {
        let is_meant = |task| {
            let row = self.leader.state.task(task);
            row.is_some_and(|row| !row.state.is_terminal() && row.desired == Desired::Running)
        };
        let up = self.machines.iter().filter(|machine| machine.is_up);
        let mut live = up.flat_map(|machine| &machine.processes).filter(|(_, process)| process.is_alive());
        live.any(|(task, _)| !is_meant(*task))
    }

    fn is_in_the_world(&self, task: TaskId) -> bool {
        let of =
            |machine: &Machine| machine.processes.get(&task).is_some_and(|process| process.state == TaskState::Running);
        self.machines.iter().filter(|machine| of(machine)).count() == 1
    }
}
