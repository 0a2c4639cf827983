//! `cluster leave`: a worker or a manager goes for good.

use std::time::Duration;

use goat_proto::v1::{ListNodesRequest, ListPeersRequest};

use super::manager::Standing;
use super::{Context, manager, node};
use crate::cli::{Joining, WaitFlags};
use crate::exit::{Exit, Failure};

/// A worker that is not waited for stays, drained: only an empty one is forgotten.
pub async fn leave(
    context: &Context,
    name: String,
    role: Option<Joining>,
    deadline: Option<Duration>,
    wait: &WaitFlags,
) -> Result<(), Failure> {
    match role_of(context, &name, role).await? {
        Joining::Manager if deadline.is_some() => {
            Err(Failure::new(Exit::Usage, format!("{name} is a manager and has no tasks; leave out --deadline")))
        }
        Joining::Manager => manager::set(context, name, Standing::Removed, false, wait).await,
        Joining::Worker => {
            let is_empty = node::empty(context, &name, deadline, wait).await?;
            if is_empty { node::rm(context, vec![name], false).await } else { node::goes_on(context, &name) }
        }
    }
}

async fn role_of(context: &Context, name: &str, role: Option<Joining>) -> Result<Joining, Failure> {
    let nodes = context.client.list_nodes(ListNodesRequest::default()).await?.nodes;
    let is_worker = nodes.iter().any(|node| node.name == name || node.id == name);
    let peers = context.client.unary(ListPeersRequest {}, async |control, request| control.list_peers(request).await);
    let is_manager = peers.await?.peers.iter().any(|peer| peer.name == name);
    match (is_worker, is_manager, role) {
        (true, _, Some(Joining::Worker)) | (true, false, None) => Ok(Joining::Worker),
        (_, true, Some(Joining::Manager)) | (false, true, None) => Ok(Joining::Manager),
        (true, true, None) => {
            let text = format!("{name} is a worker and a manager: which of them leaves?");
            Err(Failure::new(Exit::Usage, text)
                .with_hint("say --as worker or --as manager; both go one after the other"))
        }
        (_, _, role) => {
            let what = role.map_or("worker or manager", Joining::word);
            Err(Failure::failed(format!("no {what} {name:?}"))
                .with_hint("`goatctl node ls` and `manager ls` list them"))
        }
    }
}
