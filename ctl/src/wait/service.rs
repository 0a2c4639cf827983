//! Waits until a service is as its spec says.

use std::time::{SystemTime, UNIX_EPOCH};

use goat_proto::v1::{GetServiceRequest, ListTasksRequest, Service, Task};
use tokio::time::Instant;

use super::display::Display;
use super::judge::{Change, Judge, Now};
use super::view::View;
use super::{Goal, Verdict};
use crate::client::Client;
use crate::exit::Failure;

/// Above this many replicas the history is left out of the lists: it could outgrow the largest message.
const HISTORY_UP_TO: u32 = 500;

/// A service that runs.
#[derive(Debug)]
pub struct Converged {
    id: String,
    name: String,
    judge: Judge,
    view: View,
    /// As last seen.
    pub service: Option<Service>,
}

impl Converged {
    pub fn new(id: &str, name: &str, change: Change) -> Self {
        Self { id: id.into(), name: name.into(), judge: Judge::new(change), view: View::default(), service: None }
    }

    /// The newest task that failed since the change.
    pub const fn failed_task(&self) -> Option<&Task> {
        self.judge.failed.as_ref()
    }
}

impl Goal for Converged {
    fn events_of(&self) -> &str {
        &self.id
    }

    async fn look(&mut self, client: &Client, display: &mut Display) -> Result<Verdict, Failure> {
        let get = GetServiceRequest { read: None, reference: self.id.clone() };
        let mut service = client.unary(get, async |control, request| control.get_service(request).await).await?;
        if service.removed {
            return Ok(Verdict::Failed(Failure::failed(format!("{} was removed meanwhile", self.name))));
        }
        let all = service.replicas_desired <= HISTORY_UP_TO;
        let list = ListTasksRequest { service: self.id.clone(), all, ..ListTasksRequest::default() };
        let tasks = client.list_tasks(list).await?.tasks;
        // The list is newer, and what is printed at the end must be what was judged.
        service.replicas_running = tasks.iter().filter(|task| task.state == "running").count() as u32;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Now { at: Instant::now(), unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) };
        let (view, verdict) = self.judge.look(now, &service, &tasks, all);
        display.service(&view);
        self.view = view;
        self.service = Some(service);
        Ok(verdict)
    }

    fn missing(&self) -> String {
        let mut text = format!("{} has {}", self.name, self.view.summary());
        for slot in self.view.slots.iter().filter(|slot| !slot.problem.is_empty()).take(5) {
            text.push_str(&format!("\n  {}.{} {}: {}", self.name, slot.number, slot.state, slot.problem));
        }
        text
    }

    fn goes_on(&self) -> String {
        format!("the service goes on converging; `goatctl service ps {}` shows how far it is", self.name)
    }
}
