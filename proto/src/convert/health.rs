//! Health checks. What a client leaves out has its default here; what it says is meant, a zero too.

use goat_core::model::{HealthCheck, HealthProbe};

use super::{Error, port};
use crate::v1;

const DEFAULT_HEALTH_INTERVAL_MS: u64 = 10_000;
const DEFAULT_HEALTH_TIMEOUT_MS: u64 = 5_000;
const DEFAULT_HEALTH_RETRIES: u32 = 3;

impl TryFrom<v1::HealthCheck> for HealthCheck {
    type Error = Error;

    fn try_from(wire: v1::HealthCheck) -> Result<Self, Error> {
        use v1::health_check::Probe;
        let probe = match wire.probe {
            None => return Err(Error::new("health.probe", "one of http, tcp and command is needed")),
            Some(Probe::Http(http)) => HealthProbe::Http {
                port: port("health.http.port", http.port)?,
                path: if http.path.is_empty() { "/".into() } else { http.path },
            },
            Some(Probe::Tcp(tcp)) => HealthProbe::Tcp { port: port("health.tcp.port", tcp.port)? },
            Some(Probe::Command(command)) => HealthProbe::Command { argv: command.argv },
        };
        let interval_ms = wire.interval_ms.unwrap_or(DEFAULT_HEALTH_INTERVAL_MS);
        Ok(Self {
            probe,
            interval_ms,
            // Never above the interval: a default must not make a short interval invalid.
            timeout_ms: wire.timeout_ms.unwrap_or(DEFAULT_HEALTH_TIMEOUT_MS.min(interval_ms)),
            start_period_ms: wire.start_period_ms.unwrap_or(0),
            retries: wire.retries.unwrap_or(DEFAULT_HEALTH_RETRIES),
        })
    }
}

impl From<&HealthCheck> for v1::HealthCheck {
    fn from(core: &HealthCheck) -> Self {
        use v1::health_check::Probe;
        let probe = match &core.probe {
            HealthProbe::Http { port, path } => {
                Probe::Http(v1::HttpProbe { port: u32::from(*port), path: path.clone() })
            }
            HealthProbe::Tcp { port } => Probe::Tcp(v1::TcpProbe { port: u32::from(*port) }),
            HealthProbe::Command { argv } => Probe::Command(v1::CommandProbe { argv: argv.clone() }),
        };
        Self {
            probe: Some(probe),
            interval_ms: Some(core.interval_ms),
            timeout_ms: Some(core.timeout_ms),
            start_period_ms: Some(core.start_period_ms),
            retries: Some(core.retries),
        }
    }
}

#[cfg(test)]
mod tests {
    use goat_core::model::{ServiceSpec, validate};

    use super::*;

    #[test]
    fn a_health_check_that_says_little_gets_the_defaults_and_is_valid() {
        let probe = Some(v1::health_check::Probe::Http(v1::HttpProbe { port: 80, path: String::new() }));
        let wire = v1::HealthCheck { probe, ..Default::default() };
        let read = |wire: v1::HealthCheck| {
            let health = Some(HealthCheck::try_from(wire).expect("it can be read"));
            let spec = ServiceSpec { name: "web".into(), image: "echo:1".into(), health, ..ServiceSpec::default() };
            validate::validate(&spec).map_err(|invalid| invalid.field)
        };
        assert_eq!(read(wire.clone()), Ok(()));
        assert_eq!(read(v1::HealthCheck { interval_ms: Some(2_000), ..wire.clone() }), Ok(()));
        assert_eq!(read(v1::HealthCheck { interval_ms: Some(0), ..wire.clone() }), Err("health.interval_ms"));
        assert_eq!(read(v1::HealthCheck { timeout_ms: Some(0), ..wire.clone() }), Err("health.timeout_ms"));
        assert_eq!(read(v1::HealthCheck { retries: Some(0), ..wire }), Err("health.retries"));
    }
}
