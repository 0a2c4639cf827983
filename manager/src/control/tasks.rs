//! Tasks: list, look at one.

use std::cell::RefCell;
use std::collections::HashMap;

use goat_core::model::{ServiceId, Task, TaskId, TaskState};
use goat_core::state::State;
use goat_core::{orchestrator, scheduler};
use goat_proto::{convert, v1};
use tonic::Status;

use super::pages::{after, page, parse_slot, slot_token};
use super::{Control, lookup, seen};

/// Kinds of pending tasks on one page for which nodes are counted; each takes a look at all nodes. Tasks of further kinds are
/// shown with the reason in their row, which has no counts.
const MAX_COUNTED_KINDS: usize = 16;

/// How many nodes refuse pending tasks, by service and version of the spec. Rows say only why.
#[derive(Default)]
struct Reasons(RefCell<HashMap<(ServiceId, u64), Option<String>>>);

impl Reasons {
    /// The reason of a pending task with counts; None if its row says all that is known.
    fn of(&self, state: &State, task: &Task) -> Option<String> {
        let is_refused =
            task.state == TaskState::Pending && task.error.as_deref()?.starts_with(scheduler::NO_NODE_FITS);
        let (mut kinds, kind) = (self.0.borrow_mut(), (task.service, task.spec_version));
        if !is_refused || (kinds.len() >= MAX_COUNTED_KINDS && !kinds.contains_key(&kind)) {
            return None;
        }
        let explained = || Some(scheduler::explain(state, task.id)).filter(|counts| !counts.is_empty());
        kinds.entry(kind).or_insert_with(|| explained().map(|counts| scheduler::describe(&counts))).clone()
    }
}

fn shown(state: &State, task: &Task, reasons: &Reasons) -> v1::Task {
    let service = state.service(task.service).map_or("", |service| &service.spec.name);
    let node = task.node.and_then(|node| state.node(node)).map_or("", |node| &node.name);
    let waits_for = orchestrator::waits_for(state, task).unwrap_or_default();
    let mut wire = v1::Task { waits_for, ..convert::task(task, service, node) };
    if let Some(reason) = reasons.of(state, task) {
        wire.error = reason;
    }
    wire
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
        let reasons = Reasons::default();
        let (show, id) = (|task: &Task| shown(&state, task, &reasons), |task: &Task| task.id.to_string());
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
        let reasons = Reasons::default();
        let filters = match task.node {
            None if !task.state.is_terminal() => scheduler::explain(&state, task.id),
            _ => Vec::new(),
        };
        let earlier = state.slot(task.service, task.slot).iter().rev().filter_map(|id| state.task(*id));
        Ok(v1::TaskDetail {
            task: Some(shown(&state, task, &reasons)),
            spec: state.spec_of(task).map(|spec| v1::ServiceSpec::from(&**spec)),
            filters: filters
                .into_iter()
                .map(|count| v1::FilterCount { filter: count.filter.to_owned(), nodes: count.nodes, text: count.text })
                .collect(),
            history: earlier
                .filter(|other| other.attempt < task.attempt)
                .map(|other| shown(&state, other, &reasons))
                .collect(),
        })
    }
}
