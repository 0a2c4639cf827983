//! Reading parts of the tables: rows between two ids, slots between two numbers, counts, an answer.

use std::ops::{Bound, RangeBounds};

use super::command::Outcome;
use super::{Service, State};
use crate::model::{Node, NodeId, RequestId, ServiceId, Task, TaskId};

impl State {
    /// The answer to a request that is remembered.
    pub fn remembered(&self, request: RequestId) -> Option<&Outcome> {
        self.requests.get(request)
    }

    /// The nodes that were removed and whose certificates may still be valid.
    pub fn revoked(&self) -> impl ExactSizeIterator<Item = NodeId> {
        self.revoked.keys().copied()
    }

    /// Those whose ids are within bounds, in the order of their ids.
    pub fn services_in(&self, bounds: impl RangeBounds<ServiceId>) -> impl Iterator<Item = &Service> {
        self.services.range(bounds).map(|(_, service)| service)
    }

    /// Those whose ids are within bounds, in the order of their ids.
    pub fn tasks_in(&self, bounds: impl RangeBounds<TaskId>) -> impl Iterator<Item = &Task> {
        self.tasks.range(bounds).map(|(_, task)| task)
    }

    /// The tasks of [`State::pending`] whose ids are within bounds.
    pub fn pending_in(&self, bounds: impl RangeBounds<TaskId>) -> impl Iterator<Item = TaskId> {
        self.index.pending.range(bounds).copied()
    }

    /// Those of a service's slots, in order, that have or had a task and are within bounds.
    pub fn slots_in(
        &self,
        service: ServiceId,
        bounds: impl RangeBounds<u32>,
    ) -> impl DoubleEndedIterator<Item = (u32, &[TaskId])> {
        let bounds = (bounds.start_bound().cloned(), bounds.end_bound().cloned());
        let is_empty = matches!(bounds, (Bound::Included(from), Bound::Included(to)) if from > to);
        let slots = self.index.slots.get(&service).filter(|_| !is_empty);
        slots.into_iter().flat_map(move |slots| slots.range(bounds)).map(|(slot, tasks)| (*slot, tasks.as_slice()))
    }

    /// Those of a node's tasks whose ids are within bounds.
    pub fn tasks_of_node_in(&self, node: NodeId, bounds: impl RangeBounds<TaskId>) -> impl Iterator<Item = &Task> {
        let bounds = (bounds.start_bound().cloned(), bounds.end_bound().cloned());
        let ids = self.index.by_node.get(&node).into_iter().flat_map(move |tasks| tasks.range(bounds));
        ids.filter_map(|id| self.tasks.get(id))
    }

    /// Those whose ids are within bounds, in the order of their ids.
    pub fn nodes_in(&self, bounds: impl RangeBounds<NodeId>) -> impl Iterator<Item = &Node> {
        self.nodes.range(bounds).map(|(_, node)| node)
    }
}
