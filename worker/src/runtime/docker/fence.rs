//! Ending a container for good, from its id alone.

use bollard::query_parameters as query;

use super::super::{Error, Found, FoundState};
use super::DockerRuntime;
use super::calls::{self, within};

impl DockerRuntime {
    /// Makes sure that the container does not run and cannot be started: for the watchdog, at the end of a lease.
    pub async fn fence(&self, id: &str) -> Result<(), Error> {
        let options = query::KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let client = self.client()?;
        match within(calls::KILL, client.kill_container(id, Some(options))).await {
            Ok(()) => return Ok(()),
            Err(fault) if fault.is_absent() => return Ok(()),
            // It does not run: has it, or will it?
            Err(fault) if fault.status() == Some(409) => {}
            Err(fault) => return Err(fault.general()),
        }
        match self.inspect_name(id).await? {
            Some(Found { state: FoundState::Created, .. }) => self.remove_name(id).await.map(drop),
            _ => Ok(()),
        }
    }
}
