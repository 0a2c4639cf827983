//! Events: those remembered, and with `follow` those to come.

use std::sync::Arc;

use futures::{StreamExt, stream};
use goat_proto::v1;
use tonic::Status;

use super::lookup::Access;
use super::{Control, Events as EventStream, lookup};
use crate::events::Events;
use crate::streams::until_stopped;

/// A watcher of events.
struct Watch {
    events: Events,
    at: u64,
    filter: Filter,
    /// Wait for more at the end.
    follow: bool,
}

/// Whose events are wanted.
struct Filter {
    service: String,
}

impl Filter {
    fn wants(&self, event: &v1::Event) -> bool {
        if self.service.is_empty() {
            return true;
        }
        let of_service = |name: &str| name == self.service;
        match event.kind.as_str() {
            "service" => of_service(&event.name),
            "task" => event.name.rsplit_once('.').is_some_and(|(service, _)| of_service(service)),
            _ => false,
        }
    }
}

impl Watch {
    /// The next pieces, and whether there may be more.
    async fn next(&mut self) -> Result<Option<Vec<Arc<v1::Event>>>, Status> {
        let mut end = self.events.end();
        loop {
            end.borrow_and_update();
            let (events, next) = self.events.read(self.at).map_err(|missed| {
                Status::out_of_range(format!("{missed}, because they were not read in time; ask again"))
            })?;
            if events.is_empty() {
                if !self.follow {
                    return Ok(None);
                }
                end.changed().await.map_err(|_| Status::unavailable("this manager is stopping"))?;
                continue;
            }
            self.at = next;
            let wanted: Vec<_> = events.into_iter().filter(|event| self.filter.wants(event)).collect();
            if !wanted.is_empty() {
                return Ok(Some(wanted));
            }
        }
    }
}

impl Control {
    pub(super) async fn watch_events_(
        &self,
        request: v1::WatchEventsRequest,
    ) -> Result<EventStream<v1::Event>, Status> {
        let group = self.group()?;
        lookup::check_length("service", &request.service)?;
        // A service that is gone may still have events under its name.
        let service = match request.service.as_str() {
            "" => String::new(),
            reference => {
                let found = lookup::service(&group.view().read(), reference, Access::Read)
                    .map(|service| service.spec.name.clone());
                found.unwrap_or_else(|_| reference.to_owned())
            }
        };
        let filter = Filter { service };
        let at = self.events.find(request.since_index, request.tail, |event| filter.wants(event));
        let watch = Watch { events: self.events.clone(), at, filter, follow: request.follow };
        let stopping = self.stopping.clone();
        let batches =
            stream::try_unfold(watch, |mut watch| async move { Ok(watch.next().await?.map(|events| (events, watch))) });
        let events = batches.flat_map(|batch: Result<Vec<Arc<v1::Event>>, Status>| {
            let events: Vec<_> = match batch {
                Ok(events) => events.iter().map(|event| Ok((**event).clone())).collect(),
                Err(status) => vec![Err(status)],
            };
            stream::iter(events)
        });
        Ok(until_stopped(events, stopping).boxed())
    }
}
