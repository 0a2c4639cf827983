//! What one worker has been told of its tasks, and what it has to be told next. Pure.
//!
//! A [`Batch`] is taken while the state is held, and made into messages afterwards: encoding the specs of a large node takes
//! milliseconds. Specs are shared: tasks of a batch come in the order of their services, and each message has the spec of a
//! service and version once.

use std::collections::HashMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec;

use goat_core::model::{Desired, NodeId, OnDisconnect, ServiceSpec, Task, TaskId, TaskState};
use goat_core::state::{Service, State};
use goat_proto::v1::{self, manager_message};
use goat_proto::{MAX_MESSAGE_BYTES, convert};
use prost::Message as _;

use crate::traced::{self, Traced};

/// A message with assignments ends with the one that would make it larger. Grants of leases pass between two messages, so
/// a message must not take long on a slow link.
const CHUNK_BYTES: usize = 128 << 10;
/// Ids of removed tasks in one message: 14 bytes each.
const REMOVED_PER_CHUNK: usize = 5_000;
/// Room for what goes with a single message of a full set.
const ENVELOPE_BYTES: usize = 4 << 10;

/// What the worker was told of a task, as far as it can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    desired: Desired,
    on_disconnect: OnDisconnect,
}

/// What the worker has been told.
#[derive(Debug)]
pub(super) struct Book {
    node: NodeId,
    /// The worker puts a full set together from several messages, and knows shared specs.
    is_chunked: bool,
    sequence: u64,
    told: HashMap<TaskId, Told>,
}

/// One task of a batch.
#[derive(Debug)]
struct Item {
    assignment: v1::Assignment,
    spec: Arc<ServiceSpec>,
}

/// News for the worker, not encoded yet.
#[derive(Debug)]
pub(super) struct Batch {
    /// The full set, in place of what was told before.
    is_full: bool,
    is_begun: bool,
    set: Peekable<vec::IntoIter<Item>>,
    removed: Vec<TaskId>,
}

/// A full set does not fit into the one message that the worker's version needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the assignments of this worker have {bytes} bytes, over the limit of {MAX_MESSAGE_BYTES} for the one message that its \
     version needs: upgrade goat-worker on it"
)]
pub(super) struct TooLarge {
    bytes: usize,
}

impl Batch {
    fn new(is_full: bool, mut set: Vec<Item>, removed: Vec<TaskId>) -> Self {
        let key = |item: &Item| (item.assignment.service_id.clone(), item.assignment.spec_version);
        set.sort_by_cached_key(key);
        Self { is_full, is_begun: false, set: set.into_iter().peekable(), removed }
    }

    /// Whether all of it has been made into messages.
    fn is_over(&mut self) -> bool {
        self.set.peek().is_none() && self.removed.is_empty() && (self.is_begun || !self.is_full)
    }
}

impl Book {
    pub(super) fn new(node: NodeId, is_chunked: bool) -> Self {
        Self { node, is_chunked, sequence: 0, told: HashMap::new() }
    }

    /// Everything, as the first batch of a session and whenever changes were missed.
    pub(super) fn full(&mut self, state: &State, traced: &Traced) -> Batch {
        self.told.clear();
        let mut set = Vec::new();
        for task in state.tasks_of_node(self.node) {
            if let Some(mine) = Mine::of(state, task, self.node) {
                self.told.insert(task.id, mine.told);
                set.push(mine.item(traced));
            }
        }
        Batch::new(true, set, Vec::new())
    }

    /// News of some tasks; may be empty.
    pub(super) fn changes(&mut self, state: &State, dirty: impl IntoIterator<Item = TaskId>, traced: &Traced) -> Batch {
        let (mut set, mut removed) = (Vec::new(), Vec::new());
        for id in dirty {
            match state.task(id).and_then(|task| Mine::of(state, task, self.node)) {
                Some(mine) => {
                    if self.told.insert(id, mine.told) != Some(mine.told) {
                        set.push(mine.item(traced));
                    }
                }
                None => {
                    if self.told.remove(&id).is_some() {
                        removed.push(id);
                    }
                }
            }
        }
        Batch::new(false, set, removed)
    }

    /// The next message of a batch; None after the last.
    ///
    /// # Errors
    /// [`TooLarge`], for an older worker only.
    pub(super) fn next_message(&mut self, batch: &mut Batch) -> Result<Option<manager_message::Message>, TooLarge> {
        if batch.is_over() {
            return Ok(None);
        }
        self.sequence += 1;
        let sequence = self.sequence;
        if !batch.is_full {
            let cut = batch.removed.len().saturating_sub(REMOVED_PER_CHUNK);
            let removed: Vec<String> = batch.removed.drain(cut..).map(|id| id.to_string()).collect();
            let (set, specs) = self.chunk(&mut batch.set, removed.len() * 14, CHUNK_BYTES);
            return Ok(Some(manager_message::Message::Changes(v1::AssignmentChanges {
                sequence,
                set,
                removed,
                specs,
            })));
        }
        let continues = std::mem::replace(&mut batch.is_begun, true);
        let max_bytes = if self.is_chunked { CHUNK_BYTES } else { MAX_MESSAGE_BYTES - ENVELOPE_BYTES };
        let (tasks, specs) = self.chunk(&mut batch.set, 0, max_bytes);
        let more = batch.set.peek().is_some();
        if more && !self.is_chunked {
            let left = batch.set.by_ref().map(|item| own_spec(item).encoded_len()).sum::<usize>();
            return Err(TooLarge { bytes: max_bytes + left });
        }
        Ok(Some(manager_message::Message::Assignments(v1::Assignments { sequence, tasks, continues, more, specs })))
    }

    /// Takes as many as fit, and at least one.
    fn chunk(
        &self,
        items: &mut Peekable<vec::IntoIter<Item>>,
        mut bytes: usize,
        max_bytes: usize,
    ) -> (Vec<v1::Assignment>, Vec<v1::SharedSpec>) {
        let (mut set, mut specs): (Vec<_>, Vec<v1::SharedSpec>) = (Vec::new(), Vec::new());
        let mut last: Option<Arc<ServiceSpec>> = None;
        while let Some(item) = items.peek() {
            let is_shared = self.is_chunked && last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &item.spec));
            let spec = (!is_shared).then(|| convert::assigned_spec(&item.spec));
            let spec_bytes = spec.as_ref().map_or(0, |spec| spec.encoded_len() + OVERHEAD_BYTES);
            bytes += item.assignment.encoded_len() + OVERHEAD_BYTES + spec_bytes;
            if bytes > max_bytes && !set.is_empty() {
                break;
            }
            let Some(Item { mut assignment, spec: shared }) = items.next() else { break };
            match spec {
                Some(spec) if self.is_chunked => {
                    let (service_id, spec_version) = (assignment.service_id.clone(), assignment.spec_version);
                    specs.push(v1::SharedSpec { service_id, spec_version, spec: Some(spec) });
                }
                spec => assignment.spec = spec,
            }
            last = Some(shared);
            set.push(assignment);
        }
        (set, specs)
    }
}

/// Of a field in a message: its tag and length, twice, and an id and a version.
const OVERHEAD_BYTES: usize = 40;

fn own_spec(item: Item) -> v1::Assignment {
    v1::Assignment { spec: Some(convert::assigned_spec(&item.spec)), ..item.assignment }
}

/// A task of the node, in the state.
struct Mine<'a> {
    task: &'a Task,
    service: &'a Service,
    spec: &'a Arc<ServiceSpec>,
    told: Told,
}

impl<'a> Mine<'a> {
    /// None for what is not the node's (any more). A task that has ended is not to be begun again, whatever was desired of
    /// it: its worker keeps what is left of it, for its logs.
    fn of(state: &'a State, task: &'a Task, node: NodeId) -> Option<Self> {
        if task.node != Some(node) || task.state == TaskState::Lost {
            return None;
        }
        let spec = state.spec_of(task)?;
        let service = state.service(task.service)?;
        let desired = if task.state.is_terminal() { task.desired.max(Desired::Stopped) } else { task.desired };
        Some(Self { task, service, spec, told: Told { desired, on_disconnect: spec.on_disconnect() } })
    }

    fn item(&self, traced: &Traced) -> Item {
        let mut assignment = convert::assignment(self.task, &self.service.spec.name, self.told.desired);
        if let Some(index) = traced::cause(self.task, self.service) {
            assignment.traceparent = traced.assigned(index, &assignment.task_id).unwrap_or_default();
        }
        Item { assignment, spec: self.spec.clone() }
    }
}

#[cfg(test)]
mod tests;
