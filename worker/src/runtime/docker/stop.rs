//! Ending a container: its stop signal once, and SIGKILL when its grace is over. Docker's own stop counts whole seconds, sends its
//! signal again each time it is asked, and answers only when the container has ended, which a client may not wait for.

use std::time::{Duration, Instant};

use bollard::query_parameters as query;
use futures::StreamExt;

use super::super::Error;
use super::DockerRuntime;
use super::calls::{self, within};
use super::error::Fault;

/// The signal that Docker sends if the image names none.
const STOP_SIGNAL: &str = "SIGTERM";

impl DockerRuntime {
    /// Ends the container of that name or id; that there is none is fine.
    pub(super) async fn end(&self, name: &str, grace: Duration) -> Result<(), Error> {
        if !grace.is_zero() {
            let began = Instant::now();
            let Some(id) = self.ask_to_end(name).await? else { return Ok(()) };
            if self.wait_until_ended(name, grace.saturating_sub(began.elapsed())).await? {
                self.asked_to_end.lock().remove(&id);
                return Ok(());
            }
        }
        self.signal(name, "SIGKILL").await?;
        if self.wait_until_ended(name, calls::KILL).await? {
            return Ok(());
        }
        Err(Error::Unreachable { problem: "a killed container does not end".into() })
    }

    /// Returns whether it ran.
    pub(super) async fn end_if_running(&self, id: &str, grace: Duration) -> Result<bool, Error> {
        let is_running = self.inspect_name(id).await?.is_some_and(|found| found.is_running());
        if is_running {
            self.end(id, grace).await?;
        }
        Ok(is_running)
    }

    /// Sends the container its image's stop signal, unless that was done before. Returns its id; `None` if it does not run.
    async fn ask_to_end(&self, name: &str) -> Result<Option<String>, Error> {
        let client = self.client()?;
        let inspected = match within(calls::INSPECT, client.inspect_container(name, None)).await {
            Ok(inspected) => inspected,
            Err(fault) if fault.is_absent() => return Ok(None),
            Err(fault) => return Err(fault.general()),
        };
        let id = inspected.id.unwrap_or_default();
        if inspected.state.and_then(|state| state.running) != Some(true) {
            self.asked_to_end.lock().remove(&id);
            return Ok(None);
        }
        if !self.asked_to_end.lock().contains(&id) {
            let signal = inspected.config.and_then(|config| config.stop_signal).filter(|signal| !signal.is_empty());
            self.signal(name, signal.as_deref().unwrap_or(STOP_SIGNAL)).await?;
            self.asked_to_end.lock().insert(id.clone());
        }
        Ok(Some(id))
    }

    pub(super) async fn signal(&self, name: &str, signal: &str) -> Result<(), Error> {
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
    pub(super) async fn wait_until_ended(&self, name: &str, limit: Duration) -> Result<bool, Error> {
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
}
