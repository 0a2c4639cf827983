//! A task's description as container labels, and back.

use std::collections::HashMap;

use goat_core::model::{ClusterId, Driver, NodeId, OnDisconnect, TaskId};
use goat_proto::convert::{self, Word};

use crate::task::{Order, TaskMeta};

const OURS: &str = "io.goat.";
const NODE: &str = "io.goat.node";
const TASK: &str = "io.goat.task";
const SERVICE: &str = "io.goat.service";
const SERVICE_ID: &str = "io.goat.service-id";
const CLUSTER: &str = "io.goat.cluster";
const SLOT: &str = "io.goat.slot";
const ATTEMPT: &str = "io.goat.attempt";
const FENCING_TOKEN: &str = "io.goat.fencing-token";
const SPEC_VERSION: &str = "io.goat.spec-version";
const ON_DISCONNECT: &str = "io.goat.on-disconnect";
const STOP_GRACE_MS: &str = "io.goat.stop-grace-ms";
/// As JSON; only where the task has a health check.
const HEALTH: &str = "io.goat.health";

/// As a filter: what is this node's.
pub(super) fn of_node(node: NodeId) -> String {
    format!("{NODE}={node}")
}

/// As a filter: what is that cluster's.
pub(super) fn of_cluster(cluster: ClusterId) -> String {
    format!("{CLUSTER}={cluster}")
}

/// As a filter: what is that task's.
pub(super) fn of_task(task: TaskId) -> String {
    format!("{TASK}={task}")
}

/// The labels of the order's container: the service's own, and GOAT's over them.
pub(super) fn write(order: &Order, node: NodeId) -> HashMap<String, String> {
    let meta = &order.meta;
    let mut labels: HashMap<String, String> =
        order.spec.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    labels.retain(|key, _| !key.starts_with(OURS));
    let mut set = |key: &str, value: String| labels.insert(key.to_owned(), value);
    set(NODE, node.to_string());
    set(TASK, meta.task.to_string());
    set(SERVICE, meta.service.clone());
    set(SERVICE_ID, meta.service_id.to_string());
    set(SLOT, meta.slot.to_string());
    set(ATTEMPT, meta.attempt.to_string());
    set(FENCING_TOKEN, meta.fencing_token.to_string());
    set(SPEC_VERSION, meta.spec_version.to_string());
    set(ON_DISCONNECT, meta.on_disconnect.word().to_owned());
    set(STOP_GRACE_MS, meta.stop_grace_ms.to_string());
    if let Some(health) = &meta.health {
        set(HEALTH, serde_json::to_string(health).expect("a health check is valid JSON"));
    }
    if let Some(cluster) = order.cluster {
        set(CLUSTER, cluster.to_string());
    }
    labels
}

/// The task whose container carries these labels; None where somebody else wrote or changed them.
pub(super) fn read(labels: &HashMap<String, String>) -> Option<TaskMeta> {
    let get = |key: &str| labels.get(key);
    Some(TaskMeta {
        task: get(TASK)?.parse().ok()?,
        service_id: get(SERVICE_ID)?.parse().ok()?,
        service: get(SERVICE)?.clone(),
        slot: get(SLOT)?.parse().ok()?,
        attempt: get(ATTEMPT)?.parse().ok()?,
        fencing_token: get(FENCING_TOKEN)?.parse().ok()?,
        // An earlier agent did not write it.
        spec_version: get(SPEC_VERSION).and_then(|text| text.parse().ok()).unwrap_or(0),
        driver: Driver::Docker,
        on_disconnect: convert::word::<OnDisconnect>(ON_DISCONNECT, get(ON_DISCONNECT)?).ok()?,
        stop_grace_ms: get(STOP_GRACE_MS)?.parse().ok()?,
        // One that a later agent wrote and this one cannot read must not make the container nobody's.
        health: get(HEALTH).and_then(|text| serde_json::from_str(text).ok()),
    })
}

/// The node whose container it is.
pub(super) fn read_node(labels: &HashMap<String, String>) -> Option<String> {
    labels.get(NODE).cloned()
}

/// Only the task's id, as an event's attributes have it.
pub(super) fn read_task(labels: &HashMap<String, String>) -> Option<goat_core::model::TaskId> {
    labels.get(TASK)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use goat_core::model::{HealthCheck, HealthProbe, ServiceSpec};

    use super::*;
    use crate::task::tests::meta;

    #[test]
    fn a_task_is_read_back_from_its_labels() {
        let labels = [(TASK.to_owned(), "mine".to_owned()), ("team".to_owned(), "a".to_owned())];
        let spec = ServiceSpec { labels: labels.into(), ..ServiceSpec::default() };
        let probe = HealthProbe::Command { argv: vec!["/check".into(), "a \"b\"".into()] };
        let health = Some(HealthCheck { probe, interval_ms: 1_000, timeout_ms: 500, start_period_ms: 0, retries: 3 });
        let order = Order {
            meta: TaskMeta { on_disconnect: OnDisconnect::Stop, health, ..meta(5) },
            spec: Arc::new(spec),
            cluster: None,
            node: "w1".into(),
            address: [127, 0, 0, 1].into(),
            traceparent: None,
        };
        let written = write(&order, NodeId::from_random(9));
        assert_eq!(read(&written), Some(order.meta.clone()));
        let mut unreadable = written.clone();
        unreadable.insert(HEALTH.into(), "{}".into());
        assert_eq!(read(&unreadable), Some(TaskMeta { health: None, ..order.meta }));
        assert_eq!(written["team"], "a");
        assert_eq!(read(&HashMap::new()), None);
    }
}
