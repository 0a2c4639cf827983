//! Limits of what a worker sends. Over them the session is refused with the field, the value, the limit and the remedy,
//! which the worker logs; nothing that is over a limit reaches the log.

use goat_core::model::{Inventory, MAX_NODE_TASKS, validate::node};
use goat_proto::v1::{self, worker_message};
use prost::Message as _;
use tonic::Status;

/// Tasks that a worker tells in its hello: those that it runs, and of each the history that managers keep and some more.
pub const MAX_HELLO_TASKS: usize = MAX_NODE_TASKS as usize * 8;
/// Reports in one batch. A worker of ours sends 500.
pub const MAX_REPORTS: usize = 1_000;
/// Bytes of one batch of reports.
pub const MAX_REPORTS_BYTES: usize = 4 << 20;
/// The digest in a heartbeat.
pub const MAX_STANCE_BYTES: usize = 512;
/// An id, a name: [`goat_core`] knows their exact forms.
pub const MAX_NAME_BYTES: usize = 128;

fn too_many(field: &str, what: &str, value: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!("{field}: {value} {what} are over the limit of {limit} for one worker"))
}

fn at_most(field: &str, what: &str, value: usize, limit: usize) -> Result<(), Status> {
    if value <= limit { Ok(()) } else { Err(too_many(field, what, value, limit)) }
}

/// Checks a worker's first message before it is read.
pub(super) fn check_hello(hello: &v1::Hello) -> Result<(), Status> {
    at_most("tasks", "tasks", hello.tasks.len(), MAX_HELLO_TASKS)?;
    at_most("origins", "origins", hello.origins.len(), MAX_HELLO_TASKS)?;
    at_most("stopping", "tasks", hello.stopping.len(), MAX_HELLO_TASKS)?;
    at_most("node_id", "bytes", hello.node_id.len(), MAX_NAME_BYTES)?;
    at_most("cluster_id", "bytes", hello.cluster_id.len(), MAX_NAME_BYTES)?;
    at_most("name", "bytes", hello.name.len(), MAX_NAME_BYTES)?;
    at_most("instance_id", "bytes", hello.instance_id.len(), MAX_NAME_BYTES)?;
    node::validate_address("address", &hello.address).map_err(refused)?;
    let labels = hello.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    at_most("labels", "labels", hello.labels.len(), node::MAX_LABELS)?;
    node::validate_labels(&labels).map_err(refused)
}

/// Checks a later message before it is read. Inventories are checked by [`inventory`].
pub(super) fn check_message(message: &worker_message::Message) -> Result<(), Status> {
    match message {
        worker_message::Message::Heartbeat(heartbeat) => {
            at_most("stance", "bytes", heartbeat.stance.len(), MAX_STANCE_BYTES)
        }
        worker_message::Message::Reports(batch) => {
            at_most("reports", "reports", batch.reports.len(), MAX_REPORTS)?;
            at_most("reports", "bytes", batch.encoded_len(), MAX_REPORTS_BYTES)
        }
        worker_message::Message::Hello(_) | worker_message::Message::Inventory(_) => Ok(()),
    }
}

/// Reads an inventory. Of an older worker's images, which may be many, the largest are kept.
pub(super) fn inventory(wire: v1::Inventory) -> Result<Inventory, Status> {
    at_most("inventory.drivers", "drivers", wire.drivers.len(), node::MAX_WORDS)?;
    let mut inventory = Inventory::from(wire);
    inventory.images = node::largest_images(inventory.images);
    node::validate_inventory(&inventory).map_err(refused)?;
    Ok(inventory)
}

fn refused(invalid: goat_core::model::validate::Invalid) -> Status {
    Status::invalid_argument(invalid.to_string())
}
