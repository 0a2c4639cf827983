//! Waits until a removed service is gone, so that its name and its ports are free again.

use std::time::Duration;

use goat_proto::v1::{GetServiceRequest, ListTasksRequest};

use super::display::Display;
use super::{Goal, Verdict};
use crate::client::Client;
use crate::exit::{Exit, Failure};

/// A service that is gone.
#[derive(Debug)]
pub struct Removed {
    id: String,
    name: String,
    left: usize,
}

impl Removed {
    pub fn new(id: &str, name: &str) -> Self {
        Self { id: id.into(), name: name.into(), left: 0 }
    }
}

impl Goal for Removed {
    fn events_of(&self) -> &str {
        &self.id
    }

    async fn look(&mut self, client: &Client, display: &mut Display) -> Result<Verdict, Failure> {
        let get = GetServiceRequest { read: None, reference: self.id.clone() };
        match client.find(get, async |control, request| control.get_service(request).await).await? {
            None => return Ok(Verdict::Reached),
            Some(service) if !service.removed => {
                return Ok(Verdict::Failed(Failure::new(Exit::Failed, format!("{} is not being removed", self.name))));
            }
            Some(_) => {}
        }
        let list = ListTasksRequest { service: self.id.clone(), ..ListTasksRequest::default() };
        let listed = client.find_tasks(list).await?;
        let Some(listed) = listed else {
            return Ok(Verdict::Reached);
        };
        self.left = listed.tasks.len();
        if self.left > 0 {
            display.remaining(&self.name, &listed.tasks, "to stop");
        }
        Ok(Verdict::NotYet(Duration::MAX))
    }

    fn missing(&self) -> String {
        format!("{} tasks of {} have not stopped", self.left, self.name)
    }

    fn goes_on(&self) -> String {
        format!("the removal goes on; `goatctl service ps {}` shows what is left", self.name)
    }
}
