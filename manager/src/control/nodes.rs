//! Nodes: list, drain, activate, remove.

use goat_core::model::{Availability, MAX_OPERATOR_LABELS, Node, NodeId, NodeState};
use goat_core::state::State;
use goat_core::state::command::{Action, Answer, Outcome};
use goat_proto::{convert, v1};
use tonic::Status;

use super::lookup::Access;
use super::pages::{after, page};
use super::{Control, looked_up, lookup, seen};
use crate::raft::Group;

fn shown(state: &State, row: &Node) -> v1::Node {
    let held = state.node_use(row.id);
    convert::node(row, held.tasks, held.reserved)
}

fn reply((answer, index): (Answer, u64), name: String) -> Result<v1::NodeReply, Status> {
    match answer {
        Answer::Node { id, version } => Ok(v1::NodeReply { id: id.to_string(), version, index, name }),
        other => Err(Status::already_exists(format!("the request id was used for something else before: {other:?}"))),
    }
}

impl Control {
    pub(super) async fn list_nodes_(&self, request: v1::ListNodesRequest) -> Result<v1::ListNodesReply, Status> {
        let (group, read) = self.reading(request.read).await?;
        let state = group.view().read();
        let read = seen(read, &state);
        let rows = state.nodes_in(after::<NodeId>(&request.page)?);
        let (nodes, next) = page(rows, |row: &Node| shown(&state, row), |row: &Node| row.id.to_string());
        Ok(v1::ListNodesReply { read: Some(read), nodes, next })
    }

    pub(super) async fn get_node_(&self, request: v1::GetNodeRequest) -> Result<v1::Node, Status> {
        let (group, _) = self.reading(request.read).await?;
        let state = group.view().read();
        Ok(shown(&state, lookup::node(&state, &request.reference, Access::Read)?))
    }

    /// As for services: a retry is for the node that was answered for.
    async fn meant_node(&self, request_id: &str, reference: &str) -> Result<(Group, NodeId, String), Status> {
        let (group, read) = self.reading(None).await?;
        let request = convert::parse("request_id", request_id)?;
        let (id, name) = {
            let state = group.view().read();
            let id = match state.remembered(request) {
                Some(Outcome::Done(Answer::Node { id, .. })) => *id,
                Some(_) => NodeId::from_random(0),
                None => looked_up(lookup::node(&state, reference, Access::Change), read, &state)?.id,
            };
            (id, state.node(id).map(|node| node.name.clone()).unwrap_or_default())
        };
        Ok((group, id, name))
    }

    pub(super) async fn set_node_availability_(
        &self,
        request: v1::SetNodeAvailabilityRequest,
    ) -> Result<v1::NodeReply, Status> {
        let (group, node, name) = self.meant_node(&request.request_id, &request.reference).await?;
        let availability: Availability = convert::word("availability", &request.availability)?;
        let action = match (availability, request.within_ms) {
            (Availability::Drain, Some(within_ms)) => Action::DrainNode { node, within_ms },
            (availability, _) => Action::SetAvailability { node, availability },
        };
        reply(self.mutate(&group, &request.request_id, action).await?, name)
    }

    pub(super) async fn set_node_labels_(&self, request: v1::SetNodeLabelsRequest) -> Result<v1::NodeReply, Status> {
        for (field, count) in [("set", request.set.len()), ("remove", request.remove.len())] {
            if count > MAX_OPERATOR_LABELS {
                return Err(Status::invalid_argument(format!(
                    "{field}: {count} labels are over the limit of {MAX_OPERATOR_LABELS} in one request; ask several times"
                )));
            }
        }
        let (group, node, name) = self.meant_node(&request.request_id, &request.reference).await?;
        let action = Action::SetNodeLabels { node, set: request.set.into_iter().collect(), remove: request.remove };
        reply(self.mutate(&group, &request.request_id, action).await?, name)
    }

    pub(super) async fn remove_node_(&self, request: v1::RemoveNodeRequest) -> Result<v1::NodeReply, Status> {
        let (group, node, name) = self.meant_node(&request.request_id, &request.reference).await?;
        let is_down = group.view().read().node(node).is_none_or(|node| node.state == NodeState::Down);
        let action = match request.force && !is_down {
            true => Action::RevokeNode { node },
            false => Action::RemoveNode { node },
        };
        reply(self.mutate(&group, &request.request_id, action).await?, name)
    }
}
