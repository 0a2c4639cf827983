//! Tasks: list, look at one.

use goat_core::model::Task;
use goat_core::scheduler;
use goat_core::state::State;
use goat_proto::{convert, v1};
use tonic::Status;

use super::{Control, lookup, seen};

fn shown(state: &State, task: &Task) -> v1::Task {
    let service = state.service(task.service).map_or("", |service| &service.spec.name);
    let node = task.node.and_then(|node| state.node(node)).map_or("", |node| &node.name);
    convert::task(task, service, node)
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
        let tasks = match (request.service.as_str(), node) {
            ("", None) => state.tasks().filter(is_shown).map(|task| shown(&state, task)).collect(),
            ("", Some(node)) => state.tasks_of_node(node).filter(is_shown).map(|task| shown(&state, task)).collect(),
            (reference, _) => {
                let service = lookup::service(&state, reference)?.id;
                state.tasks_of_service(service).filter(is_shown).map(|task| shown(&state, task)).collect()
            }
        };
        Ok(v1::ListTasksReply { read: Some(read), tasks })
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
