//! A worker with a certificate of the cluster means harm: messages that are too large, requests whose end it withholds, and
//! floods of sessions, of inventories and of logs. Managers keep their memory, and the cluster goes on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::stream;
use goat_proto::v1;
use goat_proto::v1::dispatcher_client::DispatcherClient;
use goat_tls::{Connector, Credentials, Role, Transport};
use tokio::process::Command;
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::liveness::{Allowed, Period};
use super::memory::Memory;
use super::withheld;
use crate::cluster::Options;
use crate::drill::stage::{Measured, Stage};
use crate::error::Error;
use crate::taskset::TaskSet;

const NAME: &str = "w99";
const PUSH_LOGS: &str = "/goat.v1.Dispatcher/PushLogs";
const LENGTH_S: u64 = 20;
const LABEL_BYTES: usize = 7 << 20;
const IMAGES: usize = 500_000;
/// Streams of each kind.
const SESSIONS: usize = 200;
const LOG_STREAMS: usize = 500;
/// Of a stream of logs: announced, and sent.
const LOG_BYTES: (usize, usize) = (8 << 20, 1 << 20);
const JOIN_WITHIN: Duration = Duration::from_secs(40);
const CONNECT: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(20);
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Until it is known to be down, and can be removed.
const REMOVED_WITHIN: Duration = Duration::from_secs(60);
const ALLOWED: Allowed = Allowed { write_gap: Duration::from_secs(3) };

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let dir = stage.remote().layout().dir.join(NAME);
    let (connector, id) = identity(&joined(stage, &dir).await?)?;
    let layout = stage.remote().layout().clone();
    let mut channels = Vec::new();
    for member in layout.first_managers() {
        let endpoint = Endpoint::from_shared(format!("http://{}", layout.listen(member)));
        let endpoint = endpoint.map_err(|error| Error::failed(error.to_string()))?;
        channels.push(connector.channel(&endpoint));
    }
    let what = format!("hostile worker {NAME}");
    let memory = Memory::begin(stage).await?;
    let period = Period::begin(stage, &what).await?;
    stage.timeline.tell(&what);
    let attacks = TaskSet::new("attacks");
    for channel in channels {
        attack(&attacks, &channel, &id);
    }
    tokio::time::sleep(stage.length(LENGTH_S)).await;
    memory.check(stage, &what);
    let gap_ms = period.end(stage, ALLOWED).await?;
    attacks.stop(STOP_GRACE).await;
    removed(stage).await?;
    let healed = stage.whole_again(&what).await?;
    Ok(vec![("write gap", gap_ms), ("attack over to whole", healed)])
}

/// Lets a worker join that never runs. Returns its identity.
async fn joined(stage: &Stage, dir: &Path) -> Result<PathBuf, Error> {
    let layout = stage.remote().layout();
    let token = stage.client().join_token("worker").await?;
    let program = Options::new(layout.dir.clone(), layout.runtime)?.binaries.join("goat-worker");
    let join = Command::new(&program)
        .args(["join", "--data-dir"])
        .arg(dir)
        .args(layout.addresses())
        .env("GOAT_JOIN_TOKEN", token)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(JOIN_WITHIN, join).await;
    let output = output.map_err(|_| Error::failed("`goat-worker join` does not end in time"))?;
    let output = output.map_err(Error::io("start", &program))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::failed(format!("`goat-worker join` failed: {}", said.trim())));
    }
    Ok(dir.join("identity.pem"))
}

/// Its connections, and its node's id.
fn identity(path: &Path) -> Result<(Connector, String), Error> {
    let credentials = Credentials::load(path).map_err(|error| Error::failed(error.to_string()))?;
    let credentials = credentials.ok_or_else(|| Error::failed(format!("{} is missing", path.display())))?;
    let id = credentials.subject().id.clone();
    let transport = Transport::new(credentials).map_err(|error| Error::failed(error.to_string()))?;
    Ok((Connector::new(transport, Role::Manager, None, CONNECT), id))
}

/// Everything at once, at one manager.
fn attack(attacks: &TaskSet, channel: &Channel, id: &str) {
    let large = v1::Hello { labels: [("x".to_owned(), "a".repeat(LABEL_BYTES))].into(), ..hello(id) };
    attacks.spawn(sessions(channel.clone(), vec![said(large)]));
    let images = v1::Inventory { images: vec![v1::ImageInfo::default(); IMAGES], ..Default::default() };
    let inventory = v1::WorkerMessage { message: Some(v1::worker_message::Message::Inventory(images)) };
    attacks.spawn(sessions(channel.clone(), vec![said(hello(id)), inventory.clone(), inventory]));
    for nth in 0..SESSIONS {
        // A follower passes on those that ask for that, and redirects the others.
        let hello = v1::Hello { relay: nth % 2 == 0, ..hello(id) };
        attacks.spawn(sessions(channel.clone(), vec![said(hello)]));
    }
    let message = withheld::message(LOG_BYTES.0, LOG_BYTES.1);
    for _ in 0..LOG_STREAMS {
        attacks.spawn(withheld::hold(channel.clone(), PUSH_LOGS, message.clone()));
    }
}

fn hello(id: &str) -> v1::Hello {
    v1::Hello { node_id: id.into(), name: NAME.into(), address: "127.0.0.1".into(), relay: true, ..Default::default() }
}

fn said(hello: v1::Hello) -> v1::WorkerMessage {
    v1::WorkerMessage { message: Some(v1::worker_message::Message::Hello(hello)) }
}

/// Begins a session with these messages and reads what is answered; again whenever it ends, until dropped.
async fn sessions(channel: Channel, messages: Vec<v1::WorkerMessage>) {
    use futures::StreamExt as _;
    let mut client = DispatcherClient::new(channel).max_encoding_message_size(usize::MAX);
    loop {
        let outbound = stream::iter(messages.clone()).chain(stream::pending());
        if let Ok(answer) = client.session(outbound).await {
            let mut inbound = answer.into_inner();
            while let Ok(Some(_)) = inbound.message().await {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Removes what the managers know of it, if they do.
async fn removed(stage: &Stage) -> Result<(), Error> {
    let deadline = Instant::now() + REMOVED_WITHIN;
    loop {
        match stage.client().remove_node(NAME).await {
            Err(Error::Refused { status, .. })
                if status.code() == Code::FailedPrecondition && Instant::now() < deadline =>
            {
                tokio::time::sleep(AGAIN).await;
            }
            Err(Error::Refused { status, .. }) if status.code() == Code::NotFound => return Ok(()),
            result => return result.map(drop),
        }
    }
}
