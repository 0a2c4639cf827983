//! Which runtime a cluster's workers use, and why.

use std::time::Duration;

use bollard::Docker;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::layout::{Layout, Member};

const PING: Duration = Duration::from_secs(2);
const MIN_API: (u32, u32) = (1, 41);
const CALL_SECS: u64 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeKind {
    Docker,
    Process,
}

impl RuntimeKind {
    /// The word for it on command lines and in specs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Process => "process",
        }
    }
}

/// A client of the local daemon. Connects when first used.
pub fn docker() -> Result<Docker, Error> {
    let client = Docker::connect_with_local_defaults().map_err(Error::docker("connect"))?;
    Ok(client.with_timeout(Duration::from_secs(CALL_SECS)))
}

/// A client of the daemon that the worker uses.
pub fn docker_of(layout: &Layout, worker: Member) -> Result<Docker, Error> {
    let Some(socket) = layout.docker_socket(worker) else {
        return docker();
    };
    let socket = socket.display().to_string();
    Docker::connect_with_unix(&socket, CALL_SECS, bollard::API_DEFAULT_VERSION).map_err(Error::docker("connect"))
}

/// Whether containers can be run here; otherwise why not.
pub async fn probe() -> Result<String, String> {
    let client = docker().map_err(|error| error.to_string())?;
    let version = match tokio::time::timeout(PING, client.version()).await {
        Ok(Ok(version)) => version,
        Ok(Err(error)) => return Err(format!("the docker daemon does not answer ({error})")),
        Err(_) => return Err(format!("the docker daemon does not answer within {} s", PING.as_secs())),
    };
    let api = version.api_version.unwrap_or_default();
    let parsed = api.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match parsed {
        Some(found) if found >= MIN_API => {
            Ok(format!("docker {} with API {api} answers", version.version.unwrap_or_default()))
        }
        _ => Err(format!("the docker daemon has API {api}, and 1.41 is needed")),
    }
}

/// The runtime to use and a sentence that says why. `asked`: None for whichever there is.
pub async fn choose(asked: Option<RuntimeKind>) -> Result<(RuntimeKind, String), Error> {
    match asked {
        Some(RuntimeKind::Process) => Ok((RuntimeKind::Process, "process, as asked".into())),
        Some(RuntimeKind::Docker) => match probe().await {
            Ok(why) => Ok((RuntimeKind::Docker, format!("docker, as asked: {why}"))),
            Err(why) => Err(Error::failed(format!("{why}; start docker, or use --runtime process"))),
        },
        None => Ok(match probe().await {
            Ok(why) => (RuntimeKind::Docker, format!("docker: {why}")),
            Err(why) => (RuntimeKind::Process, format!("process (without isolation): {why}")),
        }),
    }
}
