//! Newcomers: managers that join.

use goat_core::model::RequestId;
use goat_core::state::command::{Action, Answer, Command, Outcome};
use goat_proto::convert;
use goat_proto::v1;
use goat_proto::v1::identity_server::Identity as IdentityService;
use tonic::{Request, Response, Status, async_trait};
use tracing::info;

use crate::clock;
use crate::control::refused;
use crate::raft::Group;
use crate::raft::seat::Seat;

/// The service.
#[derive(Debug, Clone)]
pub struct Identity {
    seat: Seat,
}

impl Identity {
    pub const fn new(seat: Seat) -> Self {
        Self { seat }
    }
}

#[async_trait]
impl IdentityService for Identity {
    async fn join_manager(
        &self,
        request: Request<v1::JoinManagerRequest>,
    ) -> Result<Response<v1::JoinManagerReply>, Status> {
        let v1::JoinManagerRequest { request_id, name, address } = request.into_inner();
        let group = self.seat.group().filter(Group::has_members);
        let group = group.ok_or_else(|| Status::unavailable("this manager is no member of its group yet"))?;
        let id: RequestId = convert::parse("request_id", &request_id)?;
        let action = Action::AddManager { name: name.clone(), address: address.clone() };
        let command = Command { now_ms: clock::now_ms(), request: Some(id), action };
        let accepted = group.propose(&command).await.map_err(|error| error.into_status(&group))?;
        match accepted.outcome {
            Outcome::Done(Answer::Manager { id, .. }) => {
                info!(manager = name, manager_id = id, address, "a manager joins");
                Ok(Response::new(v1::JoinManagerReply { cluster_id: group.cluster().to_string(), id }))
            }
            Outcome::Done(other) => Err(Status::internal(format!("an answer to something else: {other:?}"))),
            Outcome::Refused(refusal) => Err(refused(&refusal)),
        }
    }
}
