//! Ending a container: by the daemon's own stop, or by signals where its whole seconds are too coarse.

use std::time::Duration;

use bollard::query_parameters as query;
use futures::StreamExt;

use super::super::Error;
use super::DockerRuntime;
use super::calls::{self, within};
use super::error::Fault;

impl DockerRuntime {
    /// Ends the container of that name or id; that there is none is fine.
    pub(super) async fn end(&self, name: &str, grace: Duration) -> Result<(), Error> {
        if grace < Duration::from_secs(1) {
            self.stop_quickly(name, grace).await
        } else {
            self.stop_slowly(name, grace).await
        }
    }

    async fn signal(&self, name: &str, signal: &str) -> Result<(), Error> {
        let options = query::KillContainerOptionsBuilder::default().signal(signal).build();
        let client = self.client()?;
        match within(calls::KILL, client.kill_container(name, Some(options))).await {
            Ok(()) => Ok(()),
            // 409: it does not run.
            Err(fault) if fault.is_absent() || fault.status() == Some(409) => Ok(()),
            Err(fault) => Err(fault.general()),
        }
    }

    /// Waits until the container does not run, at the most for `limit`; whether that came.
    async fn wait_until_ended(&self, name: &str, limit: Duration) -> Result<bool, Error> {
        let client = self.client()?;
        let mut ended = client.wait_container(name, None::<query::WaitContainerOptions>).boxed();
        match tokio::time::timeout(limit, ended.next()).await {
            Err(_) => Ok(false),
            // An exit code other than zero is told as an error.
            Ok(None | Some(Ok(_)) | Some(Err(bollard::errors::Error::DockerContainerWaitError { .. }))) => Ok(true),
            Ok(Some(Err(error))) => {
                let fault = Fault::from(error);
                if fault.is_absent() { Ok(true) } else { Err(fault.general()) }
            }
        }
    }

    /// The daemon's stop counts whole seconds; shorter graces are counted here.
    async fn stop_quickly(&self, name: &str, grace: Duration) -> Result<(), Error> {
        if !grace.is_zero() {
            self.signal(name, "SIGTERM").await?;
            if self.wait_until_ended(name, grace).await? {
                return Ok(());
            }
        }
        self.signal(name, "SIGKILL").await?;
        if self.wait_until_ended(name, calls::KILL).await? {
            return Ok(());
        }
        Err(Error::Unreachable { problem: "a killed container does not end".into() })
    }

    async fn stop_slowly(&self, name: &str, grace: Duration) -> Result<(), Error> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = query::StopContainerOptionsBuilder::default().t(seconds).build();
        let client = self.client()?;
        match within(grace + calls::STOP_EXTRA, client.stop_container(name, Some(options))).await {
            Ok(()) => Ok(()),
            Err(fault) if fault.is_absent() => Ok(()),
            Err(fault) => Err(fault.general()),
        }
    }
}
