//! Which runtime a cluster's workers use, and why; and where its Docker daemon listens.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{BollardRequest, Docker};
use hyper::Uri;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::layout::{Layout, Member};

const PING: Duration = Duration::from_secs(2);
const MIN_API: (u32, u32) = (1, 41);
const CALL_SECS: u64 = 60;
/// Of the daemon that root runs.
const SYSTEM_SOCKET: &str = "/var/run/docker.sock";
const DOCKER_HOST: &str = "DOCKER_HOST";

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

/// The Unix socket of the Docker daemon that this user's docker client would ask: the one in DOCKER_HOST; else the
/// system's, or where that one does not answer the user's own (rootless Docker).
pub fn docker_socket() -> Result<PathBuf, Error> {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    socket_of(std::env::var(DOCKER_HOST).ok().as_deref(), runtime_dir.as_deref(), |socket| {
        UnixStream::connect(socket).is_ok()
    })
}

fn socket_of(
    host: Option<&str>,
    runtime_dir: Option<&Path>,
    answers: impl Fn(&Path) -> bool,
) -> Result<PathBuf, Error> {
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        let path = Path::new(host.strip_prefix("unix://").unwrap_or(host));
        // As the workers' option `docker_host`.
        return if path.is_absolute() {
            Ok(path.to_owned())
        } else {
            Err(Error::failed(format!(
                "{DOCKER_HOST}={host}: workers reach Docker only by a Unix socket; set unix:///PATH, unset it, or use \
                 --runtime process"
            )))
        };
    }
    let (system, own) = (PathBuf::from(SYSTEM_SOCKET), runtime_dir.map(|dir| dir.join("docker.sock")));
    // Only a choice is tried out: a daemon that hangs may leave even a connection waiting.
    Ok(own.filter(|own| answers(own) && !answers(&system)).unwrap_or(system))
}

/// A client of the daemon at [`docker_socket`]. Connects when first used.
pub fn docker() -> Result<Docker, Error> {
    docker_at(&docker_socket()?)
}

/// A client of the daemon that the worker uses.
pub fn docker_of(layout: &Layout, worker: Member) -> Result<Docker, Error> {
    layout.docker_socket(worker).map_or_else(docker, |socket| docker_at(&socket))
}

fn docker_at(socket: &Path) -> Result<Docker, Error> {
    let socket = socket.display().to_string();
    let client = Docker::connect_with_unix(&socket, CALL_SECS, bollard::API_DEFAULT_VERSION);
    Ok(client.map_err(Error::docker("connect"))?.with_request_modifier(unversioned))
}

/// The request without a version of the API in its path, so that the daemon takes it for its own newest. bollard 0.21.1
/// names none, and a later one may name one that the daemon does not have.
fn unversioned(mut request: BollardRequest) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    let path = parts.path_and_query.as_ref().and_then(|path| without_version(path.as_str()));
    if let Some(Ok(path)) = path.map(str::parse) {
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// `/info` for `/v1.41/info`; `None` if the path has no version.
fn without_version(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/v")?;
    let end = rest.find('/')?;
    let (major, minor) = rest[..end].split_once('.')?;
    [major, minor].iter().all(|number| number.parse::<u32>().is_ok()).then(|| &rest[end..])
}

/// Whether containers can be run here; otherwise why not.
pub async fn probe() -> Result<String, String> {
    let socket = docker_socket().map_err(|error| error.to_string())?;
    let client = docker_at(&socket).map_err(|error| error.to_string())?;
    let at = socket.display();
    let version = match tokio::time::timeout(PING, client.version()).await {
        Ok(Ok(version)) => version,
        Ok(Err(error)) => return Err(format!("the docker daemon at {at} does not answer ({error})")),
        Err(_) => return Err(format!("the docker daemon at {at} does not answer within {} s", PING.as_secs())),
    };
    let api = version.api_version.unwrap_or_default();
    let parsed = api.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match parsed {
        Some(found) if found >= MIN_API => {
            Ok(format!("docker {} with API {api} answers at {at}", version.version.unwrap_or_default()))
        }
        _ => Err(format!("the docker daemon at {at} has API {api}, and {}.{} is needed", MIN_API.0, MIN_API.1)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_the_one_that_docker_itself_would_ask() {
        let own = Path::new("/run/user/1000");
        let socket = |host, answering: &str| {
            socket_of(host, Some(own), |socket| socket == Path::new(answering)).map(|path| path.display().to_string())
        };
        assert_eq!(socket(None, SYSTEM_SOCKET).expect("found"), SYSTEM_SOCKET);
        assert_eq!(socket(None, "/run/user/1000/docker.sock").expect("found"), "/run/user/1000/docker.sock");
        assert_eq!(socket(None, "").expect("to be told that it does not answer"), SYSTEM_SOCKET);
        assert_eq!(socket(Some(""), SYSTEM_SOCKET).expect("found"), SYSTEM_SOCKET);
        assert_eq!(socket(Some("unix:///run/d.sock"), SYSTEM_SOCKET).expect("named"), "/run/d.sock");
        assert_eq!(socket(Some("/run/d.sock"), SYSTEM_SOCKET).expect("named"), "/run/d.sock");
        for host in ["tcp://10.0.0.1:2375", "ssh://host", "unix://relative"] {
            let error = socket(Some(host), SYSTEM_SOCKET).expect_err("not a socket").to_string();
            assert!(error.contains(host) && error.contains("--runtime process"), "{error}");
        }
    }

    #[test]
    fn no_version_is_asked_for() {
        assert_eq!(without_version("/v1.53/containers/json?all=true"), Some("/containers/json?all=true"));
        assert_eq!(without_version("/volumes/v1.5/x"), None);
        assert_eq!(without_version("/version"), None);
        assert_eq!(without_version("/v1.x/y"), None);
    }
}
