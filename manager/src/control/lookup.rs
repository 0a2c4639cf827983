//! The row that a reference in a request names.
//!
//! | reference | to read | to change or remove |
//! | --- | --- | --- |
//! | the full id | yes | yes |
//! | the name; of a task SERVICE.SLOT, or SERVICE if it has one replica | yes | yes |
//! | the beginning of exactly one id, at least [`MIN_PREFIX_CHARS`] characters | yes | no |
//!
//! The call decides which column applies, so that no client can remove by a prefix. Ids consist of the same characters as
//! names: a name that does not exist must not reach a row whose id happens to begin with it.

use goat_core::model::{Node, Task, TaskId};
use goat_core::state::{Service, State};
use tonic::Status;

/// Shortest beginning of an id that is accepted where rows are read.
const MIN_PREFIX_CHARS: usize = 6;
/// Longest reference, page token or address in a request. Names and ids are shorter; refusals repeat what was asked for.
pub const MAX_REFERENCE_BYTES: usize = 256;

/// The use that a call makes of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Change,
}

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

/// A row that may be the one: its id, its name and itself.
type Candidate<'a, T> = (String, &'a str, &'a T);

/// The only one of `rows` whose id begins with the reference.
fn by_prefix<'a, T>(
    what: &str,
    reference: &str,
    access: Access,
    mut rows: impl Iterator<Item = Candidate<'a, T>>,
) -> Result<&'a T, Status> {
    let missing = || format!("no {what} {reference:?}");
    if reference.len() < MIN_PREFIX_CHARS {
        return Err(Status::not_found(missing()));
    }
    let mut next = || rows.find(|(id, ..)| id.starts_with(reference));
    let Some((id, name, row)) = next() else { return Err(Status::not_found(missing())) };
    if access == Access::Change {
        return Err(Status::not_found(format!(
            "{}: to change or remove one, give its name or its full id ({name:?} has the id {id})",
            missing()
        )));
    }
    match next() {
        None => Ok(row),
        Some(_) => Err(Status::invalid_argument(format!(
            "more than one {what} has an id that begins with {reference:?}; give more of the id"
        ))),
    }
}

pub(super) fn service<'a>(state: &'a State, reference: &str, access: Access) -> Result<&'a Service, Status> {
    check_length("reference of a service", reference)?;
    let by_id = reference.parse().ok().and_then(|id| state.service(id));
    match by_id.or_else(|| state.service_by_name(reference)) {
        Some(service) => Ok(service),
        None => {
            let rows = state.services().map(|row| (row.id.to_string(), row.spec.name.as_str(), row));
            by_prefix("service", reference, access, rows)
        }
    }
}

pub(super) fn node<'a>(state: &'a State, reference: &str, access: Access) -> Result<&'a Node, Status> {
    check_length("reference of a node", reference)?;
    let by_id = reference.parse().ok().and_then(|id| state.node(id));
    match by_id.or_else(|| state.node_by_name(reference)) {
        Some(node) => Ok(node),
        None => {
            let rows = state.nodes().map(|row| (row.id.to_string(), row.name.as_str(), row));
            by_prefix("node", reference, access, rows)
        }
    }
}

/// The task, which is only read.
pub(super) fn task<'a>(state: &'a State, reference: &str) -> Result<&'a Task, Status> {
    if let Some(task) = reference.parse().ok().and_then(|id| state.task(id)) {
        return Ok(task);
    }
    if let Some(task) = slot(state, reference)?.and_then(|tasks| tasks.last().copied()) {
        return Ok(task);
    }
    let found = TaskId::beginning_with(reference).into_iter().flat_map(|ids| state.tasks_in(ids));
    by_prefix("task", reference, Access::Read, found.map(|task| (task.id.to_string(), "", task)))
}

/// The task whose output is shown: of a slot, the newest that was given a node. The newest one of all waits for its next
/// attempt most of the time when tasks fail over and over.
pub(super) fn task_with_output<'a>(state: &'a State, reference: &str) -> Result<&'a Task, Status> {
    let named = task(state, reference)?;
    if reference == named.id.to_string() || named.node.is_some() {
        return Ok(named);
    }
    let tasks = state.slot(named.service, named.slot).iter().rev().filter_map(|id| state.task(*id));
    Ok(tasks.into_iter().find(|task| task.node.is_some()).unwrap_or(named))
}

/// The tasks of SERVICE.SLOT, or of a SERVICE with a single slot, the oldest first; `None` if the reference is neither.
fn slot<'a>(state: &'a State, reference: &str) -> Result<Option<Vec<&'a Task>>, Status> {
    check_length("reference of a task", reference)?;
    let tasks = |ids: &[TaskId]| ids.iter().filter_map(|id| state.task(*id)).collect();
    if let Some(service) = state.service_by_name(reference) {
        let mut slots = state.slots(service.id);
        return match (slots.next(), slots.next()) {
            (None, _) => Err(Status::not_found(format!("no task {reference:?}: that service has no task"))),
            (Some((_, ids)), None) => Ok(Some(tasks(ids))),
            (Some((first, _)), Some(_)) => Err(Status::not_found(format!(
                "no task {reference:?}: that service has several, as {reference}.{first}; `goatctl service ps {reference}` \
                 lists them"
            ))),
        };
    }
    let Some((name, number)) = reference.rsplit_once('.') else { return Ok(None) };
    let Some((service, number)) = state.service_by_name(name).zip(number.parse().ok()) else { return Ok(None) };
    Ok(Some(tasks(state.slot(service.id, number))).filter(|tasks: &Vec<_>| !tasks.is_empty()))
}
