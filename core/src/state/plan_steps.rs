//! Applying what planners decided. Each step is checked on the state as it is now; a stale one is skipped.

use super::Service;
use super::apply::Apply;
use super::command::{Answer, NewTask, Step};
use crate::model::{Availability, Desired, NodeId, NodeState, Task, TaskId, TaskState};

impl Apply<'_> {
    pub(super) fn plan(&mut self, steps: &[Step]) -> Answer {
        let (mut applied, mut stale) = (0, 0);
        for step in steps {
            if self.step(step) { applied += 1 } else { stale += 1 }
        }
        Answer::Counted { applied, stale }
    }

    fn step(&mut self, step: &Step) -> bool {
        match step {
            Step::CreateTask(new) => self.create_task(new),
            Step::Assign { task, seen_version, node } => self.assign(*task, *seen_version, *node),
            Step::Explain { task, seen_version, error } => {
                let Some(task) = self.seen(*task, *seen_version) else {
                    return false;
                };
                if task.state != TaskState::Pending || task.error.as_deref() == Some(error) {
                    return false;
                }
                let mut task = task.clone();
                task.error = Some(error.clone());
                let cause = task.cause;
                self.put_task(task, cause);
                true
            }
            Step::Desire { task, seen_version, desired, cause } => {
                self.seen(*task, *seen_version).is_some() && self.desire(*task, *desired, *cause)
            }
            Step::Forget { task, seen_version } => {
                let ended = self.seen(*task, *seen_version).is_some_and(|task| task.state.is_terminal());
                if ended {
                    self.forget_task(*task);
                }
                ended
            }
            Step::ForgetService { service, seen_version } => {
                let Some(row) = self.state.service(*service) else {
                    return false;
                };
                let gone = row.removed && row.version == *seen_version && self.state.slots(*service).next().is_none();
                if gone {
                    self.forget_service(*service);
                }
                gone
            }
        }
    }

    fn seen(&self, task: TaskId, seen_version: u64) -> Option<&Task> {
        self.state.task(task).filter(|task| task.version == seen_version)
    }

    /// A slot gets a new task only when none of its tasks can run any more.
    fn create_task(&mut self, new: &NewTask) -> bool {
        let Some(service) = self.state.service(new.service) else {
            return false;
        };
        let is_wanted = !service.removed
            && service.version == new.seen_version
            && (1..=service.spec.replicas()).contains(&new.slot);
        let earlier = self.state.slot(new.service, new.slot);
        let is_free = earlier.last().copied() == new.previous
            && earlier.iter().filter_map(|id| self.state.task(*id)).all(|task| task.state.is_terminal());
        let previous = new.previous.and_then(|id| self.state.task(id));
        let is_next = previous.map_or(0, |previous| previous.attempt).checked_add(1) == Some(new.attempt);
        if !is_wanted || !is_free || !is_next || self.state.task(new.id).is_some() {
            return false;
        }
        let mut task = new.row(service, self.now_ms);
        if let Some(node) = new.node.filter(|node| self.may_begin() && self.can_begin(*node, &task)) {
            self.give(&mut task, node);
        }
        self.put_task(task, new.cause);
        true
    }

    fn assign(&mut self, id: TaskId, seen_version: u64, node: NodeId) -> bool {
        let Some(task) = self.seen(id, seen_version) else {
            return false;
        };
        let is_pending = task.state == TaskState::Pending && task.desired == Desired::Running;
        if !is_pending || !self.may_begin() || !self.can_begin(node, task) {
            return false;
        }
        let mut task = task.clone();
        let cause = task.cause;
        self.give(&mut task, node);
        self.put_task(task, cause);
        true
    }

    /// Somebody may run what these rows do not know of.
    fn may_begin(&self) -> bool {
        self.state.restored().is_none()
    }

    fn give(&self, task: &mut Task, node: NodeId) {
        task.node = Some(node);
        task.state = TaskState::Assigned;
        task.error = None;
        task.fencing_token = self.at.index;
    }

    /// Whether a task may begin on a node as both are now. What its spec asks of the node may have changed since the plan.
    fn can_begin(&self, id: NodeId, task: &Task) -> bool {
        self.can_take(id, task) && (!self.state.is_bounded() || self.suits(id, task))
    }

    fn suits(&self, id: NodeId, task: &Task) -> bool {
        let is_wanted = self.state.service(task.service).is_some_and(|service| !service.removed);
        let (Some(node), Some(spec)) = (self.state.node(id), self.state.spec_of(task)) else { return false };
        let node_use = self.state.node_use(id);
        let here = node_use.by_service.get(&task.service).copied().unwrap_or(0);
        let most = spec.placement.max_per_node;
        is_wanted
            && node.inventory.conditions.is_empty()
            && node.inventory.drivers.contains(&spec.driver)
            && spec.placement.constraints.iter().all(|constraint| constraint.holds_on(node))
            && (most == 0 || here < most)
            && node_use.tasks < node.inventory.task_limit()
    }

    /// What must hold whatever a planner thought: the node is there, and nothing is given away twice.
    pub(super) fn can_take(&self, id: NodeId, task: &Task) -> bool {
        let Some(node) = self.state.node(id) else { return false };
        node.state == NodeState::Ready && node.availability == Availability::Active && self.has_room(id, task)
    }

    pub(super) fn has_room(&self, id: NodeId, task: &Task) -> bool {
        let Some(node) = self.state.node(id) else { return false };
        let node_use = self.state.node_use(id);
        let free = node.inventory.total.minus(node_use.reserved);
        task.reservations.fits_into(free)
            && task.ports.iter().all(|port| !node_use.ports.contains_key(&(port.host_port, port.protocol)))
    }
}

impl NewTask {
    /// The row that it makes, before it has a node.
    pub fn row(&self, service: &Service, created_at_ms: u64) -> Task {
        Task {
            id: self.id,
            service: self.service,
            slot: self.slot,
            spec_version: service.spec_version,
            node: None,
            desired: Desired::Running,
            state: TaskState::Pending,
            attempt: self.attempt,
            failures: self.failures,
            not_before_ms: self.not_before_ms,
            cause: self.cause,
            previous: self.previous,
            created_at_ms,
            started_at_ms: None,
            finished_at_ms: None,
            exit_code: None,
            reason: None,
            error: None,
            container_id: None,
            reservations: service.spec.reservations,
            ports: service.spec.ports.clone(),
            fencing_token: 0,
            stop_cause: None,
            fenced: false,
            returned: 0,
            version: 0,
        }
    }
}
