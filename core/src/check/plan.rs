//! Whether a plan, carried out on the state it was made on, would do only what may be done. Works from rows.

use std::collections::{BTreeMap, BTreeSet};

use super::{AMOUNTS, Rows, Violation, has_ended, sum};
use crate::model::{
    Availability, Desired, NodeId, NodeState, Port, Protocol, Resources, ServiceId, Task, TaskId, TaskState,
};
use crate::plan::Plan;
use crate::state::State;
use crate::state::command::{NewTask, Step};

/// Judges a plan on the state it was made on: no step may be refused, none may repeat another, none may give away what
/// is not there. O((rows + steps) log rows).
pub fn check_plan(state: &State, plan: &Plan) -> Vec<Violation> {
    let tasks = state.tasks().map(|task| (task.id, task)).collect();
    let mut judge = Judge {
        state,
        rows: Rows::new(state),
        tasks,
        touched: BTreeSet::new(),
        slots: BTreeSet::new(),
        given: BTreeMap::new(),
    };
    let judged = plan.steps.iter().enumerate().filter_map(|(at, step)| {
        judge.step(step).err().map(|problem| Violation::Step { step: at, problem: format!("{problem}: {step:?}") })
    });
    judged.collect()
}

struct Judge<'a> {
    state: &'a State,
    rows: Rows<'a>,
    tasks: BTreeMap<TaskId, &'a Task>,
    touched: BTreeSet<TaskId>,
    slots: BTreeSet<(ServiceId, u32)>,
    /// What this plan has given away on a node so far, with what was held before.
    given: BTreeMap<NodeId, Given>,
}

#[derive(Default)]
struct Given {
    reserved: Resources,
    ports: BTreeSet<(u16, Protocol)>,
    of_service: BTreeMap<ServiceId, u32>,
}

impl Given {
    fn add(&mut self, service: ServiceId, reservations: Resources, ports: &[Port]) {
        self.reserved = self.reserved.plus(reservations);
        self.ports.extend(ports.iter().map(|port| (port.host_port, port.protocol)));
        *self.of_service.entry(service).or_default() += 1;
    }
}

type Verdict = Result<(), &'static str>;

fn must(holds: bool, problem: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(problem) }
}

impl<'a> Judge<'a> {
    fn step(&mut self, step: &Step) -> Verdict {
        match step {
            Step::CreateTask(new) => self.create(new),
            Step::Assign { task, seen_version, node } => {
                let task = self.task(*task, *seen_version)?;
                must(
                    task.state == TaskState::Pending && task.desired == Desired::Running,
                    "assigns what is not pending",
                )?;
                self.give(*node, task.service, task.spec_version, (task.reservations, &task.ports))
            }
            Step::Explain { task, seen_version, error } => {
                let task = self.task(*task, *seen_version)?;
                must(task.state == TaskState::Pending, "explains what is not pending")?;
                must(task.error.as_ref() != Some(error), "says again what was said")
            }
            Step::Desire { task, seen_version, desired, .. } => {
                let task = self.task(*task, *seen_version)?;
                must(task.desired < *desired, "moves a desired state nowhere or back")?;
                must(!has_ended(task), "wants something of a task that has ended")
            }
            Step::Forget { task, seen_version } => {
                let task = self.task(*task, *seen_version)?;
                must(has_ended(task), "forgets a task that may run")
            }
            Step::ForgetService { service, seen_version } => {
                let row = self.rows.services.get(service).ok_or("forgets a service that is not there")?;
                must(row.removed, "forgets a service that was not removed")?;
                must(row.version == *seen_version, "saw another version")?;
                let mut left = self.rows.of_service(*service).flat_map(|(_, tasks)| tasks);
                must(
                    left.all(|task| self.touched.contains(&task.id) && has_ended(task)),
                    "forgets a service before its tasks",
                )
            }
        }
    }

    /// Each task is touched once in a plan: a second step would have seen a version that the first replaced.
    fn task(&mut self, id: TaskId, seen_version: u64) -> Result<&'a Task, &'static str> {
        let task = *self.tasks.get(&id).ok_or("names a task that is not there")?;
        must(task.version == seen_version, "saw another version")?;
        must(self.touched.insert(id), "touches a task again")?;
        Ok(task)
    }

    fn create(&mut self, new: &NewTask) -> Verdict {
        let row = *self.rows.services.get(&new.service).ok_or("creates for a service that is not there")?;
        must(!row.removed, "creates for a removed service")?;
        must(row.version == new.seen_version, "saw another version")?;
        must(new.slot >= 1 && new.slot <= row.spec.replicas(), "creates beyond the count")?;
        must(self.slots.insert((new.service, new.slot)), "creates twice in a slot")?;
        let is_taken = self.tasks.contains_key(&new.id) || !self.touched.insert(new.id);
        must(!is_taken, "creates under an id that is taken")?;
        let of_slot = || self.rows.by_slot.get(&(new.service, new.slot)).into_iter().flatten().copied();
        must(of_slot().all(has_ended), "creates beside a task that may run")?;
        let newest = of_slot().max_by_key(|task| task.attempt);
        must(newest.map(|task| task.id) == new.previous, "does not follow the newest of its slot")?;
        must(newest.map_or(0, |task| task.attempt).checked_add(1) == Some(new.attempt), "miscounts its attempts")?;
        match new.node {
            None => Ok(()),
            Some(node) => self.give(node, new.service, row.spec_version, (row.spec.reservations, &row.spec.ports)),
        }
    }

    fn give(
        &mut self,
        id: NodeId,
        service: ServiceId,
        spec_version: u64,
        (wanted, ports): (Resources, &[Port]),
    ) -> Verdict {
        must(self.state.restored().is_none(), "gives something out though workers may run what is not known")?;
        let node = *self.rows.nodes.get(&id).ok_or("gives to a node that is not there")?;
        must(node.state == NodeState::Ready, "gives to a node that is not ready")?;
        must(node.availability == Availability::Active, "gives to a node that drains")?;
        must(node.inventory.conditions.is_empty(), "gives to a node with a condition")?;
        let row = *self.rows.services.get(&service).ok_or("places for a service that is not there")?;
        must(!row.removed, "gives a task of a removed service to a node")?;
        if row.spec_version == spec_version {
            must(node.inventory.drivers.contains(&row.spec.driver), "gives to a node without the driver")?;
        }
        let holders = self.rows.holders.get(&id).map_or(&[][..], Vec::as_slice);
        let given = self.given.entry(id).or_insert_with(|| held(holders));
        let total = node.inventory.total;
        let after = given.reserved.plus(wanted);
        let overdraws = |amount: fn(&Resources) -> u64| amount(&wanted) > 0 && amount(&after) > amount(&total);
        must(!AMOUNTS.into_iter().any(overdraws), "gives away more than the node has")?;
        must(
            !ports.iter().any(|port| given.ports.contains(&(port.host_port, port.protocol))),
            "gives a port away twice",
        )?;
        let most = row.spec.placement.max_per_node;
        let here = given.of_service.get(&service).copied().unwrap_or(0);
        must(most == 0 || here < most, "puts too many of a service on a node")?;
        given.add(service, wanted, ports);
        Ok(())
    }
}

fn held(tasks: &[&Task]) -> Given {
    let mut given = Given::default();
    for task in tasks {
        given.add(task.service, Resources::ZERO, &task.ports);
    }
    given.reserved = sum(tasks);
    given
}
