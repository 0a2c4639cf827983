//! Tasks: list, look at one.

use std::cell::RefCell;
use std::collections::HashMap;

use goat_core::model::{Availability, Node, NodeId, ServiceId, Task, TaskId, TaskState};
use goat_core::state::State;
use goat_core::{orchestrator, scheduler};
use goat_proto::{convert, v1};
use tonic::Status;

use super::lookup::Access;
use super::pages::{Page, after, parse_slot, slot_token};
use super::{Control, lookup, seen};

/// Kinds of pending tasks on one page for which nodes are counted; each takes a look at all nodes. Tasks of further kinds are
/// shown with the reason in their row, which has no counts.
const MAX_COUNTED_KINDS: usize = 16;

/// How many nodes refuse pending tasks, by service and version of the spec. Rows say only why.
#[derive(Debug, Default)]
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
    let misplaced = orchestrator::is_misplaced(state, task);
    let mut wire = v1::Task { waits_for, misplaced, ..convert::task(task, service, node) };
    if let Some(reason) = reasons.of(state, task) {
        wire.error = reason;
    }
    wire
}

/// Work under one hold of the state's lock, in rows looked at: well below a millisecond. A list whose filter lets few rows
/// through looks at all of them for one page.
const PIECE_WORK: usize = 1_000;

/// Looking at a task that is to leave its node is looking for a node that would take it.
fn work(state: &State, task: &Task) -> usize {
    let is_draining = |node: &Node| node.availability == Availability::Drain;
    let is_leaving = task.node.and_then(|node| state.node(node)).is_some_and(is_draining);
    match is_leaving || orchestrator::is_misplaced(state, task) {
        true => 1 + state.nodes().len() + state.spec_of(task).map_or(0, |spec| spec.replicas() as usize),
        false => 1,
    }
}

/// The tasks that a list is about.
#[derive(Debug)]
struct Filter {
    service: Option<ServiceId>,
    node: Option<NodeId>,
    has_ended_ones: bool,
    reasons: Reasons,
}

impl Filter {
    fn of(state: &State, request: &v1::ListTasksRequest) -> Result<Self, Status> {
        let node = match request.node.as_str() {
            "" => None,
            reference => Some(lookup::node(state, reference, Access::Read)?.id),
        };
        let service = match request.service.as_str() {
            "" => None,
            reference => Some(lookup::service(state, reference, Access::Read)?.id),
        };
        Ok(Self { service, node, has_ended_ones: request.all, reasons: Reasons::default() })
    }

    fn fits(&self, task: &Task) -> bool {
        (self.has_ended_ones || !task.state.is_terminal()) && self.node.is_none_or(|node| task.node == Some(node))
    }

    /// Adds the next rows to the page, as many as one hold of the lock is good for.
    fn proceed(&self, state: &State, page: &mut Page<v1::Task>) -> Result<(), Status> {
        let id = |task: &Task| task.id.to_string();
        match (self.service, self.node) {
            (None, None) => self.fill(state, state.tasks_in(after::<TaskId>(page.token())?), id, page),
            (None, Some(node)) => {
                self.fill(state, state.tasks_of_node_in(node, after::<TaskId>(page.token())?), id, page);
            }
            (Some(service), _) => {
                let from = parse_slot(page.token())?;
                let slots = state.slots_in(service, from.0..).flat_map(|(_, tasks)| tasks);
                let tasks = slots.filter_map(|id| state.task(*id)).filter(|task| (task.slot, task.attempt) > from);
                self.fill(state, tasks, |task| slot_token((task.slot, task.attempt)), page);
            }
        }
        Ok(())
    }

    fn fill<'a>(
        &self,
        state: &State,
        tasks: impl Iterator<Item = &'a Task>,
        token: impl Fn(&Task) -> String,
        page: &mut Page<v1::Task>,
    ) {
        let (mut done, mut tasks) = (0, tasks.peekable());
        while let Some(task) = tasks.next() {
            done += 1;
            if self.fits(task) {
                done += work(state, task);
                page.push(shown(state, task, &self.reasons));
            }
            if (done >= PIECE_WORK || page.is_full()) && tasks.peek().is_some() {
                return page.pause(token(task));
            }
        }
        page.end();
    }
}

impl Control {
    pub(super) async fn list_tasks_(&self, request: v1::ListTasksRequest) -> Result<v1::ListTasksReply, Status> {
        let (group, read) = self.reading(request.read).await?;
        let (filter, read) = {
            let state = group.view().read();
            (Filter::of(&state, &request)?, seen(read, &state))
        };
        let mut page = Page::after(request.page);
        while page.wants_more() {
            filter.proceed(&group.view().read(), &mut page)?;
            tokio::task::yield_now().await;
        }
        let (tasks, next) = page.finish();
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
