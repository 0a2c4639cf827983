//! What a client means by a reference: a name, an id, or a prefix of an id that fits one only; for a task, also its slot.

use goat_core::model::{Node, Task, TaskId};
use goat_core::state::{Service, State};
use tonic::Status;

const MIN_PREFIX_CHARS: usize = 2;
/// Longest reference, page token or address in a request. Names and ids are shorter; refusals repeat what was asked for.
pub const MAX_REFERENCE_BYTES: usize = 256;

/// Refuses a text that is longer than any name, id, address or token.
pub(super) fn check_length(field: &str, text: &str) -> Result<(), Status> {
    if text.len() <= MAX_REFERENCE_BYTES {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "{field}: {} bytes are over the limit of {MAX_REFERENCE_BYTES} for a name, an id or an address",
        text.len()
    )))
}

fn one<'a, T>(what: &str, reference: &str, rows: impl Iterator<Item = (String, &'a T)>) -> Result<&'a T, Status> {
    let mut found = None;
    if reference.len() >= MIN_PREFIX_CHARS {
        for (id, row) in rows {
            if !id.starts_with(reference) {
                continue;
            }
            if found.replace(row).is_some() {
                return Err(Status::invalid_argument(format!(
                    "more than one {what} begins with {reference:?}; give more of the id"
                )));
            }
        }
    }
    found.ok_or_else(|| Status::not_found(format!("no {what} {reference:?}")))
}

pub(super) fn service<'a>(state: &'a State, reference: &str) -> Result<&'a Service, Status> {
    check_length("reference of a service", reference)?;
    match state.service_by_name(reference) {
        Some(service) => Ok(service),
        None => one("service", reference, state.services().map(|service| (service.id.to_string(), service))),
    }
}

pub(super) fn node<'a>(state: &'a State, reference: &str) -> Result<&'a Node, Status> {
    check_length("reference of a node", reference)?;
    match state.node_by_name(reference) {
        Some(node) => Ok(node),
        None => one("node", reference, state.nodes().map(|node| (node.id.to_string(), node))),
    }
}

pub(super) fn task<'a>(state: &'a State, reference: &str) -> Result<&'a Task, Status> {
    check_length("reference of a task", reference)?;
    if let Some(task) = reference.parse().ok().and_then(|id| state.task(id)) {
        return Ok(task);
    }
    if let Some(task) = newest_in_slot(state, reference) {
        return Ok(task);
    }
    let found = TaskId::beginning_with(reference).into_iter().flat_map(|ids| state.tasks_in(ids));
    one("task", reference, found.map(|task| (task.id.to_string(), task)))
}

/// SERVICE.SLOT.
fn newest_in_slot<'a>(state: &'a State, reference: &str) -> Option<&'a Task> {
    let (name, slot) = reference.rsplit_once('.')?;
    let service = state.service_by_name(name)?;
    state.task(*state.slot(service.id, slot.parse().ok()?).last()?)
}
