//! Applying what users ask of services.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Service;
use super::apply::{Apply, Done};
use super::command::{Answer, Refusal};
use super::rows::{old_spec_key, service_key};
use crate::codec;
use crate::model::validate::validate;
use crate::model::{Cause, Desired, Mode, ServiceId, ServiceSpec, TaskId};

impl Apply<'_> {
    pub(super) fn create_service(&mut self, id: ServiceId, spec: &ServiceSpec) -> Done {
        check_spec(spec)?;
        if let Some(holder) = self.state.service_by_name(&spec.name) {
            let name = spec.name.clone();
            let is_going = holder.removed && self.state.is_bounded();
            return Err(if is_going { Refusal::NameInRemoval { name } } else { Refusal::NameTaken { name } });
        }
        if self.state.services.contains_key(&id) {
            return Err(Refusal::Impossible {
                what: format!("the id {id} is taken; repeat the request with a new one"),
            });
        }
        let service = Service {
            id,
            spec: Arc::new(spec.clone()),
            spec_version: self.at.index,
            removed: false,
            created_at_ms: self.now_ms,
            updated_at_ms: self.now_ms,
            version: self.at.index,
        };
        Ok(self.put_service(service))
    }

    fn live_service(&self, id: ServiceId) -> Result<&Service, Refusal> {
        let service = self.state.services.get(&id).ok_or(Refusal::NoSuchService { id })?;
        if service.removed {
            return Err(Refusal::ServiceRemoved { name: service.spec.name.clone() });
        }
        Ok(service)
    }

    pub(super) fn update_service(&mut self, id: ServiceId, seen_version: Option<u64>, spec: &ServiceSpec) -> Done {
        let mut service = self.live_service(id)?.clone();
        if let Some(seen) = seen_version
            && seen != service.version
        {
            return Err(Refusal::Stale { seen, found: service.version });
        }
        check_spec(spec)?;
        if spec.name != service.spec.name {
            let problem = format!("a service cannot be renamed (it is {:?}); create another", service.spec.name);
            return Err(Refusal::Invalid { field: "name".into(), problem });
        }
        if !runs_the_same(spec, &service.spec) {
            self.keep_old_spec(&service);
            service.spec_version = self.at.index;
        }
        service.spec = Arc::new(spec.clone());
        Ok(self.put_service(service))
    }

    /// Tasks that run the current spec will need it under its version.
    pub(super) fn keep_old_spec(&mut self, service: &Service) {
        let key = (service.id, service.spec_version);
        if self.state.index.spec_use.contains_key(&key) {
            self.write(old_spec_key(key.0, key.1), codec::encode(&*service.spec));
            self.state.old_specs.insert(key, service.spec.clone());
        }
    }

    pub(super) fn scale_service(&mut self, id: ServiceId, replicas: u32) -> Done {
        let mut service = self.live_service(id)?.clone();
        let spec = ServiceSpec { mode: Mode::Replicated { replicas }, ..(*service.spec).clone() };
        check_spec(&spec)?;
        service.spec = Arc::new(spec);
        Ok(self.put_service(service))
    }

    pub(super) fn remove_service(&mut self, id: ServiceId) -> Done {
        let mut service = self.state.services.get(&id).ok_or(Refusal::NoSuchService { id })?.clone();
        if service.removed {
            return Ok(Answer::Service { id, version: service.version });
        }
        service.removed = true;
        let answer = self.put_service(service);
        if self.state.is_bounded() {
            // The planner stops and forgets its tasks, so many with each plan: nothing is applied while they are changed.
            return Ok(answer);
        }
        let tasks: Vec<TaskId> = self.state.tasks_of_service(id).map(|task| task.id).collect();
        for task in tasks {
            self.desire(task, Desired::Removed, Cause::User);
        }
        Ok(answer)
    }

    pub(super) fn put_service(&mut self, mut service: Service) -> Answer {
        service.version = self.at.index;
        service.updated_at_ms = self.now_ms;
        let answer = Answer::Service { id: service.id, version: service.version };
        self.write(service_key(service.id), codec::encode(&service));
        self.changes.services.push(service.id);
        self.state.index.service_names.insert(service.spec.name.clone(), service.id);
        self.state.services.insert(service.id, service);
        answer
    }

    pub(super) fn forget_service(&mut self, id: ServiceId) {
        if let Some(service) = self.state.services.remove(&id) {
            self.state.index.service_names.remove(&service.spec.name);
            self.delete(service_key(id));
            self.changes.services.push(id);
        }
    }
}

pub(super) fn check_spec(spec: &ServiceSpec) -> Result<(), Refusal> {
    validate(spec).map_err(|invalid| Refusal::Invalid { field: invalid.field.into(), problem: invalid.problem })
}

/// Whether tasks of the one spec need not be replaced for the other.
pub(super) fn runs_the_same(a: &ServiceSpec, b: &ServiceSpec) -> bool {
    let relevant = |spec: &ServiceSpec| ServiceSpec {
        mode: Mode::default(),
        labels: BTreeMap::new(),
        restart: Default::default(),
        placement: Default::default(),
        on_disconnect: None,
        ..spec.clone()
    };
    relevant(a) == relevant(b)
}
