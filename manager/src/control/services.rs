//! Services: create, update, scale, remove, list.

use goat_core::model::validate::validate;
use goat_core::model::{ServiceId, ServiceSpec};
use goat_core::state::Service;
use goat_core::state::command::{Action, Answer};
use goat_proto::{convert, v1};
use tonic::Status;

use super::pages::{after, page};
use super::{Control, lookup};
use crate::clock;

fn spec_of(spec: Option<v1::ServiceSpec>) -> Result<Box<ServiceSpec>, Status> {
    let spec = spec.ok_or_else(|| Status::invalid_argument("spec: is missing"))?;
    let spec = ServiceSpec::try_from(spec)?;
    validate(&spec).map_err(|invalid| Status::invalid_argument(invalid.to_string()))?;
    Ok(Box::new(spec))
}

fn reply((answer, index): (Answer, u64)) -> Result<v1::ServiceReply, Status> {
    match answer {
        Answer::Service { id, version } => Ok(v1::ServiceReply { id: id.to_string(), version, index }),
        other => Err(Status::already_exists(format!("the request id was used for something else before: {other:?}"))),
    }
}

impl Control {
    pub(super) async fn create_service_(&self, request: v1::CreateServiceRequest) -> Result<v1::ServiceReply, Status> {
        let group = self.group()?;
        let action =
            Action::CreateService { id: ServiceId::from_random(clock::random()), spec: spec_of(request.spec)? };
        reply(self.mutate(&group, &request.request_id, action).await?)
    }

    pub(super) async fn update_service_(&self, request: v1::UpdateServiceRequest) -> Result<v1::ServiceReply, Status> {
        let (group, _) = self.reading(None).await?;
        let id = lookup::service_of(&group.view().read(), &request.reference, &request.request_id)?;
        let action = Action::UpdateService { id, seen_version: request.seen_version, spec: spec_of(request.spec)? };
        reply(self.mutate(&group, &request.request_id, action).await?)
    }

    pub(super) async fn scale_service_(&self, request: v1::ScaleServiceRequest) -> Result<v1::ServiceReply, Status> {
        let (group, _) = self.reading(None).await?;
        let id = lookup::service_of(&group.view().read(), &request.reference, &request.request_id)?;
        let action = Action::ScaleService { id, replicas: request.replicas };
        reply(self.mutate(&group, &request.request_id, action).await?)
    }

    pub(super) async fn remove_service_(&self, request: v1::RemoveServiceRequest) -> Result<v1::ServiceReply, Status> {
        let (group, _) = self.reading(None).await?;
        let id = lookup::service_of(&group.view().read(), &request.reference, &request.request_id)?;
        reply(self.mutate(&group, &request.request_id, Action::RemoveService { id }).await?)
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
        Ok(v1::ListServicesReply { read: Some(read), services, next })
    }

    pub(super) async fn get_service_(&self, request: v1::GetServiceRequest) -> Result<v1::Service, Status> {
        let (group, _) = self.reading(request.read).await?;
        let state = group.view().read();
        let row = lookup::service(&state, &request.reference)?;
        Ok(convert::service(row, state.running(row.id)))
    }
}
