//! `node` with all that belongs to it.

use std::time::Duration;

use goat_core::model::{Inventory, Resources};
use goat_proto::convert::Word;
use goat_proto::v1::{
    GetNodeRequest, ListNodesRequest, Node, NodeReply, RemoveNodeRequest, SetNodeAvailabilityRequest,
    SetNodeLabelsRequest,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::service::named;
use super::{Context, pairs};
use crate::cli::{ListFlags, ReadFlags, WaitFlags};
use crate::client::request_id;
use crate::exit::{Exit, Failure, say};
use crate::output::{age, ahead, cpus, local_time, size};
use crate::rows::{NodePage, NodeRow};
use crate::wait::{Drained, Waited, wait};

/// For a node whose certificate is refused to be down: its lease, and the time that the leader waits beside it.
const DOWN_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub async fn ls(context: &Context, state: Option<String>, flags: &ListFlags) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    let request = ListNodesRequest { read: flags.read.options(), ..ListNodesRequest::default() };
    let reply = client.list_nodes(request).await?;
    context.note_staleness(&flags.read, reply.read);
    let mut nodes = reply.nodes;
    nodes.retain(|node| state.as_ref().is_none_or(|state| *state == node.state));
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    if flags.quiet {
        return out.names(nodes.iter().map(|node| &node.name));
    }
    if out.is_json() {
        return out.json(&nodes.iter().map(NodeRow::from).collect::<Vec<_>>());
    }
    let header = ["ID", "NAME", "STATE", "AVAILABILITY", "ADDRESS", "TASKS", "CPU", "MEMORY", "SINCE", "PROBLEM"];
    out.table(&header, nodes.iter().map(row).collect())
}

fn row(node: &Node) -> Vec<String> {
    let (total, reserved) = totals(node);
    let conditions = node.inventory.as_ref().map(|inventory| inventory.conditions.join(", ")).unwrap_or_default();
    let problem =
        if is_replaced(node) { "another node has its name now: `goatctl node rm` it".into() } else { conditions };
    vec![
        node.id.clone(),
        node.name.clone(),
        node.state.clone(),
        availability(node),
        node.address.clone(),
        format!("{}/{}", node.tasks, task_limit(node)),
        format!("{}/{}", cpus(reserved.cpu_millis), cpus(total.cpu_millis)),
        format!("{}/{}", size(reserved.memory_bytes), size(total.memory_bytes)),
        age(node.state_since_ms),
        problem,
    ]
}

/// Whether a machine that joined again took over the name of a node that was down; the old node has its id as its name since then.
fn is_replaced(node: &Node) -> bool {
    node.state == "down" && node.name.starts_with(&node.id)
}

/// With the time that is left, where it drains until a deadline.
fn availability(node: &Node) -> String {
    match node.drain_until_ms {
        Some(until_ms) => format!("{}, {}", node.availability, ahead(until_ms).unwrap_or_else(|| "time is up".into())),
        None => node.availability.clone(),
    }
}

fn until(node: &Node) -> String {
    match node.drain_until_ms {
        Some(until_ms) => format!("{} until {} ({})", node.availability, local_time(until_ms), availability(node)),
        None => node.availability.clone(),
    }
}

/// As the scheduler counts it: a worker that does not say has the default of its size.
fn task_limit(node: &Node) -> u32 {
    Inventory::from(node.inventory.clone().unwrap_or_default()).task_limit()
}

fn totals(node: &Node) -> (Resources, Resources) {
    let total = node.inventory.as_ref().and_then(|inventory| inventory.total).unwrap_or_default();
    (total.into(), node.reserved.unwrap_or_default().into())
}

pub async fn inspect(context: &Context, reference: String, read: &ReadFlags) -> Result<(), Failure> {
    let request = GetNodeRequest { read: read.options(), reference };
    let node = context.client.unary(request, async |control, request| control.get_node(request).await).await?;
    if context.out.is_json() {
        return context.out.json(&NodePage::from(&node));
    }
    let (total, reserved) = totals(&node);
    let inventory = Inventory::from(node.inventory.clone().unwrap_or_default());
    let images = inventory.images.iter().map(|image| format!("{} ({})", image.reference, size(image.size_bytes)));
    let drivers: Vec<&str> = inventory.drivers.iter().map(|driver| driver.word()).collect();
    let conditions: Vec<&str> = inventory.conditions.iter().map(String::as_str).collect();
    let of = |reserved: String, total: String| format!("{reserved} reserved of {total}");
    let entries = [
        ("ID", node.id.clone()),
        ("Name", node.name.clone()),
        ("State", format!("{} since {} ({})", node.state, local_time(node.state_since_ms), age(node.state_since_ms))),
        ("Availability", until(&node)),
        ("Problems", conditions.join(", ")),
        ("Address", node.address.clone()),
        ("Labels", pairs(&node.labels)),
        ("Tasks", format!("{} of at most {}", node.tasks, task_limit(&node))),
        ("CPU", of(cpus(reserved.cpu_millis), cpus(total.cpu_millis))),
        ("Memory", of(size(reserved.memory_bytes), size(total.memory_bytes))),
        ("Disk", of(size(reserved.disk_bytes), size(total.disk_bytes))),
        ("Disk free", size(inventory.disk_free_bytes)),
        ("Drivers", drivers.join(", ")),
        ("Images", images.collect::<Vec<_>>().join("\n")),
        ("Registered", format!("{} ({})", local_time(node.registered_at_ms), age(node.registered_at_ms))),
        ("Agent", inventory.agent_version.clone()),
        ("Version", node.version.to_string()),
    ];
    let page: Vec<_> = entries.into_iter().filter(|(_, value): &(_, String)| !value.is_empty()).collect();
    context.out.page(&page)
}

pub async fn drain(
    context: &Context,
    reference: String,
    deadline: Option<Duration>,
    flags: &WaitFlags,
) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    let reply = set_availability(context, &reference, "drain", deadline).await?;
    if flags.quiet {
        out.line(&reply.id)?;
    }
    let (mut seen, mut waited, mut within) = (None, Waited::Detached, client.timeout());
    if !flags.detach {
        let mut goal = Drained::new(&reply.id, named(&reply.name, &reference));
        waited = wait(client, &mut goal, longest(deadline, flags), reply.index, flags.quiet).await?;
        (seen, within) = (goal.node, client.hurry());
    }
    if flags.quiet {
        return Ok(());
    }
    let state = if waited == Waited::Reached { "drained" } else { "draining" };
    match seen {
        Some(node) => print(context, &node, state),
        None => print(context, &look(context, &reply, within).await?, state),
    }
}

/// What is there at the deadline has to be stopped yet.
fn longest(deadline: Option<Duration>, flags: &WaitFlags) -> Duration {
    flags.wait_timeout.saturating_add(deadline.unwrap_or_default())
}

/// Drains it as the first half of something; whether it is empty, or nobody waits any more.
pub(super) async fn empty(
    context: &Context,
    reference: &str,
    deadline: Option<Duration>,
    flags: &WaitFlags,
) -> Result<bool, Failure> {
    let reply = set_availability(context, reference, "drain", deadline).await?;
    if flags.detach {
        return Ok(false);
    }
    let mut goal = Drained::new(&reply.id, named(&reply.name, reference));
    let waited = wait(&context.client, &mut goal, longest(deadline, flags), reply.index, flags.quiet).await?;
    Ok(waited == Waited::Reached)
}

/// It was left before it was empty.
pub(super) fn goes_on(context: &Context, reference: &str) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(&json!({ "name": reference, "removed": false }));
    }
    context.out.line(format_args!(
        "{reference}  draining; when it is empty, repeat the command or run `goatctl node rm {reference}`"
    ))
}

pub async fn activate(context: &Context, reference: String) -> Result<(), Failure> {
    let reply = set_availability(context, &reference, "active", None).await?;
    print(context, &look(context, &reply, context.client.timeout()).await?, "active")
}

pub async fn label(context: &Context, reference: String, labels: Vec<String>) -> Result<(), Failure> {
    let mut request = SetNodeLabelsRequest { request_id: request_id(), reference, ..Default::default() };
    for label in labels {
        match (label.split_once('='), label.strip_suffix('-')) {
            (Some((key, value)), _) => drop(request.set.insert(key.to_owned(), value.to_owned())),
            (None, Some(key)) => request.remove.push(key.to_owned()),
            (None, None) => {
                return Err(Failure::usage(format!("{label:?} is not a label: KEY=VALUE sets one, KEY- removes one")));
            }
        }
    }
    let reply = context.client.unary(request, async |control, request| control.set_node_labels(request).await).await?;
    let node = look(context, &reply, context.client.timeout()).await?;
    if context.out.is_json() {
        return context.out.json(&NodeRow::from(&node));
    }
    context.out.line(format_args!("{}  {}  {}", node.id, node.name, pairs(&node.labels).replace('\n', " ")))
}

async fn set_availability(
    context: &Context,
    reference: &str,
    availability: &str,
    within: Option<Duration>,
) -> Result<NodeReply, Failure> {
    let request = SetNodeAvailabilityRequest {
        request_id: request_id(),
        reference: reference.to_owned(),
        availability: availability.into(),
        within_ms: within.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX)),
    };
    context.client.unary(request, async |control, request| control.set_node_availability(request).await).await
}

/// The node as it is after an accepted change.
async fn look(context: &Context, reply: &NodeReply, within: Duration) -> Result<Node, Failure> {
    let request = GetNodeRequest { read: None, reference: reply.id.clone() };
    let got = context.client.unary_within(within, request, async |control, request| control.get_node(request).await);
    got.await.map_err(|failure| failure.after_acceptance(&format!("node {}", reply.id)))
}

fn print(context: &Context, node: &Node, state: &str) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(&NodeRow::from(node));
    }
    context.out.line(format_args!("{}  {}  {state}  {} tasks", node.id, node.name, node.tasks))
}

/// Those that cannot be removed are named at the end, and do not keep the others.
pub async fn rm(context: &Context, references: Vec<String>, force: bool) -> Result<(), Failure> {
    let is_one = references.len() == 1;
    let (mut removed, mut failures) = (Vec::new(), Vec::new());
    for reference in references {
        match remove_one(context, &reference, force).await {
            Ok(reply) => {
                let name = named(&reply.name, &reference);
                if !context.out.is_json() {
                    context.out.line(format_args!("{}  {name}  removed", reply.id))?;
                }
                removed.push(json!({ "id": reply.id, "name": name, "removed": true }));
            }
            Err(failure) => failures.push(failure),
        }
    }
    match removed.first() {
        _ if !context.out.is_json() => {}
        Some(only) if is_one => context.out.json(only)?,
        None if is_one => {}
        _ => context.out.json(&removed)?,
    }
    let Some(last) = failures.pop() else { return Ok(()) };
    failures.iter().for_each(|failure| say(&failure.to_string()));
    Err(last)
}

async fn remove_one(context: &Context, reference: &str, force: bool) -> Result<NodeReply, Failure> {
    let reply = remove(context, reference, force).await?;
    if force {
        removed_when_down(context, &reply.id).await?;
    }
    Ok(reply)
}

async fn remove(context: &Context, reference: &str, force: bool) -> Result<NodeReply, Failure> {
    let request = RemoveNodeRequest { request_id: request_id(), reference: reference.to_owned(), force };
    context.client.unary(request, async |control, request| control.remove_node(request).await).await
}

/// A node whose certificate is refused goes down by itself.
async fn removed_when_down(context: &Context, id: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + DOWN_WITHIN;
    loop {
        let request = GetNodeRequest { read: None, reference: id.to_owned() };
        let found = context.client.find(request, async |control, request| control.get_node(request).await).await?;
        match found {
            None => return Ok(()),
            Some(node) if node.state == "down" => return remove(context, id, false).await.map(drop),
            Some(node) if Instant::now() >= deadline => {
                let message = format!("{} is refused from now on, and is still {}", node.name, node.state);
                return Err(Failure::new(Exit::TimedOut, message)
                    .with_hint(format!("run `goatctl node rm {}` when it is down", node.name)));
            }
            Some(_) => sleep(LOOK_EVERY).await,
        }
    }
}
