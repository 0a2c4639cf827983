//! What people ask of a cluster beside services: changed ones, nodes that are emptied, what managers tell of themselves.

use goat_proto::v1;
use tonic::{Response, Status};

use super::{Client, Control, request_id};
use crate::error::Error;

impl Client {
    /// Whatever version it has.
    pub async fn update_service(&self, spec: v1::ServiceSpec) -> Result<v1::ServiceReply, Error> {
        let request = v1::UpdateServiceRequest {
            request_id: request_id(),
            reference: spec.name.clone(),
            seen_version: None,
            spec: Some(spec),
        };
        let call = self.call("update the service", request, |mut control, request| async move {
            control.update_service(request).await
        });
        call.await
    }

    /// A node that is down.
    pub async fn remove_node(&self, name: &str) -> Result<v1::NodeReply, Error> {
        let request = v1::RemoveNodeRequest { request_id: request_id(), reference: name.to_owned(), force: false };
        let call = self
            .call("remove the node", request, |mut control, request| async move { control.remove_node(request).await });
        call.await
    }

    /// `availability`: active or drain.
    pub async fn set_availability(&self, node: &str, availability: &str) -> Result<v1::NodeReply, Error> {
        let request = v1::SetNodeAvailabilityRequest {
            request_id: request_id(),
            reference: node.to_owned(),
            availability: availability.to_owned(),
            within_ms: None,
        };
        let call = self.call("set the node's availability", request, |mut control, request| async move {
            control.set_node_availability(request).await
        });
        call.await
    }

    /// What one manager, counted from 0, tells of itself for a bug report.
    pub async fn debug_of(&self, at: usize) -> Result<v1::DebugReport, Status> {
        let request = v1::GetDebugRequest { own_only: true };
        let report = self.once(at, request, |mut control: Control, request| async move {
            let mut reports = control.get_debug(request).await?.into_inner();
            reports.message().await.map(Response::new)
        });
        report.await?.ok_or_else(|| Status::internal("it said nothing"))
    }

    /// The members that one manager, counted from 0, knows by itself.
    pub async fn peers_of(&self, at: usize) -> Result<Vec<v1::Peer>, Status> {
        let reply = self.once(at, v1::ListPeersRequest {}, |mut control: Control, request| async move {
            control.list_peers(request).await
        });
        Ok(reply.await?.peers)
    }
}
