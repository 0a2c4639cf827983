//! Every field that can grow has a bound: each text, list and map of each message, from the compiled descriptors, is in a
//! table with its bound, and what clients, workers and strangers can send is sent over its bound to a manager.

mod table;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use goat_proto::v1::{
    CreateServiceRequest, Hello, Inventory, SetManagerAddressRequest, SetManagerRequest, SetNodeAvailabilityRequest,
    SetNodeLabelsRequest, UpdateServiceRequest, WorkerMessage, worker_message,
};
use prost::Message as _;
use tonic::{Code, Status};

use crate::cluster::{Cluster, request_id};
use crate::sessions::{A, session};
use crate::worker::hello;
use table::{BOUNDS, Bound};
use wire::{Schema, call, delimited, open};

/// Larger than that, a message is no bound: its sender could make a manager hold too much.
const LARGEST_MESSAGE: usize = 2 << 20;

fn bounds() -> BTreeMap<&'static str, Bound> {
    let bounds: BTreeMap<_, _> = BOUNDS.iter().copied().collect();
    assert_eq!(bounds.len(), BOUNDS.len(), "a field is in the table twice");
    bounds
}

#[test]
fn every_field_that_can_grow_has_a_bound() {
    let schema = Schema::read();
    let fields = schema.growing_fields();
    let bounds = bounds();
    let unbounded: Vec<_> = fields.iter().filter(|field| !bounds.contains_key(field.as_str())).collect();
    assert!(unbounded.is_empty(), "fields without a bound in bounds/table.rs: {unbounded:#?}");
    let gone: Vec<_> = bounds.keys().filter(|field| !fields.contains(**field)).collect();
    assert!(gone.is_empty(), "fields in bounds/table.rs that there are not: {gone:#?}");
}

/// "Bounded by its message" is true only where messages are small; between managers, whose messages are larger, no client,
/// worker or stranger can send.
#[test]
fn a_message_that_bounds_its_fields_is_small() {
    let schema = Schema::read();
    let from_outside: BTreeSet<String> = schema.inputs(|service| service != "Raft");
    for (field, bound) in bounds() {
        let message = field.split_once('.').expect("MESSAGE.FIELD").0;
        match bound {
            Bound::Message(bytes) => assert!(bytes <= LARGEST_MESSAGE, "{field}"),
            Bound::Members => assert!(!from_outside.contains(message), "{field} comes from outside"),
            Bound::Reply => assert!(!from_outside.contains(message), "{field} is not only in replies"),
            Bound::AtMost(_) | Bound::Length(_) | Bound::Whole(..) | Bound::Cut(_) | Bound::Logs => {}
        }
    }
}

/// Calls, with their requests, that read the field in question before they need any other one.
const PLAIN: &[(&str, &str)] = &[
    ("Control/ScaleService", "ScaleServiceRequest"),
    ("Control/RemoveService", "RemoveServiceRequest"),
    ("Control/RemoveNode", "RemoveNodeRequest"),
    ("Control/Freeze", "FreezeRequest"),
    ("Control/UpgradeCluster", "UpgradeClusterRequest"),
    ("Control/RestoreServices", "RestoreServicesRequest"),
    ("Control/ListServices", "ListServicesRequest"),
    ("Control/GetService", "GetServiceRequest"),
    ("Control/ListTasks", "ListTasksRequest"),
    ("Control/GetTask", "GetTaskRequest"),
    ("Control/TaskLogs", "TaskLogsRequest"),
    ("Control/ListNodes", "ListNodesRequest"),
    ("Control/GetNode", "GetNodeRequest"),
    ("Control/WatchEvents", "WatchEventsRequest"),
    ("Control/TransferLeader", "TransferLeaderRequest"),
    ("Identity/JoinManager", "JoinManagerRequest"),
    ("Identity/JoinWorker", "JoinWorkerRequest"),
    ("Identity/GetJoinToken", "GetJoinTokenRequest"),
    ("Identity/RotateAuthority", "RotateAuthorityRequest"),
    ("Identity/Renew", "RenewRequest"),
    ("Identity/IssueClient", "IssueClientRequest"),
    ("Identity/ListClients", "ListClientsRequest"),
    ("Identity/RevokeClient", "RevokeClientRequest"),
    ("Presence/Ping", "PingRequest"),
    ("Presence/PingFor", "PingForRequest"),
];

/// Calls, their requests, and what these have beside their ids before a field that is over its bound is added.
fn requests() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (web, m1) = ("web".to_owned(), "m1".to_owned());
    let spec = Some(wire::spec());
    let create = CreateServiceRequest { spec: spec.clone(), ..Default::default() };
    let update = UpdateServiceRequest { reference: web, spec, ..Default::default() };
    let address = "127.0.0.1:1".to_owned();
    let address = SetManagerAddressRequest { reference: m1.clone(), address, force: true, ..Default::default() };
    let (reference, availability) = ("w1".to_owned(), "active".to_owned());
    let drain = SetNodeAvailabilityRequest { reference, availability, ..Default::default() };
    let labels = SetNodeLabelsRequest { reference: "w1".into(), ..Default::default() };
    let manager = SetManagerRequest { reference: m1, standing: "voter".into(), ..Default::default() };
    let mut requests = vec![
        ("Control/CreateService", "CreateServiceRequest", create.encode_to_vec()),
        ("Control/UpdateService", "UpdateServiceRequest", update.encode_to_vec()),
        ("Control/SetManagerAddress", "SetManagerAddressRequest", address.encode_to_vec()),
        ("Control/SetNodeAvailability", "SetNodeAvailabilityRequest", drain.encode_to_vec()),
        ("Control/SetManager", "SetManagerRequest", manager.encode_to_vec()),
        ("Control/SetNodeLabels", "SetNodeLabelsRequest", labels.encode_to_vec()),
    ];
    requests.extend(PLAIN.iter().map(|(call, message)| (*call, *message, Vec::new())));
    requests
}

/// Whether a refusal is for that field: it names the field, or the whole that it is a part of.
fn is_about(status: &Status, field: &str, bound: Bound) -> bool {
    let name = field.rsplit('.').next().expect("a field");
    let text = status.message();
    match bound {
        Bound::Message(_) => status.code() == Code::OutOfRange && text.contains("too large"),
        Bound::Whole(word, _) => text.contains(word) || text.contains(name),
        _ => text.contains(name),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_or_a_stranger_sends_over_a_bound_is_refused_by_its_field() {
    let cluster = Cluster::new(42);
    cluster.settled().await;
    let (_worker, leader) = session(&cluster, A, "w1").await;
    let address = &cluster.managers[leader].address;
    let (schema, bounds) = (Schema::read(), bounds());
    cluster.create(leader, "web", &request_id(0)).await.expect("a quorum is there");
    let numbers = std::sync::atomic::AtomicUsize::new(1);
    let id = || request_id(numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let requests = requests();
    let sent: BTreeSet<String> = requests.iter().map(|(_, message, _)| (*message).to_owned()).collect();
    let taken = schema.inputs(|service| matches!(service, "Control" | "Identity" | "Presence"));
    let without_growing =
        ["ListPeersRequest", "GetStatusRequest", "SaveSnapshotRequest", "GetDebugRequest", "GetAuthorityRequest"];
    let missing: Vec<_> =
        schema.roots(&taken).filter(|root| !sent.contains(*root) && !without_growing.contains(root)).collect();
    assert!(missing.is_empty(), "no request is sent for {missing:?}");
    let mut wrong = Vec::new();
    for (path, message, base) in requests {
        for (field, over) in schema.over(message, &bounds) {
            // Another request each time: a retry would get the answer to the one before.
            let is_mutation = bounds.contains_key(format!("{message}.request_id").as_str());
            let number = if is_mutation { delimited(1, id().as_bytes()) } else { Vec::new() };
            let request = [base.as_slice(), &number, &over].concat();
            match call(address, path, request).await {
                Err(status) if is_about(&status, &field, bounds[field.as_str()]) => {}
                Err(status) => wrong.push(format!("{path} {field}: {status}")),
                Ok(()) => wrong.push(format!("{path} {field}: accepted")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    cluster.create(leader, "still-there", &id()).await.expect("writes go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_sends_over_a_bound_ends_its_session_with_the_field() {
    let cluster = Cluster::new(43);
    cluster.settled().await;
    let (_worker, leader) = session(&cluster, A, "w1").await;
    let address = &cluster.managers[leader].address;
    let (schema, bounds) = (Schema::read(), bounds());
    let greeting = Hello { inventory: Some(Inventory::default()), ..hello("bbbbbbbbbbbb", "w2") };
    let greeting = WorkerMessage { message: Some(worker_message::Message::Hello(greeting)) }.encode_to_vec();
    let mut wrong = Vec::new();
    for (field, over) in schema.over("WorkerMessage", &bounds) {
        // What is added to the greeting changes it; other messages come after it.
        let is_hello = over[0] >> 3 == 1;
        let messages =
            if is_hello { vec![[greeting.as_slice(), &over].concat()] } else { vec![greeting.clone(), over.clone()] };
        match tokio::time::timeout(Duration::from_secs(20), open(address, messages)).await {
            Ok(Err(status)) if is_about(&status, &field, bounds[field.as_str()]) => {}
            Ok(Err(status)) => wrong.push(format!("{field}: {status}")),
            Ok(Ok(())) => wrong.push(format!("{field}: ended without an error")),
            Err(_) => wrong.push(format!("{field}: the session goes on")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    cluster.create(leader, "still-there", &request_id(1)).await.expect("writes go on");
}
