//! Whether this manager is there, and whether it reaches a worker: asked by the leader for a second opinion.

use std::time::Duration;

use goat_proto::v1;
use goat_proto::v1::presence_server::Presence as PresenceService;
use goat_tls::Role;
use tonic::{Request, Response, Status, async_trait};

use crate::raft::seat::Seat;

/// For the worker's answer: the leader waits for this manager's.
const PING: Duration = Duration::from_millis(400);

/// The service.
#[derive(Debug, Clone)]
pub struct Presence {
    seat: Seat,
}

impl Presence {
    pub fn new(seat: Seat) -> Self {
        Self { seat }
    }
}

#[async_trait]
impl PresenceService for Presence {
    async fn ping(&self, request: Request<v1::PingRequest>) -> Result<Response<v1::PingReply>, Status> {
        if !request.get_ref().node_id.is_empty() {
            return Err(Status::not_found("this is a manager"));
        }
        Ok(Response::new(v1::PingReply::default()))
    }

    async fn ping_for(&self, request: Request<v1::PingForRequest>) -> Result<Response<v1::PingForReply>, Status> {
        let group = self.seat.group().ok_or_else(|| Status::unavailable("not a member of a group yet"))?;
        let v1::PingForRequest { node_id, address } = request.into_inner();
        let mut client = group
            .peers()
            .presence(Role::Worker, &address)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let asked = tokio::time::timeout(PING, client.ping(v1::PingRequest { node_id: node_id.clone() })).await;
        let reached = matches!(&asked, Ok(Ok(reply)) if reply.get_ref().node_id == node_id);
        if !reached {
            group.peers().forget(Role::Worker, &address);
        }
        Ok(Response::new(v1::PingForReply { reached }))
    }
}
