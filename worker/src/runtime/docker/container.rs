//! A task as a container: how it is asked for, and how it is read back.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryStateEnum, HostConfig, HostConfigLogConfig, Mount, MountType, PortBinding, PortMap, RestartPolicy,
    RestartPolicyNameEnum,
};
use goat_core::model::{NodeId, Resources};
use goat_proto::convert::Word;

use super::super::{Error, Found, FoundState};
use super::calls::{self, within};
use super::error::Fault;
use super::{DockerRuntime, labels};
use crate::clock;
use crate::task::{Exit, Order, TaskMeta};

/// The size at which Docker begins a new file of a container's log, and how many files it keeps. With a single file all earlier
/// output is lost whenever it is full.
const LOG_MAX_SIZE: &str = "5m";
const LOG_MAX_FILES: &str = "3";

/// The container's name: readable, and one per task.
pub(super) fn name(meta: &TaskMeta) -> String {
    format!("goat-{}-{}-{}", meta.service, meta.slot, meta.task)
}

/// The container to create. `cpus`: the daemon's CPUs, if they are known; a limit above them limits nothing, and Docker would refuse it.
pub(super) fn body(order: &Order, node: NodeId, cpus: Option<u64>) -> ContainerCreateBody {
    let spec = &order.spec;
    let words = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
    let ports = spec.ports.iter().map(|port| format!("{}/{}", port.container_port, port.protocol.word())).collect();
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: words(&spec.command),
        cmd: words(&spec.args),
        env: Some(order.environment().iter().map(|(key, value)| format!("{key}={value}")).collect()),
        labels: Some(labels::write(order, node)),
        exposed_ports: (!spec.ports.is_empty()).then_some(ports),
        // For those who stop it by hand.
        stop_timeout: Some(order.meta.stop_grace_ms.div_ceil(1_000) as i64),
        host_config: Some(host_config(order, cpus)),
        ..ContainerCreateBody::default()
    }
}

impl DockerRuntime {
    /// The daemon's CPUs if the order limits CPUs: Docker refuses a limit above them.
    pub(super) async fn cpus_for(&self, order: &Order) -> Result<Option<u64>, Error> {
        if order.spec.limits.cpu_millis == 0 {
            return Ok(None);
        }
        let ask = async {
            let client = self.client()?;
            let info = within(calls::INSPECT, client.info()).await.map_err(Fault::general)?;
            Ok::<u64, Error>(info.ncpu.and_then(|cpus| u64::try_from(cpus).ok()).unwrap_or(0))
        };
        Ok(Some(*self.cpus.get_or_try_init(|| ask).await?).filter(|cpus| *cpus > 0))
    }
}

fn host_config(order: &Order, cpus: Option<u64>) -> HostConfig {
    let spec = &order.spec;
    let Resources { memory_bytes, cpu_millis, .. } = spec.limits;
    let cpu_millis = cpus.map_or(cpu_millis, |cpus| cpu_millis.min(cpus.saturating_mul(1_000)));
    let memory = (memory_bytes > 0).then(|| i64::try_from(memory_bytes).unwrap_or(i64::MAX));
    let mounts = spec.mounts.iter().map(|mount| Mount {
        typ: Some(if mount.source.starts_with('/') { MountType::BIND } else { MountType::VOLUME }),
        source: Some(mount.source.clone()),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..Mount::default()
    });
    HostConfig {
        memory,
        // The same: a limit that swap extends is none.
        memory_swap: memory,
        nano_cpus: (cpu_millis > 0).then(|| i64::try_from(cpu_millis.saturating_mul(1_000_000)).unwrap_or(i64::MAX)),
        port_bindings: (!spec.ports.is_empty()).then(|| port_bindings(order)),
        mounts: (!spec.mounts.is_empty()).then(|| mounts.collect()),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), LOG_MAX_SIZE.to_owned()),
                ("max-file".to_owned(), LOG_MAX_FILES.to_owned()),
            ])),
        }),
        ..HostConfig::default()
    }
}

fn port_bindings(order: &Order) -> PortMap {
    let mut bindings = PortMap::new();
    for port in &order.spec.ports {
        let inside = format!("{}/{}", port.container_port, port.protocol.word());
        let outside =
            PortBinding { host_ip: Some(order.address.to_string()), host_port: Some(port.host_port.to_string()) };
        bindings.entry(inside).or_default().get_or_insert_default().push(outside);
    }
    bindings
}

/// None for a container that is not a task's.
pub(super) fn found_by_list(summary: ContainerSummary) -> Option<Found> {
    use ContainerSummaryStateEnum as Listed;
    let state = summary.state?;
    let state = match state {
        Listed::CREATED => FoundState::Created,
        Listed::RUNNING | Listed::PAUSED | Listed::RESTARTING | Listed::STOPPING => FoundState::Running {
            started_at_ms: summary.created.map_or(0, |seconds| seconds.max(0) as u64 * 1_000),
            is_paused: state == Listed::PAUSED,
        },
        Listed::EXITED | Listed::DEAD => FoundState::Ended(None),
        // What is being removed is as good as gone.
        Listed::REMOVING | Listed::EMPTY => return None,
    };
    Some(Found { meta: labels::read(&summary.labels?)?, container_id: summary.id?, state })
}

/// None for a container that is not a task's.
pub(super) fn found_by_inspect(response: ContainerInspectResponse) -> Option<Found> {
    use ContainerStateStatusEnum as Status;
    let inspected = response.state?;
    let state = match inspected.status? {
        Status::CREATED => FoundState::Created,
        Status::EXITED | Status::DEAD => FoundState::Ended(Some(exit(&inspected))),
        status => FoundState::Running {
            started_at_ms: time_ms(inspected.started_at.as_deref()).unwrap_or(0),
            is_paused: status == Status::PAUSED,
        },
    };
    Some(Found { meta: labels::read(&response.config?.labels?)?, container_id: response.id?, state })
}

fn exit(state: &ContainerState) -> Exit {
    Exit {
        code: state.exit_code.and_then(|code| i32::try_from(code).ok()),
        is_oom: state.oom_killed.unwrap_or(false),
        at_ms: time_ms(state.finished_at.as_deref()).unwrap_or_else(clock::now_ms),
        ..Exit::default()
    }
}

fn time_ms(text: Option<&str>) -> Option<u64> {
    clock::parse_time_ms(text?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use goat_core::model::{Port, Protocol, ServiceSpec};

    use super::*;
    use crate::task::tests::meta;

    #[test]
    fn a_container_is_what_the_spec_says() {
        let spec = ServiceSpec {
            image: "echo:1".into(),
            args: vec!["-v".into()],
            limits: Resources { cpu_millis: 2_500, memory_bytes: 64 << 20, disk_bytes: 0 },
            ports: vec![Port { host_port: 8080, container_port: 80, protocol: Protocol::Udp }],
            ..ServiceSpec::default()
        };
        let order = Order {
            meta: meta(5),
            spec: Arc::new(spec),
            cluster: None,
            node: "w1".into(),
            address: [127, 0, 0, 9].into(),
            traceparent: None,
        };
        let host_of = |cpus| body(&order, NodeId::from_random(1), cpus).host_config.expect("it has one");
        assert_eq!(host_of(Some(4)).nano_cpus, Some(2_500_000_000));
        assert_eq!(host_of(Some(2)).nano_cpus, Some(2_000_000_000), "Docker refuses a limit above its CPUs");
        let body = body(&order, NodeId::from_random(1), None);
        assert_eq!((body.entrypoint, body.cmd), (None, Some(vec!["-v".to_owned()])));
        let host = body.host_config.expect("it has one");
        assert_eq!(
            (host.memory, host.memory_swap, host.nano_cpus),
            (Some(64 << 20), Some(64 << 20), Some(2_500_000_000))
        );
        let bindings = host.port_bindings.expect("it has some");
        let binding = &bindings["80/udp"].as_ref().expect("it is bound")[0];
        assert_eq!((binding.host_ip.as_deref(), binding.host_port.as_deref()), (Some("127.0.0.9"), Some("8080")));
        let log = host.log_config.and_then(|log| log.config).expect("it is limited");
        assert_eq!(
            (log["max-size"].as_str(), log["max-file"].as_str()),
            ("5m", "3"),
            "a full file is kept for a while"
        );
        assert_eq!(host.restart_policy.and_then(|policy| policy.name), Some(RestartPolicyNameEnum::NO));
        assert_eq!(name(&order.meta), "goat-web-1-000000000005");
    }
}
