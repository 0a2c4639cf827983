//! Nodes: list, drain, activate, remove.

use goat_core::model::{Availability, Node};
use goat_core::state::State;
use goat_core::state::command::{Action, Answer};
use goat_proto::{convert, v1};
use tonic::Status;

use super::{Control, lookup};

fn shown(state: &State, row: &Node) -> v1::Node {
    let held = state.node_use(row.id);
    convert::node(row, held.tasks, held.reserved)
}

fn reply((answer, index): (Answer, u64)) -> Result<v1::NodeReply, Status> {
    match answer {
        Answer::Node { id, version } => Ok(v1::NodeReply { id: id.to_string(), version, index }),
        other => Err(Status::already_exists(format!("the request id was used for something else before: {other:?}"))),
    }
}

impl Control {
    pub(super) async fn list_nodes_(&self, request: v1::ListNodesRequest) -> Result<v1::ListNodesReply, Status> {
        let (group, read) = self.reading(request.read).await?;
        let state = group.view().read();
        Ok(v1::ListNodesReply { read: Some(read), nodes: state.nodes().map(|row| shown(&state, row)).collect() })
    }

    pub(super) async fn get_node_(&self, request: v1::GetNodeRequest) -> Result<v1::Node, Status> {
        let (group, _) = self.reading(request.read).await?;
        let state = group.view().read();
        Ok(shown(&state, lookup::node(&state, &request.reference)?))
    }

    pub(super) async fn set_node_availability_(
        &self,
        request: v1::SetNodeAvailabilityRequest,
    ) -> Result<v1::NodeReply, Status> {
        let (group, _) = self.reading(None).await?;
        let node = lookup::node(&group.view().read(), &request.reference)?.id;
        let availability: Availability = convert::word("availability", &request.availability)?;
        reply(self.mutate(&group, &request.request_id, Action::SetAvailability { node, availability }).await?)
    }

    pub(super) async fn remove_node_(&self, request: v1::RemoveNodeRequest) -> Result<v1::NodeReply, Status> {
        let (group, _) = self.reading(None).await?;
        let node = lookup::node(&group.view().read(), &request.reference)?.id;
        reply(self.mutate(&group, &request.request_id, Action::RemoveNode { node }).await?)
    }
}
