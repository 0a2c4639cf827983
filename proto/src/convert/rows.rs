//! Rows of the replicated state as clients and workers see them. One way only: nobody sends a row back.
//!
//! Names and counts that a row does not hold are arguments: looking them up is the manager's.

use goat_core::model::{Desired, Node, Resources, ServiceSpec, Task};
use goat_core::state::Service;

use super::words::Word;
use crate::v1;

/// A service; `running` is how many of its tasks run.
pub fn service(row: &Service, running: u32) -> v1::Service {
    v1::Service {
        id: row.id.to_string(),
        spec: Some(row.spec.as_ref().into()),
        replicas_desired: row.spec.replicas(),
        replicas_running: running,
        removed: row.removed,
        spec_version: row.spec_version,
        created_at_ms: row.created_at_ms,
        updated_at_ms: row.updated_at_ms,
        version: row.version,
        read: None,
    }
}

/// A task; `service` and `node` are names, the latter empty while it has no node.
pub fn task(row: &Task, service: &str, node: &str) -> v1::Task {
    v1::Task {
        id: row.id.to_string(),
        service: service.into(),
        service_id: row.service.to_string(),
        slot: row.slot,
        node: node.into(),
        node_id: row.node.map(|id| id.to_string()).unwrap_or_default(),
        state: row.state.word().into(),
        desired: row.desired.word().into(),
        attempt: row.attempt,
        exit_code: row.exit_code,
        reason: row.reason.clone().unwrap_or_default(),
        error: row.error.clone().unwrap_or_default(),
        created_at_ms: row.created_at_ms,
        started_at_ms: row.started_at_ms,
        finished_at_ms: row.finished_at_ms,
        container_id: row.container_id.clone().unwrap_or_default(),
        cause: row.cause.word().into(),
        not_before_ms: row.not_before_ms,
        fencing_token: row.fencing_token,
        version: row.version,
        waits_for: String::new(),
        misplaced: false,
    }
}

/// A node; `tasks` is how many on it hold resources, `reserved` how much they hold.
pub fn node(row: &Node, tasks: u32, reserved: Resources) -> v1::Node {
    v1::Node {
        id: row.id.to_string(),
        name: row.name.clone(),
        state: row.state.word().into(),
        availability: row.availability.word().into(),
        address: row.address.clone(),
        labels: row.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        tasks,
        inventory: Some((&row.inventory).into()),
        reserved: Some(reserved.into()),
        registered_at_ms: row.registered_at_ms,
        state_since_ms: row.state_since_ms,
        version: row.version,
        drain_until_ms: row.drain_until_ms,
    }
}

/// A task for the worker that it belongs to; `service` is its service's name. Without its spec, which is either put into
/// the assignment or shared by several. `desired`: what its worker is to do, as opposed to what its row says.
pub fn assignment(row: &Task, service: &str, desired: Desired) -> v1::Assignment {
    v1::Assignment {
        traceparent: String::new(),
        task_id: row.id.to_string(),
        service_id: row.service.to_string(),
        service: service.into(),
        slot: row.slot,
        attempt: row.attempt,
        desired: desired.word().into(),
        fencing_token: row.fencing_token,
        spec: None,
        spec_version: row.spec_version,
    }
}

/// A spec for a worker. `on_disconnect` is resolved here, so that a worker needs no rule of its own for it.
pub fn assigned_spec(spec: &ServiceSpec) -> v1::ServiceSpec {
    v1::ServiceSpec { on_disconnect: spec.on_disconnect().word().into(), ..spec.into() }
}

#[cfg(test)]
mod tests {
    use goat_core::model::{Cause, Mode, NodeId, ServiceId, TaskId, TaskState};

    use super::*;

    fn pending() -> Task {
        Task {
            id: TaskId::from_random(1),
            service: ServiceId::from_random(2),
            slot: 3,
            spec_version: 4,
            node: None,
            desired: Desired::Running,
            state: TaskState::Pending,
            attempt: 5,
            failures: 0,
            not_before_ms: 6,
            cause: Cause::NodeLost,
            previous: None,
            created_at_ms: 7,
            started_at_ms: None,
            finished_at_ms: None,
            exit_code: None,
            reason: None,
            error: None,
            container_id: None,
            reservations: Resources::ZERO,
            ports: vec![],
            fencing_token: 8,
            stop_cause: None,
            fenced: false,
            returned: 0,
            version: 9,
        }
    }

    #[test]
    fn a_task_without_a_node_shows_none() {
        let wire = task(&pending(), "web", "");
        assert_eq!((wire.node.as_str(), wire.node_id.as_str()), ("", ""));
        assert_eq!(
            (wire.state.as_str(), wire.desired.as_str(), wire.cause.as_str()),
            ("pending", "running", "node-lost")
        );
        assert_eq!(wire.exit_code, None);
        let placed = Task { node: Some(NodeId::from_random(1)), exit_code: Some(0), ..pending() };
        let wire = task(&placed, "web", "w1");
        assert_eq!((wire.node.as_str(), wire.node_id.as_str(), wire.exit_code), ("w1", "000000000001", Some(0)));
    }

    #[test]
    fn an_assignment_says_what_happens_without_managers() {
        let resolved = |replicas| {
            let spec = ServiceSpec { mode: Mode::Replicated { replicas }, ..ServiceSpec::default() };
            assigned_spec(&spec).on_disconnect
        };
        assert_eq!(resolved(1), "stop-if-isolated");
        assert_eq!(resolved(2), "keep");
    }
}
