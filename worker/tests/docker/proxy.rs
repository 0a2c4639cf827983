//! A Docker daemon of another release, played in front of a real one: tells other versions of the API, and refuses those that
//! are out of its range with Docker's words (moby, `daemon/server/middleware/version.go`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

const MAX_HEAD_BYTES: usize = 64 << 10;
/// The API versions of the real daemon.
const REAL_API: &str = "1.41";

/// The versions of the API that a daemon has.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    pub name: &'static str,
    pub newest: (u32, u32),
    pub oldest: (u32, u32),
}

pub const DOCKER_20_10: Release = Release { name: "20.10.24", newest: (1, 41), oldest: (1, 12) };
pub const DOCKER_29: Release = Release { name: "29.0.1", newest: (1, 52), oldest: (1, 44) };

#[derive(Debug)]
struct Played {
    release: Release,
    paths: Vec<String>,
}

pub struct Proxy {
    socket: PathBuf,
    played: Arc<Mutex<Played>>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on `socket`, and passes on to the daemon on `real`.
    pub fn start(socket: PathBuf, real: &Path, release: Release) -> Self {
        std::fs::create_dir_all(socket.parent().expect("a path in a directory")).expect("made");
        let listener = UnixListener::bind(&socket).expect("nobody else has it");
        let played = Arc::new(Mutex::new(Played { release, paths: Vec::new() }));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (shared, open, real) = (played.clone(), connections.clone(), real.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (played, real) = (shared.clone(), real.clone());
                open.lock().push(tokio::spawn(async move {
                    // The worker may leave at any time.
                    let _ = serve(client, &real, &played).await;
                }));
            }
        });
        Self { socket, played, connections, task }
    }

    pub fn socket(&self) -> String {
        self.socket.display().to_string()
    }

    /// As if the daemon was upgraded: it starts again, and every connection ends.
    pub fn become_release(&self, release: Release) {
        *self.played.lock() = Played { release, paths: Vec::new() };
        self.connections.lock().drain(..).for_each(|connection| connection.abort());
    }

    pub fn forget_paths(&self) {
        self.played.lock().paths.clear();
    }

    /// Requested paths since the start, the last change of release, or the last reset.
    pub fn paths(&self) -> Vec<String> {
        self.played.lock().paths.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request: bollard opens a connection for each.
async fn serve(mut client: UnixStream, real: &Path, played: &Mutex<Played>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > MAX_HEAD_BYTES || client.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let (line, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let release = {
        let mut played = played.lock();
        played.paths.push(path.to_owned());
        played.release
    };
    let (version, bare) = parted(path);
    if let Some(message) = version.and_then(|version| refusal(version, release)) {
        return answer(&mut client, "400 Bad Request", &serde_json::json!({ "message": message })).await;
    }
    if bare == "/version" {
        let (newest, oldest) = (shown(release.newest), shown(release.oldest));
        let version = serde_json::json!({ "Version": release.name, "ApiVersion": newest, "MinAPIVersion": oldest });
        return answer(&mut client, "200 OK", &version).await;
    }
    let mut daemon = UnixStream::connect(real).await?;
    daemon.write_all(format!("{method} /v{REAL_API}{bare} HTTP/1.1\r\n{headers}").as_bytes()).await?;
    daemon.write_all(&bytes[end..]).await?;
    tokio::io::copy_bidirectional(&mut client, &mut daemon).await.map(drop)
}

fn shown((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

/// Docker's answer to a version that it does not support.
fn refusal(version: (u32, u32), Release { newest, oldest, .. }: Release) -> Option<String> {
    if version < oldest {
        let (version, oldest) = (shown(version), shown(oldest));
        return Some(format!(
            "client version {version} is too old. Minimum supported API version is {oldest}, please upgrade your client to a \
             newer version"
        ));
    }
    (version > newest).then(|| {
        let (version, newest) = (shown(version), shown(newest));
        format!("client version {version} is too new. Maximum supported API version is {newest}")
    })
}

async fn answer(client: &mut UnixStream, status: &str, body: &serde_json::Value) -> std::io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).await
}

/// The version in a path, and the path without it.
fn parted(path: &str) -> (Option<(u32, u32)>, &str) {
    let version = path.strip_prefix("/v").and_then(|rest| rest.split_once('/')).and_then(|(version, rest)| {
        let (major, minor) = version.split_once('.')?;
        Some(((major.parse().ok()?, minor.parse().ok()?), &path[path.len() - rest.len() - 1..]))
    });
    version.map_or((None, path), |(version, bare)| (Some(version), bare))
}
