//! Checks of single options, with their defaults. Looks at nothing but the options.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use goat_core::model::Driver;
use goat_core::model::validate::node;

use super::{Error, RuntimeName};

pub(super) fn runtimes(named: Option<Vec<RuntimeName>>) -> Result<Vec<Driver>, Error> {
    let mut runtimes: Vec<Driver> = named.unwrap_or(vec![RuntimeName::Docker]).into_iter().map(Driver::from).collect();
    runtimes.sort();
    runtimes.dedup();
    if runtimes.is_empty() {
        return Err(Error::Invalid { key: "runtimes", problem: "none is named; name docker, process or both".into() });
    }
    Ok(runtimes)
}

pub(super) fn concurrent_starts(asked: Option<usize>) -> Result<usize, Error> {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
    match asked.unwrap_or((2 * cpus).max(4)) {
        0 => {
            Err(Error::Invalid { key: "max_concurrent_starts", problem: "0 would start nothing; use 1 or more".into() })
        }
        starts if starts > 1_024 => {
            Err(Error::Invalid { key: "max_concurrent_starts", problem: format!("{starts} is over the limit of 1024") })
        }
        starts => Ok(starts),
    }
}

/// As the managers check them: a worker that they refuse does not start.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Error> {
    node::validate_labels(labels).map_err(|invalid| Error::Invalid { key: "labels", problem: invalid.problem })
}

pub(super) fn check_max_tasks(asked: Option<u32>) -> Result<(), Error> {
    let checked = asked.map_or(Ok(()), node::validate_max_tasks);
    checked.map_err(|invalid| Error::Invalid { key: "max_tasks", problem: invalid.problem })
}

pub(super) fn docker_socket(asked: Option<String>) -> Result<String, Error> {
    let socket = asked.unwrap_or_else(|| "/var/run/docker.sock".into());
    let path = socket.strip_prefix("unix://").unwrap_or(&socket);
    if !path.starts_with('/') {
        return Err(Error::Invalid {
            key: "docker_host",
            problem: format!("{socket:?} is not the absolute path of a unix socket; only local daemons are supported"),
        });
    }
    Ok(path.to_owned())
}

pub(super) fn advertised(asked: Option<String>, listen: SocketAddr, address: IpAddr) -> Result<String, Error> {
    let invalid = |problem| Error::Invalid { key: "advertise", problem };
    match asked {
        Some(asked) if is_host_and_port(&asked) => {
            node::validate_address("advertise", &asked).map_err(|error| invalid(error.problem))?;
            Ok(asked)
        }
        Some(asked) => Err(invalid(format!("{asked:?} is not HOST:PORT, as in 10.0.0.7:7701"))),
        None if listen.port() == 0 => Err(invalid("is needed where `listen` leaves the port open".into())),
        None if listen.ip().is_unspecified() => Ok(SocketAddr::new(address, listen.port()).to_string()),
        None => Ok(listen.to_string()),
    }
}

fn is_host_and_port(address: &str) -> bool {
    match address.rsplit_once(':') {
        Some((host, port)) => {
            let host_fits = !host.is_empty() && !host.contains(['/', ' ', '@']);
            host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => false,
    }
}

pub(super) fn check_plaintext(is_plaintext: bool, listen: SocketAddr) -> Result<(), Error> {
    if !is_plaintext || listen.ip().is_loopback() {
        return Ok(());
    }
    let problem = format!("{listen} can be reached from other machines; without encryption only loopback is allowed");
    Err(Error::Invalid { key: "plaintext", problem })
}

pub(super) fn check_manager(address: &str) -> Result<(), Error> {
    if is_host_and_port(address) {
        return Ok(());
    }
    let problem = format!("{address:?} is not a manager's address: HOST:PORT is expected, as in 10.0.0.1:7700");
    Err(Error::Invalid { key: "managers", problem })
}
