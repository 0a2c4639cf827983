//! Applying a change of many services at once. Everything is checked before anything is changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Service;
use super::apply::{Apply, Done};
use super::command::{Answer, Refusal, ServiceChange};
use super::services::{check_spec, runs_the_same};
use crate::model::{ServiceId, ServiceSpec};

impl Apply<'_> {
    pub(super) fn restore_services(&mut self, changes: &[ServiceChange]) -> Done {
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for change in changes {
            self.check_change(change)?;
            let name = change.spec.as_ref().map(|spec| spec.name.as_str());
            if !ids.insert(change.id) || !name.is_none_or(|name| names.insert(name)) {
                let what = format!("the service {} is named twice in one request", name.unwrap_or_default());
                return Err(Refusal::Impossible { what });
            }
        }
        for ServiceChange { id, spec, .. } in changes {
            match spec {
                Some(spec) if self.state.service(*id).is_some() => self.change_back(*id, spec),
                Some(spec) => self.create_service(*id, spec).map(drop)?,
                None => self.remove_service(*id).map(drop)?,
            }
        }
        Ok(Answer::Counted { applied: u32::try_from(changes.len()).unwrap_or(u32::MAX), stale: 0 })
    }

    fn check_change(&self, change: &ServiceChange) -> Result<(), Refusal> {
        let ServiceChange { id, seen_version: seen, spec } = change;
        let now = self.state.service(*id);
        let found = now.map_or(0, |service| service.version);
        if found != *seen {
            return Err(Refusal::Stale { seen: *seen, found });
        }
        let Some(spec) = spec else {
            return now.map(drop).ok_or(Refusal::NoSuchService { id: *id });
        };
        check_spec(spec)?;
        match now {
            Some(service) if service.spec.name != spec.name => {
                let problem = format!("a service cannot be renamed (it is {:?})", service.spec.name);
                Err(Refusal::Invalid { field: "name".into(), problem })
            }
            None if self.state.service_by_name(&spec.name).is_some() => {
                Err(Refusal::NameTaken { name: spec.name.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Also one that is being removed: its tasks still end, and others take their places.
    fn change_back(&mut self, id: ServiceId, spec: &ServiceSpec) {
        let Some(mut service) = self.state.service(id).cloned() else { return };
        if !runs_the_same(spec, &service.spec) {
            self.keep_old_spec(&service);
            service.spec_version = self.at.index;
        }
        self.put_service(Service { spec: Arc::new(spec.clone()), removed: false, ..service });
    }
}
