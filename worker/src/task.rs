//! A task as this worker sees it: what was ordered, and what became of it. Values only.

mod exit;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use goat_core::model::{
    ClusterId, Desired, Driver, HealthCheck, OnDisconnect, ServiceId, ServiceSpec, TaskId, TaskState,
};
use goat_core::state::command::MAX_REPORT_ERROR_BYTES;
use goat_proto::convert::{self, Word};
use goat_proto::v1;
use serde::{Deserialize, Serialize};

pub use exit::{Exit, KILLED, KILLED_EXTERNALLY};

/// What has to be known of a task once it was started; the whole spec is not. It is kept with the container (as labels)
/// or the process, so that an agent which lost everything else still knows what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMeta {
    pub task: TaskId,
    pub service_id: ServiceId,
    pub service: String,
    pub slot: u32,
    pub attempt: u32,
    pub fencing_token: u64,
    #[serde(default)]
    pub spec_version: u64,
    pub driver: Driver,
    pub on_disconnect: OnDisconnect,
    pub stop_grace_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
}

/// A task that managers gave to this worker.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub meta: TaskMeta,
    pub desired: Desired,
    /// What to run, or why that cannot be known; the task is then rejected.
    pub spec: Result<Arc<ServiceSpec>, String>,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
}

impl Assignment {
    /// Reads an assignment. `shared`: the spec that its message has for several, which counts if it has none of its own.
    ///
    /// # Errors
    /// Only if the task itself cannot be named, or what is wanted of it cannot be known.
    pub fn read(
        wire: v1::Assignment,
        shared: Option<Result<Arc<ServiceSpec>, String>>,
    ) -> Result<Self, convert::Error> {
        let task = convert::parse("task_id", &wire.task_id)?;
        let service_id = convert::parse("service_id", &wire.service_id)?;
        let desired = convert::word("desired", &wire.desired)?;
        let spec = match wire.spec {
            Some(spec) => ServiceSpec::try_from(spec).map(Arc::new).map_err(|error| error.to_string()),
            None => shared.unwrap_or_else(|| Err("spec: is missing".into())),
        };
        let meta = TaskMeta {
            task,
            service_id,
            service: wire.service,
            slot: wire.slot,
            attempt: wire.attempt,
            fencing_token: wire.fencing_token,
            spec_version: wire.spec_version,
            driver: spec.as_ref().map(|spec| spec.driver).unwrap_or_default(),
            on_disconnect: spec.as_ref().map_or(OnDisconnect::Keep, |spec| spec.on_disconnect()),
            stop_grace_ms: spec.as_ref().map_or(convert::DEFAULT_STOP_GRACE_MS, |spec| spec.stop_grace_ms),
            health: spec.as_ref().ok().and_then(|spec| spec.health.clone()),
        };
        let traceparent = Some(wire.traceparent).filter(|header| !header.is_empty());
        Ok(Self { meta, desired, spec, traceparent })
    }
}

/// What a runtime is told to run.
#[derive(Debug, Clone)]
pub struct Order {
    pub meta: TaskMeta,
    pub spec: Arc<ServiceSpec>,
    pub cluster: Option<ClusterId>,
    /// This worker's name.
    pub node: String,
    /// Where published ports bind.
    pub address: IpAddr,
    /// The trace that its start belongs to.
    pub traceparent: Option<String>,
}

impl Order {
    /// The task's environment: the spec's, and what GOAT says of the task. Where the workload should listen depends on
    /// whether it has a network of its own.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let port = self.spec.ports.first();
        let (host, port) = match self.meta.driver {
            Driver::Docker => ("0.0.0.0".to_owned(), port.map(|port| port.container_port)),
            Driver::Process => (self.address.to_string(), port.map(|port| port.host_port)),
        };
        let mut env = self.spec.env.clone();
        let mut set = |key: &str, value: String| env.insert(key.to_owned(), value);
        set("GOAT_TASK_ID", self.meta.task.to_string());
        set("GOAT_SERVICE", self.meta.service.clone());
        set("GOAT_SLOT", self.meta.slot.to_string());
        set("GOAT_NODE", self.node.clone());
        set("GOAT_FENCING_TOKEN", self.meta.fencing_token.to_string());
        set("GOAT_HOST", host);
        if let Some(port) = port {
            set("GOAT_PORT", port.to_string());
        }
        env
    }
}

/// What became of a task; journaled when it was started, when it is ready, and when it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub meta: TaskMeta,
    pub state: TaskState,
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    pub error: Option<String>,
    pub container_id: Option<String>,
    /// When its program was started, ready or not (Unix ms).
    #[serde(default)]
    pub started_at_ms: Option<u64>,
    /// The boot of the machine in which its program was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// When it came into `state` (Unix ms); for one that runs, when it was started.
    pub at_ms: u64,
}

impl Record {
    /// A task that nothing was done about yet.
    pub fn new(meta: TaskMeta, at_ms: u64) -> Self {
        Self {
            meta,
            state: TaskState::Assigned,
            exit_code: None,
            reason: None,
            error: None,
            container_id: None,
            started_at_ms: None,
            boot_id: None,
            at_ms,
        }
    }

    /// Whether the machine has been restarted since its program was started.
    pub fn is_of_another_boot(&self) -> bool {
        self.boot_id.as_ref().is_some_and(|boot_id| *boot_id != crate::clock::boot_id())
    }

    /// Whether its program was started, so that it must not be again.
    pub fn was_started(&self) -> bool {
        self.started_at_ms.is_some() || self.state >= TaskState::Running
    }

    /// Its program runs. With a health check it stays `starting` until that has passed.
    pub fn started(&mut self, container_id: String, started_at_ms: u64) {
        self.container_id.get_or_insert(container_id);
        self.boot_id.get_or_insert_with(crate::clock::boot_id);
        let started_at_ms = *self.started_at_ms.get_or_insert(started_at_ms);
        if self.state < TaskState::Running {
            self.state = if self.meta.health.is_some() { TaskState::Starting } else { TaskState::Running };
            self.at_ms = started_at_ms;
        }
    }

    /// Where it comes from, for managers that may have lost it.
    pub fn origin(&self) -> v1::TaskOrigin {
        let meta = &self.meta;
        v1::TaskOrigin {
            task_id: meta.task.to_string(),
            service_id: meta.service_id.to_string(),
            slot: meta.slot,
            attempt: meta.attempt,
            spec_version: meta.spec_version,
            fencing_token: meta.fencing_token,
        }
    }

    /// As a report to managers.
    pub fn report(&self) -> v1::TaskReport {
        v1::TaskReport {
            task_id: self.meta.task.to_string(),
            state: self.state.word().into(),
            exit_code: self.exit_code,
            reason: self.reason.clone().unwrap_or_default(),
            error: convert::cut(self.error.clone().unwrap_or_default(), MAX_REPORT_ERROR_BYTES),
            container_id: self.container_id.clone().unwrap_or_default(),
            at_ms: self.at_ms,
        }
    }

    /// The task ended as `exit` says, by itself.
    pub fn exited(&mut self, exit: Exit) {
        self.exit_code = exit.code;
        self.at_ms = exit.at_ms;
        let is_fine = exit.code == Some(0) && exit.failure.is_none();
        self.state = if is_fine { TaskState::Complete } else { TaskState::Failed };
        (self.reason, self.error) = match (exit.failure, exit.is_oom, exit.code) {
            (Some((reason, error)), ..) => (Some(reason), Some(error)),
            (None, true, Some(code)) if code != KILLED => {
                let problem =
                    format!("memory ran out in it: a process of it was killed, and it ended with exit code {code}");
                (Some("oom-killed".into()), Some(problem))
            }
            (None, true, _) => (Some("oom-killed".into()), Some("it used more memory than its limit".into())),
            (None, false, Some(0)) => (None, None),
            (None, false, Some(code)) => (Some("exit".into()), Some(format!("ended with exit code {code}"))),
            (None, false, None) => (Some("exit-unknown".into()), Some("it ended and nobody saw how".into())),
        };
    }

    /// The task failed before or without an exit.
    pub fn failed(&mut self, reason: &str, error: impl Into<String>, at_ms: u64) {
        self.state = TaskState::Failed;
        self.reason = Some(reason.to_owned());
        self.error = Some(error.into());
        self.at_ms = at_ms;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn meta(task: u64) -> TaskMeta {
        TaskMeta {
            task: TaskId::from_random(task),
            service_id: ServiceId::from_random(1),
            service: "web".into(),
            slot: 1,
            attempt: 1,
            fencing_token: 42,
            spec_version: 41,
            driver: Driver::Docker,
            on_disconnect: OnDisconnect::Keep,
            stop_grace_ms: 10_000,
            health: None,
        }
    }

    #[test]
    fn an_exit_becomes_the_state_and_the_reason() {
        let ended = |code, is_oom| {
            let mut record = Record::new(meta(1), 0);
            record.exited(Exit { code, is_oom, at_ms: 5, ..Exit::default() });
            (record.state, record.reason.unwrap_or_default(), record.at_ms)
        };
        assert_eq!(ended(Some(1), true), (TaskState::Failed, "oom-killed".into(), 5), "of a child");
        assert_eq!(ended(Some(0), true), (TaskState::Complete, "oom-killed".into(), 5), "it got over it");
        assert_eq!(ended(Some(0), false), (TaskState::Complete, String::new(), 5));
        assert_eq!(ended(Some(3), false), (TaskState::Failed, "exit".into(), 5));
        assert_eq!(ended(Some(137), true), (TaskState::Failed, "oom-killed".into(), 5));
        assert_eq!(ended(None, false), (TaskState::Failed, "exit-unknown".into(), 5));
    }

    #[test]
    fn a_task_is_told_where_to_listen() {
        let port = goat_core::model::Port { host_port: 8080, container_port: 80, protocol: Default::default() };
        let spec = Arc::new(ServiceSpec { ports: vec![port], ..ServiceSpec::default() });
        let address = [127, 0, 0, 9].into();
        let mut order = Order { meta: meta(1), spec, cluster: None, node: "w1".into(), address, traceparent: None };
        let env = order.environment();
        assert_eq!((env["GOAT_HOST"].as_str(), env["GOAT_PORT"].as_str()), ("0.0.0.0", "80"));
        assert_eq!((env["GOAT_FENCING_TOKEN"].as_str(), env["GOAT_NODE"].as_str()), ("42", "w1"));
        order.meta.driver = Driver::Process;
        let env = order.environment();
        assert_eq!((env["GOAT_HOST"].as_str(), env["GOAT_PORT"].as_str()), ("127.0.0.9", "8080"));
    }

    #[test]
    fn an_assignment_without_a_usable_spec_still_names_its_task() {
        let wire = v1::Assignment {
            task_id: TaskId::from_random(7).to_string(),
            service_id: ServiceId::from_random(1).to_string(),
            desired: "running".into(),
            spec: Some(v1::ServiceSpec { driver: "wasm".into(), ..Default::default() }),
            ..Default::default()
        };
        let assignment = Assignment::read(wire.clone(), None).expect("the task is named");
        assert!(assignment.spec.expect_err("unusable").contains("driver"));
        assert!(Assignment::read(v1::Assignment { task_id: "x".into(), ..wire }, None).is_err());
    }
}
