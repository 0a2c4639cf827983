//! Tasks: list, look at one.

use goat_core::model::{Task, TaskId};
use goat_core::state::State;
use goat_core::{orchestrator, scheduler};
use goat_proto::{convert, v1};
use tonic::Status;

use super::pages::{after, page, parse_slot, slot_token};
use super::{Control, lookup, seen};

fn shown(state: &State, task: &Task) -> v1::Task {
    let service = state.service(task.service).map_or("", |service| &service.spec.name);
    let node = task.node.and_then(|node| state.node(node)).map_or("", |node| &node.name);
    let waits_for = orchestrator::waits_for(state, task).unwrap_or_default();
    v1::Task { waits_for, ..convert::task(task, service, node) }
}

impl Control {
    pub(super) async fn list_tasks_(&self, request: v1::ListTasksRequest) -> Result<v1::ListTasksReply, Status> {
        let (group, read) = self.reading(request.read).await?;
        let state = group.view().read();
        let read = seen(read, &state);
        let node = match request.node.as_str() {
            "" => None,
            reference => Some(lookup::node(&state, reference)?.id),
        };
        let is_shown =
            |task: &&Task| (request.all || !task.state.is_terminal()) && (node.is_none() || task.node == node);
        let (show, id) = (|task: &Task| shown(&state, task), |task: &Task| task.id.to_string());
        let (tasks, next) = match (request.service.as_str(), node) {
            ("", None) => page(state.tasks_in(after::<TaskId>(&request.page)?).filter(is_shown), show, id),
            ("", Some(node)) => {
                page(state.tasks_of_node_in(node, after::<TaskId>(&request.page)?).filter(is_shown), show, id)
            }
            (reference, _) => {
                let service = lookup::service(&state, reference)?.id;
                let from = parse_slot(&request.page)?;
                let slots = state.slots_in(service, from.0..).flat_map(|(_, tasks)| tasks);
                let tasks = slots.filter_map(|id| state.task(*id)).filter(|task| (task.slot, task.attempt) > from);
                page(tasks.filter(is_shown), show, |task: &Task| slot_token((task.slot, task.attempt)))
            }
        };
        Ok(v1::ListTasksReply { read: Some(read), tasks, next })
    }

    pub(super) async fn get_task_(&self, request: v1::GetTaskRequest) -> Result<v1::TaskDetail, Status> {
        let (group, _) = self.reading(request.read).await?;
        let state = group.view().read();
        let task = lookup::task(&state, &request.reference)?;
        let filters = match task.node {
            None if !task.state.is_terminal() => scheduler::explain(&state, task.id),
            _ => Vec::new(),
        };
        let earlier = state.slot(task.service, task.slot).iter().rev().filter_map(|id| state.task(*id));
        Ok(v1::TaskDetail {
            task: Some(shown(&state, task)),
            spec: state.spec_of(task).map(|spec| v1::ServiceSpec::from(&**spec)),
            filters: filters
                .into_iter()
                .map(|count| v1::FilterCount { filter: count.filter.to_owned(), nodes: count.nodes, text: count.text })
                .collect(),
            history: earlier.filter(|other| other.attempt < task.attempt).map(|other| shown(&state, other)).collect(),
        })
    }
}
