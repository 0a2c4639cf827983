//! Protobuf, as it comes from workers, clients and managers, and the conversions to core's values.

use goat_core::model::validate::validate;
use goat_core::model::{Availability, Inventory, NodeId, NodeState, RequestId, ServiceSpec, TaskState};
use goat_core::state::command::TaskReport;
use goat_proto::{convert, v1};
use goat_worker::task::Assignment;
use prost::Message;

use super::samples;

pub(super) fn spec_samples() -> Vec<Vec<u8>> {
    [samples::spec(), ServiceSpec::default()].iter().map(|spec| v1::ServiceSpec::from(spec).encode_to_vec()).collect()
}

/// A spec that is accepted comes back from the wire as it was.
pub(super) fn spec(bytes: &[u8]) {
    let Ok(wire) = v1::ServiceSpec::decode(bytes) else { return };
    let Ok(spec) = ServiceSpec::try_from(wire) else { return };
    if validate(&spec).is_ok() {
        let again = ServiceSpec::try_from(v1::ServiceSpec::from(&spec)).expect("it was accepted before");
        assert_eq!(validate(&again), Ok(()));
    }
}

fn said(message: v1::worker_message::Message) -> Vec<u8> {
    v1::WorkerMessage { message: Some(message) }.encode_to_vec()
}

pub(super) fn up_samples() -> Vec<Vec<u8>> {
    use v1::worker_message::Message as Up;
    let report = v1::TaskReport::from(&samples::report(1, TaskState::Running));
    let hello = v1::Hello {
        node_id: NodeId::from_random(1).to_string(),
        name: "w1".into(),
        address: "10.0.0.1".into(),
        inventory: Some((&samples::inventory()).into()),
        tasks: vec![report.clone()],
        term: 3,
        ..v1::Hello::default()
    };
    vec![
        said(Up::Hello(hello)),
        said(Up::Heartbeat(v1::Heartbeat { sequence: 7, stance: "a".into(), lease_sequence: 6 })),
        said(Up::Reports(v1::TaskReports { sequence: 1, reports: vec![report.clone(), report] })),
        said(Up::Inventory((&samples::inventory()).into())),
    ]
}

/// What a leader does with the words of a worker before it believes them.
pub(super) fn up(bytes: &[u8]) {
    use v1::worker_message::Message as Up;
    let Ok(v1::WorkerMessage { message: Some(message) }) = v1::WorkerMessage::decode(bytes) else { return };
    let reports = match message {
        Up::Hello(hello) => {
            let _ = convert::parse::<NodeId>("node_id", &hello.node_id);
            let _ = Inventory::from(hello.inventory.unwrap_or_default());
            hello.tasks
        }
        Up::Reports(batch) => batch.reports,
        Up::Inventory(inventory) => {
            let core = Inventory::from(inventory);
            assert_eq!(Inventory::from(v1::Inventory::from(&core)), core);
            return;
        }
        Up::Heartbeat(_) => return,
    };
    for report in reports {
        if let Ok(core) = TaskReport::try_from(report) {
            let again = TaskReport::try_from(v1::TaskReport::from(&core)).expect("it was accepted before");
            assert_eq!(again, core);
        }
    }
}

pub(super) fn down_samples() -> Vec<Vec<u8>> {
    use v1::manager_message::Message as Down;
    let assignment = v1::Assignment {
        task_id: "000000000001".into(),
        service_id: "000000000002".into(),
        service: "web".into(),
        slot: 1,
        attempt: 1,
        desired: "running".into(),
        fencing_token: 9,
        spec: Some((&samples::spec()).into()),
        spec_version: 4,
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
    };
    let all = Down::Assignments(v1::Assignments { sequence: 1, tasks: vec![assignment.clone()], ..Default::default() });
    let removed = vec!["000000000001".to_owned()];
    let changes =
        Down::Changes(v1::AssignmentChanges { sequence: 2, set: vec![assignment], removed, specs: Vec::new() });
    let lease = Down::Lease(v1::LeaseGrant { heartbeat_sequence: 3, ttl_ms: 2_500 });
    let message = |message| v1::ManagerMessage { term: 2, message: Some(message) }.encode_to_vec();
    [all, changes, lease].map(message).into()
}

/// What a worker does with a leader's words.
pub(super) fn down(bytes: &[u8]) {
    use v1::manager_message::Message as Down;
    let assignments = match v1::ManagerMessage::decode(bytes).map(|message| message.message) {
        Ok(Some(Down::Assignments(all))) => all.tasks,
        Ok(Some(Down::Changes(changes))) => changes.set,
        _ => return,
    };
    for wire in assignments {
        let _ = Assignment::read(wire, None);
    }
}

/// The first byte says which request the others are.
pub(super) fn control_samples() -> Vec<Vec<u8>> {
    let (request_id, reference) = ("0123456789ab".to_owned(), "web".to_owned());
    let spec = || Some((&samples::spec()).into());
    let create = v1::CreateServiceRequest { request_id: request_id.clone(), spec: spec() }.encode_to_vec();
    let update = v1::UpdateServiceRequest {
        request_id: request_id.clone(),
        reference: reference.clone(),
        seen_version: Some(3),
        spec: spec(),
    };
    let availability = v1::SetNodeAvailabilityRequest {
        request_id: request_id.clone(),
        reference: reference.clone(),
        availability: "drain".into(),
        within_ms: Some(60_000),
    };
    let scale = v1::ScaleServiceRequest { request_id, reference, replicas: 3 };
    let all = [create, update.encode_to_vec(), availability.encode_to_vec(), scale.encode_to_vec()];
    (0_u8..).zip(all).map(|(kind, bytes)| [vec![kind], bytes].concat()).collect()
}

/// Every request of the control service, as far as it is words.
pub(super) fn control(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let request_id = |text: &str| drop(convert::parse::<RequestId>("request_id", text));
    match kind % 6 {
        0 => {
            if let Ok(request) = v1::CreateServiceRequest::decode(bytes) {
                request_id(&request.request_id);
                spec(&request.spec.unwrap_or_default().encode_to_vec());
            }
        }
        1 => {
            if let Ok(request) = v1::UpdateServiceRequest::decode(bytes) {
                request_id(&request.request_id);
                spec(&request.spec.unwrap_or_default().encode_to_vec());
            }
        }
        2 => {
            if let Ok(request) = v1::SetNodeAvailabilityRequest::decode(bytes) {
                let _ = convert::word::<Availability>("availability", &request.availability);
            }
        }
        3 => {
            if let Ok(request) = v1::ScaleServiceRequest::decode(bytes) {
                request_id(&request.request_id);
            }
        }
        4 => {
            if let Ok(node) = v1::Node::decode(bytes) {
                let _ = convert::word::<NodeState>("state", &node.state);
            }
        }
        _ => {
            if let Ok(task) = v1::Task::decode(bytes) {
                let _ = convert::word::<TaskState>("state", &task.state);
            }
        }
    }
}
