//! Waits until a drained node is empty.

use std::time::Duration;

use goat_proto::v1::{GetNodeRequest, ListTasksRequest, Node};

use super::display::Display;
use super::view::has_ended_state;
use super::{Goal, Verdict};
use crate::client::Client;
use crate::exit::Failure;

/// A node without tasks.
#[derive(Debug)]
pub struct Drained {
    id: String,
    name: String,
    left: Vec<String>,
    /// When it was first looked at.
    total: usize,
    /// As last seen.
    pub node: Option<Node>,
}

impl Drained {
    pub fn new(id: &str, name: &str) -> Self {
        Self { id: id.into(), name: name.into(), left: vec![], total: 0, node: None }
    }
}

impl Goal for Drained {
    fn events_of(&self) -> &str {
        ""
    }

    async fn look(&mut self, client: &Client, display: &mut Display) -> Result<Verdict, Failure> {
        let get = GetNodeRequest { read: None, reference: self.id.clone() };
        let node = client.unary(get, async |control, request| control.get_node(request).await).await?;
        let (left, is_drained) = (node.tasks, node.availability == "drain");
        self.name.clone_from(&node.name);
        self.node = Some(node);
        if !is_drained {
            return Ok(Verdict::Failed(Failure::failed(format!("{} was activated again meanwhile", self.name))));
        }
        if left == 0 {
            return Ok(Verdict::Reached);
        }
        let list = ListTasksRequest { node: self.id.clone(), ..ListTasksRequest::default() };
        let mut tasks = client.list_tasks(list).await?.tasks;
        tasks.retain(|task| !has_ended_state(&task.state));
        self.left = tasks.iter().map(|task| format!("{}.{}", task.service, task.slot)).collect();
        self.total = self.total.max(tasks.len());
        display.leaving(&self.name, &tasks, self.total);
        Ok(Verdict::NotYet(Duration::MAX))
    }

    fn missing(&self) -> String {
        format!("{} tasks are still on {}: {}", self.left.len(), self.name, self.left.join(", "))
    }

    fn goes_on(&self) -> String {
        let name = &self.name;
        format!(
            "the node goes on draining; `goatctl task ls --node {name}` shows what is left, `goatctl node activate {name}` undoes it"
        )
    }
}
