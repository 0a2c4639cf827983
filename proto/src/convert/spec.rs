//! Service specs. Everything that a client may leave out has its default here, so that every client gets the same.

use std::collections::HashMap;

use goat_core::model::{
    Constraint, Driver, HealthCheck, Mode, Mount, Placement, Port, Protocol, RestartCondition, RestartPolicy,
    ServiceSpec, Strategy,
};

use super::words::Word;
use super::{Error, port, word, word_or};
use crate::v1;

/// Between the stop signal and the kill, where the spec does not say.
pub const DEFAULT_STOP_GRACE_MS: u64 = 10_000;

impl TryFrom<v1::ServiceSpec> for ServiceSpec {
    type Error = Error;

    fn try_from(wire: v1::ServiceSpec) -> Result<Self, Error> {
        let on_disconnect = match wire.on_disconnect.as_str() {
            "" => None,
            text => Some(word("on_disconnect", text)?),
        };
        Ok(Self {
            name: wire.name,
            driver: word_or("driver", &wire.driver, Driver::default())?,
            image: wire.image,
            command: wire.command,
            args: wire.args,
            env: wire.env.into_iter().collect(),
            labels: wire.labels.into_iter().collect(),
            mode: Mode::Replicated { replicas: wire.replicas },
            reservations: wire.reservations.unwrap_or_default().into(),
            limits: wire.limits.unwrap_or_default().into(),
            ports: wire.ports.iter().enumerate().map(ported).collect::<Result<_, _>>()?,
            mounts: wire.mounts.into_iter().map(Mount::from).collect(),
            restart: wire.restart.unwrap_or_default().try_into()?,
            placement: Placement {
                strategy: word_or("strategy", &wire.strategy, Strategy::default())?,
                constraints: wire.constraints.into_iter().map(Constraint::from).collect(),
                max_per_node: wire.max_per_node,
            },
            on_disconnect,
            health: wire.health.map(HealthCheck::try_from).transpose()?,
            stop_grace_ms: wire.stop_grace_ms.unwrap_or(DEFAULT_STOP_GRACE_MS),
        })
    }
}

impl From<&ServiceSpec> for v1::ServiceSpec {
    fn from(core: &ServiceSpec) -> Self {
        Self {
            name: core.name.clone(),
            driver: core.driver.word().into(),
            image: core.image.clone(),
            command: core.command.clone(),
            args: core.args.clone(),
            env: cloned(&core.env),
            labels: cloned(&core.labels),
            replicas: core.replicas(),
            reservations: Some(core.reservations.into()),
            limits: Some(core.limits.into()),
            ports: core.ports.iter().copied().map(v1::Port::from).collect(),
            mounts: core.mounts.iter().map(v1::Mount::from).collect(),
            restart: Some((&core.restart).into()),
            strategy: core.placement.strategy.word().into(),
            constraints: core.placement.constraints.iter().map(v1::Constraint::from).collect(),
            max_per_node: core.placement.max_per_node,
            on_disconnect: core.on_disconnect.map(Word::word).unwrap_or_default().into(),
            health: core.health.as_ref().map(v1::HealthCheck::from),
            stop_grace_ms: Some(core.stop_grace_ms),
        }
    }
}

impl From<ServiceSpec> for v1::ServiceSpec {
    fn from(core: ServiceSpec) -> Self {
        (&core).into()
    }
}

fn cloned<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> HashMap<String, String> {
    map.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn ported((at, wire): (usize, &v1::Port)) -> Result<Port, Error> {
    Ok(Port {
        host_port: port(format!("ports[{at}].host_port"), wire.host_port)?,
        container_port: port(format!("ports[{at}].container_port"), wire.container_port)?,
        protocol: word_or(&format!("ports[{at}].protocol"), &wire.protocol, Protocol::default())?,
    })
}

impl From<Port> for v1::Port {
    fn from(core: Port) -> Self {
        Self {
            host_port: core.host_port.into(),
            container_port: core.container_port.into(),
            protocol: core.protocol.word().into(),
        }
    }
}

impl From<v1::Mount> for Mount {
    fn from(wire: v1::Mount) -> Self {
        Self { source: wire.source, target: wire.target, read_only: wire.read_only }
    }
}

impl From<&Mount> for v1::Mount {
    fn from(core: &Mount) -> Self {
        Self { source: core.source.clone(), target: core.target.clone(), read_only: core.read_only }
    }
}

impl TryFrom<v1::RestartPolicy> for RestartPolicy {
    type Error = Error;

    fn try_from(wire: v1::RestartPolicy) -> Result<Self, Error> {
        let default = Self::default();
        let delay_ms = wire.delay_ms.unwrap_or(default.delay_ms);
        Ok(Self {
            condition: word_or("restart.condition", &wire.condition, RestartCondition::default())?,
            max_attempts: wire.max_attempts,
            delay_ms,
            // Who asks for a first wait above the usual cap, and names no cap, means a constant wait.
            max_delay_ms: wire.max_delay_ms.unwrap_or(default.max_delay_ms.max(delay_ms)),
            stable_after_ms: wire.stable_after_ms.unwrap_or(default.stable_after_ms),
        })
    }
}

impl From<&RestartPolicy> for v1::RestartPolicy {
    fn from(core: &RestartPolicy) -> Self {
        Self {
            condition: core.condition.word().into(),
            max_attempts: core.max_attempts,
            delay_ms: Some(core.delay_ms),
            max_delay_ms: Some(core.max_delay_ms),
            stable_after_ms: Some(core.stable_after_ms),
        }
    }
}

impl From<v1::Constraint> for Constraint {
    fn from(wire: v1::Constraint) -> Self {
        Self { label: wire.label, equal: wire.equal, value: wire.value }
    }
}

impl From<&Constraint> for v1::Constraint {
    fn from(core: &Constraint) -> Self {
        Self { label: core.label.clone(), equal: core.equal, value: core.value.clone() }
    }
}

#[cfg(test)]
mod tests {
    use goat_core::model::{HealthProbe, OnDisconnect, Resources, validate};

    use super::*;

    fn full() -> ServiceSpec {
        ServiceSpec {
            name: "web".into(),
            driver: Driver::Docker,
            image: "echo:1".into(),
            command: vec!["/echo".into()],
            args: vec!["--port".into(), "80".into()],
            env: [("A".into(), "1".into())].into(),
            labels: [("tier".into(), "front".into())].into(),
            mode: Mode::Replicated { replicas: 3 },
            reservations: Resources { cpu_millis: 500, memory_bytes: 1 << 26, disk_bytes: 7 },
            limits: Resources { cpu_millis: 900, memory_bytes: 1 << 27, disk_bytes: 0 },
            ports: vec![Port { host_port: 8080, container_port: 80, protocol: Protocol::Udp }],
            mounts: vec![Mount { source: "/a".into(), target: "/b".into(), read_only: true }],
            restart: RestartPolicy {
                condition: RestartCondition::OnFailure,
                max_attempts: Some(4),
                delay_ms: 0,
                max_delay_ms: 5,
                stable_after_ms: 6,
            },
            placement: Placement {
                strategy: Strategy::Epvm,
                constraints: vec![Constraint { label: "zone".into(), equal: false, value: "b".into() }],
                max_per_node: 2,
            },
            on_disconnect: Some(OnDisconnect::StopIfIsolated),
            health: Some(HealthCheck {
                probe: HealthProbe::Http { port: 80, path: "/healthz".into() },
                interval_ms: 1_000,
                timeout_ms: 500,
                start_period_ms: 3_000,
                retries: 2,
            }),
            stop_grace_ms: 0,
        }
    }

    fn through_the_wire(spec: &ServiceSpec) -> Result<ServiceSpec, Error> {
        v1::ServiceSpec::from(spec).try_into()
    }

    #[test]
    fn a_spec_survives_the_wire_whole() {
        let spec = full();
        assert_eq!(through_the_wire(&spec), Ok(spec));
        for probe in [HealthProbe::Tcp { port: 1 }, HealthProbe::Command { argv: vec!["true".into()] }] {
            let mut spec = full();
            spec.health.as_mut().expect("it has one").probe = probe;
            assert_eq!(through_the_wire(&spec), Ok(spec));
        }
        let plain = ServiceSpec { on_disconnect: None, ..ServiceSpec::default() };
        assert_eq!(through_the_wire(&plain), Ok(plain));
    }

    #[test]
    fn a_spec_that_says_little_gets_the_defaults_and_is_valid() {
        let wire = v1::ServiceSpec { name: "web".into(), image: "echo:1".into(), replicas: 2, ..Default::default() };
        let spec = ServiceSpec::try_from(wire).expect("nothing in it is wrong");
        assert_eq!(validate::validate(&spec), Ok(()));
        assert_eq!(spec.replicas(), 2);
        assert_eq!(spec.restart, RestartPolicy::default());
        assert_eq!(spec.stop_grace_ms, DEFAULT_STOP_GRACE_MS);
        assert_eq!(spec.driver, Driver::Docker);
        assert_eq!(spec.on_disconnect(), OnDisconnect::Keep);
    }

    #[test]
    fn no_replicas_means_none() {
        assert_eq!(ServiceSpec::try_from(v1::ServiceSpec::default()).map(|spec| spec.replicas()), Ok(0));
    }

    #[test]
    fn a_first_wait_above_the_usual_cap_raises_the_cap() {
        let wire = v1::RestartPolicy { delay_ms: Some(300_000), ..Default::default() };
        let restart = RestartPolicy::try_from(wire).expect("nothing in it is wrong");
        assert_eq!((restart.delay_ms, restart.max_delay_ms), (300_000, 300_000));
    }

    #[test]
    fn a_refusal_names_the_field_and_what_is_right() {
        let refused = |change: fn(&mut v1::ServiceSpec)| {
            let mut wire = v1::ServiceSpec::from(full());
            change(&mut wire);
            ServiceSpec::try_from(wire).expect_err("it is wrong").to_string()
        };
        assert_eq!(refused(|spec| spec.driver = "podman".into()), "driver: \"podman\" is not one of docker, process");
        assert_eq!(refused(|spec| spec.strategy = "x".into()), "strategy: \"x\" is not one of spread, binpack, epvm");
        assert_eq!(
            refused(|spec| spec.ports[0].host_port = 70_000),
            "ports[0].host_port: 70000 is not a port: at most 65535"
        );
        assert_eq!(
            refused(|spec| spec.restart = Some(v1::RestartPolicy { condition: "never".into(), ..Default::default() })),
            "restart.condition: \"never\" is not one of no, on-failure, always, unless-stopped"
        );
        assert_eq!(
            refused(|spec| spec.on_disconnect = "x".into()),
            "on_disconnect: \"x\" is not one of keep, stop, stop-if-isolated"
        );
        assert_eq!(
            refused(|spec| spec.health = Some(v1::HealthCheck::default())),
            "health.probe: one of http, tcp and command is needed"
        );
    }
}
