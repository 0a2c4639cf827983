//! Services: create, update, scale, remove, list.

use goat_core::capacity;
use goat_core::model::validate::validate_submitted;
use goat_core::model::{ServiceId, ServiceSpec};
use goat_core::state::Service;
use goat_core::state::command::{Action, Answer, Outcome};
use goat_proto::{READ_INDEX, convert, v1};
use tonic::Status;

use super::lookup::Access;
use super::pages::{after, page};
use super::{Control, looked_up, lookup, marked, seen};
use crate::clock;
use crate::raft::Group;

fn spec_of(spec: Option<v1::ServiceSpec>) -> Result<Box<ServiceSpec>, Status> {
    let spec = spec.ok_or_else(|| Status::invalid_argument("spec: is missing"))?;
    let spec = ServiceSpec::try_from(spec)?;
    validate_submitted(&spec).map_err(|invalid| Status::invalid_argument(invalid.to_string()))?;
    Ok(Box::new(spec))
}

fn reply((answer, index): (Answer, u64), name: String) -> Result<v1::ServiceReply, Status> {
    match answer {
        Answer::Service { id, version } => Ok(v1::ServiceReply { id: id.to_string(), version, index, name }),
        other => Err(Status::already_exists(format!("the request id was used for something else before: {other:?}"))),
    }
}

impl Control {
    pub(super) async fn create_service_(&self, request: v1::CreateServiceRequest) -> Result<v1::ServiceReply, Status> {
        let group = self.group()?;
        let (id, spec) = (ServiceId::from_random(clock::random()), spec_of(request.spec)?);
        self.check_capacity(&group, &request.request_id, &[(id, spec.replicas())]).await?;
        let name = spec.name.clone();
        let action = Action::CreateService { id, spec };
        reply(self.mutate(&group, &request.request_id, action).await?, name)
    }

    /// Refuses a change that makes more tasks than the nodes can hold. `changes`: services, each with the replicas that it has
    /// from then on. A retry is not looked at: its answer is known.
    pub(super) async fn check_capacity(
        &self,
        group: &Group,
        request_id: &str,
        changes: &[(ServiceId, u32)],
    ) -> Result<(), Status> {
        let request = convert::parse("request_id", request_id)?;
        let check = || {
            let state = group.view().read();
            if state.remembered(request).is_some() { Ok(()) } else { capacity::check(&state, changes) }
        };
        if check().is_ok() {
            return Ok(());
        }
        // This manager may be behind: a node that has just joined counts.
        let (_, read) = self.reading(None).await?;
        check().map_err(|exceeded| marked(Status::resource_exhausted(exceeded.to_string()), READ_INDEX, read.index))
    }

    /// The service that a change is for, and its name. A retry is for the one that was answered for, which may be gone by
    /// now, and then has no name: the log knows the answer, and reads nothing else of the command.
    async fn meant(&self, request_id: &str, reference: &str) -> Result<(Group, ServiceId, String), Status> {
        let (group, read) = self.reading(None).await?;
        let request = convert::parse("request_id", request_id)?;
        let (id, name) = {
            let state = group.view().read();
            let id = match state.remembered(request) {
                Some(Outcome::Done(Answer::Service { id, .. })) => *id,
                Some(_) => ServiceId::from_random(0),
                None => looked_up(lookup::service(&state, reference, Access::Change), read, &state)?.id,
            };
            (id, state.service(id).map(|service| service.spec.name.clone()).unwrap_or_default())
        };
        Ok((group, id, name))
    }

    pub(super) async fn update_service_(&self, request: v1::UpdateServiceRequest) -> Result<v1::ServiceReply, Status> {
        let (group, id, name) = self.meant(&request.request_id, &request.reference).await?;
        let spec = spec_of(request.spec)?;
        self.check_capacity(&group, &request.request_id, &[(id, spec.replicas())]).await?;
        let action = Action::UpdateService { id, seen_version: request.seen_version, spec };
        reply(self.mutate(&group, &request.request_id, action).await?, name)
    }

    pub(super) async fn scale_service_(&self, request: v1::ScaleServiceRequest) -> Result<v1::ServiceReply, Status> {
        let (group, id, name) = self.meant(&request.request_id, &request.reference).await?;
        self.check_capacity(&group, &request.request_id, &[(id, request.replicas)]).await?;
        let action = Action::ScaleService { id, replicas: request.replicas };
        reply(self.mutate(&group, &request.request_id, action).await?, name)
    }

    pub(super) async fn remove_service_(&self, request: v1::RemoveServiceRequest) -> Result<v1::ServiceReply, Status> {
        let (group, id, name) = self.meant(&request.request_id, &request.reference).await?;
        reply(self.mutate(&group, &request.request_id, Action::RemoveService { id }).await?, name)
    }

    pub(super) async fn list_services_(
        &self,
        request: v1::ListServicesRequest,
    ) -> Result<v1::ListServicesReply, Status> {
        let (group, read) = self.reading(request.read).await?;
        let state = group.view().read();
        let show = |row: &Service| convert::service(row, state.running(row.id));
        let rows = state.services_in(after::<ServiceId>(&request.page)?);
        let (services, next) = page(rows, show, |row: &Service| row.id.to_string());
        Ok(v1::ListServicesReply { read: Some(seen(read, &state)), services, next })
    }

    pub(super) async fn get_service_(&self, request: v1::GetServiceRequest) -> Result<v1::Service, Status> {
        let (group, read) = self.reading(request.read).await?;
        let state = group.view().read();
        let row = looked_up(lookup::service(&state, &request.reference, Access::Read), read, &state)?;
        Ok(v1::Service { read: Some(seen(read, &state)), ..convert::service(row, state.running(row.id)) })
    }
}
