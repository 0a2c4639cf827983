//! A command inside a container, and where the container is reached.
//!
//! Docker has no call that ends a command: what takes too long is killed by its process id, if the daemon runs on this
//! machine and lets us see it. What cannot be killed so ends with its container.

use std::net::IpAddr;
use std::time::Duration;

use bollard::Docker;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerInspectResponse, ExecConfig, ExecInspectResponse};
use futures::StreamExt;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};
use tracing::warn;

use super::DockerRuntime;
use super::calls::{self, within};
use super::error::Fault;
use crate::runtime::{Access, Error, Ran};
use crate::task::TaskMeta;

/// More of what it says is read and not kept.
const MAX_OUTPUT_BYTES: usize = 4 << 10;
/// The daemon learns a moment after the end of its output that a command has ended.
const END_POLL: Duration = Duration::from_millis(20);
const END_SEEN: Duration = Duration::from_secs(5);

#[async_trait::async_trait]
impl Access for DockerRuntime {
    /// The container's own address: its ports need not be published.
    async fn address_of(&self, meta: &TaskMeta) -> Result<IpAddr, Error> {
        let client = self.client()?;
        let inspect = |name: String| {
            let client = &client;
            async move { within(calls::INSPECT, client.inspect_container(&name, None)).await }
        };
        let inspected = self.ask(meta, inspect).await.map_err(of_container)?;
        address(inspected).ok_or_else(|| Error::failed("no-address", "its container has no address on any network"))
    }

    async fn exec(&self, meta: &TaskMeta, argv: &[String], limit: Duration) -> Result<Ran, Error> {
        let client = self.client()?;
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv.to_vec()),
            ..ExecConfig::default()
        };
        let create = |name: String| {
            let (client, config) = (&client, config.clone());
            async move { within(calls::INSPECT, client.create_exec(&name, config)).await }
        };
        let id = self.ask(meta, create).await.map_err(of_container)?.id;
        let mut said = Vec::new();
        match tokio::time::timeout(limit, attached(&client, &id, &mut said)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return Err(of_container(fault)),
            // It may have ended and left somebody behind who holds its output.
            Err(_) => return given_up(&client, &id, said).await,
        }
        let code = seen_to_end(&client, &id).await?;
        Ok(Ran { code: Some(code), output: text(&said) })
    }
}

/// An answer that is an error is the command's, or its container's; none says nothing.
fn of_container(fault: Fault) -> Error {
    match fault {
        Fault::Answered { message, .. } => Error::failed("exec-failed", message),
        other => other.general(),
    }
}

fn address(inspected: ContainerInspectResponse) -> Option<IpAddr> {
    let networks = inspected.network_settings?.networks?;
    let mut addresses: Vec<(String, IpAddr)> = networks
        .into_iter()
        .filter_map(|(network, endpoint)| {
            let texts = [endpoint.ip_address, endpoint.global_ipv6_address];
            Some((network, texts.into_iter().flatten().find_map(|text| text.parse().ok())?))
        })
        .collect();
    addresses.sort();
    addresses.into_iter().next().map(|(_, address)| address)
}

/// Starts it and reads what it says to the end.
async fn attached(client: &Docker, id: &str, said: &mut Vec<u8>) -> Result<(), Fault> {
    let options = StartExecOptions { detach: false, tty: false, output_capacity: None };
    let StartExecResults::Attached { mut output, .. } = client.start_exec(id, Some(options)).await? else {
        return Ok(());
    };
    while let Some(chunk) = output.next().await {
        let bytes = chunk?.into_bytes();
        let room = MAX_OUTPUT_BYTES - said.len();
        said.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    Ok(())
}

async fn inspect(client: &Docker, id: &str) -> Result<ExecInspectResponse, Error> {
    within(calls::INSPECT, client.inspect_exec(id)).await.map_err(Fault::general)
}

fn ended(inspected: &ExecInspectResponse) -> Option<i32> {
    let code = inspected.exit_code.filter(|_| inspected.running != Some(true))?;
    Some(i32::try_from(code).unwrap_or(-1))
}

async fn seen_to_end(client: &Docker, id: &str) -> Result<i32, Error> {
    let looking = async {
        loop {
            if let Some(code) = ended(&inspect(client, id).await?) {
                return Ok(code);
            }
            tokio::time::sleep(END_POLL).await;
        }
    };
    let late = || Error::Unreachable { problem: "the daemon does not say how the command ended".into() };
    tokio::time::timeout(END_SEEN, looking).await.unwrap_or_else(|_| Err(late()))
}

async fn given_up(client: &Docker, id: &str, said: Vec<u8>) -> Result<Ran, Error> {
    let inspected = inspect(client, id).await?;
    if let Some(code) = ended(&inspected) {
        return Ok(Ran { code: Some(code), output: text(&said) });
    }
    let pid = inspected.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
    let (Some(pid), Some(container)) = (pid, &inspected.container_id) else {
        // It has not begun, which is the daemon's doing.
        return Err(Error::Unreachable { problem: "the daemon does not get to running the command".into() });
    };
    if !kill_inside(container, pid) {
        warn!(container_id = container, pid, "a command in a container takes too long and cannot be killed from here");
    }
    Ok(Ran { code: None, output: text(&said) })
}

/// Kills a process and its group, if it is this container's; whether it was.
fn kill_inside(container: &str, pid: i32) -> bool {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if container.is_empty() || !cgroups.contains(container) {
        return false;
    }
    let pid = Pid::from_raw(pid);
    // A command leads a session of its own; without that its group may be the task's.
    let killed = if getpgid(Some(pid)) == Ok(pid) { killpg(pid, Signal::SIGKILL) } else { kill(pid, Signal::SIGKILL) };
    killed.is_ok()
}

fn text(said: &[u8]) -> String {
    String::from_utf8_lossy(said).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::{EndpointSettings, NetworkSettings};

    use super::*;

    #[test]
    fn the_address_is_that_of_the_first_network_which_gave_one() {
        let found = |networks: &[(&str, &str)]| {
            let endpoint = |text: &str| EndpointSettings { ip_address: Some(text.into()), ..Default::default() };
            let networks: HashMap<_, _> =
                networks.iter().map(|(name, text)| ((*name).to_owned(), endpoint(text))).collect();
            let settings = NetworkSettings { networks: Some(networks), ..Default::default() };
            address(ContainerInspectResponse { network_settings: Some(settings), ..Default::default() })
        };
        assert_eq!(found(&[("bridge", "172.17.0.2")]), Some([172, 17, 0, 2].into()));
        assert_eq!(found(&[("b", "10.0.0.2"), ("a", "")]), Some([10, 0, 0, 2].into()));
        assert_eq!(found(&[("none", "")]), None);
    }

    #[test]
    fn a_command_has_ended_when_it_has_a_code_and_does_not_run() {
        let seen = |running, exit_code| {
            ended(&ExecInspectResponse { running: Some(running), exit_code, ..ExecInspectResponse::default() })
        };
        assert_eq!([seen(true, None), seen(true, Some(0)), seen(false, None)], [None; 3]);
        assert_eq!(seen(false, Some(3)), Some(3));
    }

    #[test]
    fn only_a_containers_own_processes_are_killed() {
        assert!(!kill_inside("", std::process::id() as i32));
        assert!(!kill_inside(&"0".repeat(64), std::process::id() as i32));
    }
}
