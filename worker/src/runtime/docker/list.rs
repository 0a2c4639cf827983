//! What containers there are, set right where the daemon's list is behind.
//!
//! The daemon lists a copy of each container's state, which it renews only after the state was written to its disk. Where
//! that disk was full, a container that has ended stays listed as running, and one that was started as created, until its
//! state changes again or the daemon is started anew (seen with Docker 20.10.24). What it answers to a question about one
//! container is not behind, so it is asked about those whose processes speak against the list.

use std::collections::HashMap;
use std::mem::discriminant;

use bollard::query_parameters as query;
use tracing::warn;

use super::super::{Error, Found};
use super::calls::{self, within};
use super::error::Fault;
use super::{DockerRuntime, container, labels};

impl DockerRuntime {
    /// This node's containers in the daemon's list, the oldest first. With `label`: only those that have it.
    pub(super) async fn listed(&self, label: Option<String>) -> Result<Vec<Found>, Error> {
        let mut wanted = vec![labels::of_node(self.node)];
        wanted.extend(label);
        let filters = HashMap::from([("label", wanted)]);
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let client = self.client()?;
        let listed = within(calls::LIST, client.list_containers(Some(options))).await.map_err(Fault::general)?;
        // The daemon lists the newest first.
        Ok(listed.into_iter().rev().filter_map(container::found_by_list).collect())
    }

    /// What this node has, as it is.
    pub(super) async fn list_checked(&self) -> Result<Vec<Found>, Error> {
        let listed = self.listed(None).await?;
        let doubtful = self.outage.sight.doubtful(&listed).await;
        let mut checked = Vec::with_capacity(listed.len());
        for found in listed {
            if !doubtful.contains(&found.container_id) {
                checked.push(found);
                continue;
            }
            let Some(asked) = self.inspect_name(&found.container_id).await? else { continue };
            if discriminant(&asked.state) != discriminant(&found.state) {
                warn!(
                    task_id = %found.meta.task,
                    container_id = found.container_id,
                    listed = ?found.state,
                    is = ?asked.state,
                    "the Docker daemon lists a container as what it is not: its disk may have been full"
                );
            }
            checked.push(asked);
        }
        Ok(checked)
    }
}
