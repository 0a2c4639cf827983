//! Ending a container permanently, from its id alone.
//!
//! Docker has no call that forbids a start. A CPU quota of 0.1 ms does it: Docker accepts one for a container that does not run,
//! and the kernel accepts none below 1 ms (`min_cfs_quota_period`), so that each later start fails before the program begins.
//! Docker applies changes and starts one after the other: a container whose quota was changed while it did not run cannot run
//! later. If Docker refuses quotas (a kernel without CFS bandwidth control), a start is seen by its event, and ended.

use std::time::Duration;

use bollard::models::{ContainerUpdateBody, RestartPolicy, RestartPolicyNameEnum};
use bollard::query_parameters as query;
use futures::future::join_all;
use tracing::{debug, warn};

use super::super::{Error, Found, FoundState, Seal};
use super::DockerRuntime;
use super::calls::{self, within};
use super::error::Fault;

const SEALED_NANO_CPUS: i64 = 1_000_000;
/// Each is a start by somebody else that came in between.
const SEAL_TRIES: u32 = 10;

const NO_RESTARTS: RestartPolicy = RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None };

impl DockerRuntime {
    /// Makes sure that the container does not run and cannot be started: for the watchdog, at the end of a lease.
    pub async fn fence(&self, id: &str) -> Result<(), Error> {
        let options = query::KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let client = self.client()?;
        match within(calls::KILL, client.kill_container(id, Some(options))).await {
            Ok(()) => {}
            Err(fault) if fault.is_absent() => return Ok(()),
            // It does not run: has it, or will it?
            Err(fault) if fault.status() == Some(409) => {
                if let Some(Found { state: FoundState::Created, .. }) = self.inspect_name(id).await? {
                    return self.remove_name(id).await.map(drop);
                }
            }
            Err(fault) => return Err(fault.general()),
        }
        self.seal_container(id).await.map(drop)
    }

    /// Ends all of this node's containers, leased ones at once, others with their grace. Returns how many ran. An error if one of them
    /// may still run.
    pub async fn end_all(&self) -> Result<usize, Error> {
        let running: Vec<_> = self.listed(None).await?.into_iter().filter(Found::is_running).collect();
        let ended = join_all(running.iter().map(|found| async {
            if found.meta.on_disconnect.is_leased() {
                return self.fence(&found.container_id).await;
            }
            self.end(&found.container_id, Duration::from_millis(found.meta.stop_grace_ms)).await
        }));
        ended.await.into_iter().collect::<Result<Vec<()>, Error>>().map(|ended| ended.len())
    }

    /// See `Runtime::seal`.
    pub(super) async fn seal_container(&self, id: &str) -> Result<Seal, Error> {
        let mut seal = Seal { is_certain: true, ran_again: false };
        for _ in 0..SEAL_TRIES {
            let is_refused = match self.forbid_start(id).await {
                Ok(()) => false,
                Err(fault) if fault.is_absent() => return Ok(seal),
                Err(fault @ Fault::Answered { .. }) => {
                    debug!(container_id = id, problem = ?fault, "a container cannot be sealed");
                    true
                }
                Err(fault) => return Err(fault.general()),
            };
            match self.inspect_name(id).await? {
                Some(Found { state: FoundState::Running { .. }, .. }) => {
                    seal.ran_again = true;
                    self.signal(id, "SIGKILL").await?;
                    self.wait_until_ended(id, calls::KILL).await?;
                }
                None => return Ok(Seal { is_certain: true, ..seal }),
                // It may have been refused because it ran until a moment ago.
                Some(_) if is_refused && seal.is_certain => seal.is_certain = false,
                Some(_) => return Ok(Seal { is_certain: !is_refused, ..seal }),
            }
        }
        Err(Error::Unreachable { problem: "its container is started again and again".into() })
    }

    async fn forbid_start(&self, id: &str) -> Result<(), Fault> {
        let client = self.client().map_err(Fault::Known)?;
        let body = ContainerUpdateBody {
            nano_cpus: Some(SEALED_NANO_CPUS),
            restart_policy: Some(NO_RESTARTS),
            ..ContainerUpdateBody::default()
        };
        within(calls::KILL, client.update_container(id, body)).await
    }

    /// Takes back a restart policy that somebody gave the container: Docker would start it next to its successor.
    pub(super) async fn forbid_restarts(&self, id: &str) -> Result<(), Error> {
        let client = self.client()?;
        let inspected = match within(calls::INSPECT, client.inspect_container(id, None)).await {
            Ok(inspected) => inspected,
            Err(fault) if fault.is_absent() => return Ok(()),
            Err(fault) => return Err(fault.general()),
        };
        let policy = inspected.host_config.and_then(|config| config.restart_policy).and_then(|policy| policy.name);
        if policy.is_none_or(|name| matches!(name, RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY)) {
            return Ok(());
        }
        warn!(
            container_id = id,
            ?policy,
            "somebody gave a task's container a restart policy, which is taken back: GOAT restarts tasks, Docker must not"
        );
        let body = ContainerUpdateBody { restart_policy: Some(NO_RESTARTS), ..ContainerUpdateBody::default() };
        match within(calls::KILL, client.update_container(id, body)).await {
            Err(fault) if !fault.is_absent() => Err(fault.general()),
            _ => Ok(()),
        }
    }
}
