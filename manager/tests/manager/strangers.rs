//! Callers that mean harm: how much of a manager strangers can have, and how much a worker.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use goat_tls::{Connector, Credentials, JoinToken, Role, Transport};
use h2::client::{ResponseFuture, SendRequest};
use tonic::codegen::http;
use tower_service::Service;

use crate::cluster::until;
use crate::security::{CONNECT, Secured, call};

/// Of the test. A manager takes fewer.
const STRANGERS: usize = 100;
/// Requests on each connection; those that the manager does not allow are not sent.
const REQUESTS: usize = 50;
/// A request to join: it announces this much, and the last byte never comes.
const ANNOUNCED_BYTES: usize = 32 << 10;
/// All strangers together (issue 20).
const MAX_HELD_BYTES: u64 = 64 << 20;

/// Requests that are never completed, and the connection that they are on.
pub(crate) struct Stalled {
    _requests: Vec<(ResponseFuture, h2::SendStream<Bytes>)>,
    _sender: SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

/// A connection with as many unfinished requests as the manager allows.
pub(crate) async fn stall(
    connector: &Connector,
    address: &str,
    path: &str,
    requests: usize,
    bytes: usize,
) -> Option<Stalled> {
    let uri = format!("http://{address}").parse().expect("an address");
    let stream = connector.clone().call(uri).await.ok()?.into_inner();
    let (sender, connection) = h2::client::handshake(stream).await.ok()?;
    let connection = tokio::spawn(connection);
    let mut stalled = Stalled { _requests: Vec::new(), _sender: sender.clone(), connection };
    let mut message = vec![0; 5 + bytes - 1];
    message[1..5].copy_from_slice(&u32::try_from(bytes).expect("it is small").to_be_bytes());
    let message = Bytes::from(message);
    for _ in 0..requests {
        let ready = tokio::time::timeout(Duration::from_millis(500), sender.clone().ready()).await;
        let Ok(Ok(mut sender)) = ready else { break };
        let request = http::Request::post(format!("http://{address}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let Ok((answer, mut body)) = sender.send_request(request, false) else { break };
        if body.send_data(message.clone(), false).is_err() {
            break;
        }
        stalled._requests.push((answer, body));
    }
    Some(stalled)
}

/// The memory of a process: `VmRSS`, or the most that it ever was, `VmHWM`.
pub(crate) fn memory_bytes(process: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(key)).expect("it has memory");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    kib << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_hold_little_memory_and_no_place_of_a_member() {
    let secured = Secured::start(7);
    let token: JoinToken = secured.token("worker", false).await.parse().expect("it is one");
    let members = secured.callers().await;
    let before = memory_bytes(secured.process(), "VmRSS");
    let mut strangers = Vec::new();
    for number in 0..STRANGERS {
        let source: IpAddr = format!("127.85.7.{}", 100 + number % 100).parse().expect("an address");
        let connector = Connector::newcomer(&token, Some(source), CONNECT).expect("it is one");
        let path = "/goat.v1.Identity/JoinWorker";
        strangers.extend(stall(&connector, &secured.address, path, REQUESTS, ANNOUNCED_BYTES).await);
    }
    assert!(strangers.len() >= 60, "most of them got in: {}", strangers.len());
    // And some who say nothing at all.
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.extend(tokio::net::TcpStream::connect(&secured.address).await);
    }
    // Members come as if nobody else were there, those on new connections as well.
    for (role, channel) in &members[..3] {
        let method = if *role == "client" { "/goat.v1.Control/GetStatus" } else { "/goat.v1.Presence/Ping" };
        call(channel.clone(), method).await.unwrap_or_else(|status| panic!("{role}: {status}"));
    }
    for file in ["m1/identity.pem", "m1/client.pem", "worker.pem"] {
        let answer = call(secured.channel_of(&secured.path(file)), "/goat.v1.Identity/Renew").await;
        assert_eq!(answer.expect_err("it has no certificate request").code(), tonic::Code::InvalidArgument, "{file}");
    }
    // A newcomer too.
    let newcomer = Connector::newcomer(&token, None, CONNECT).expect("it is one");
    let refused = call(secured.channel(&newcomer), "/goat.v1.Identity/JoinWorker").await.expect_err("an empty request");
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
    // Nobody stays who never says all that it has announced.
    until("they are all gone", async || strangers.iter().all(|stalled| stalled.connection.is_finished()).then_some(()))
        .await;
    drop(silent);
    let held = memory_bytes(secured.process(), "VmHWM").saturating_sub(before);
    assert!(held <= MAX_HELD_BYTES, "{STRANGERS} strangers held {} MiB", held >> 20);
}

/// A worker's requests: its certificate is good, and it completes nothing that it begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_worker_holds_little_memory() {
    let secured = Secured::start(8);
    let members = secured.callers().await;
    let before = memory_bytes(secured.process(), "VmRSS");
    let worker = Credentials::load(&secured.path("worker.pem")).expect("readable").expect("there");
    let connector = Connector::new(Transport::new(worker).expect("they fit"), Role::Manager, None, CONNECT);
    let mut stalled = Vec::new();
    for (method, announced) in
        [("Session", 8 << 20), ("PushLogs", 8 << 20), ("PushLogs", 256 << 10), ("Session", 8 << 20)]
    {
        for _ in 0..32 {
            let path = format!("/goat.v1.Dispatcher/{method}");
            stalled.extend(stall(&connector, &secured.address, &path, REQUESTS, announced).await);
        }
    }
    // As long as a session waits for its hello.
    until("what was never completed is given up", async || {
        let answer = call(secured.channel_of(&secured.path("worker.pem")), "/goat.v1.Dispatcher/Session").await;
        answer.is_err_and(|status| status.code() == tonic::Code::InvalidArgument).then_some(())
    })
    .await;
    call(members[2].1.clone(), "/goat.v1.Control/GetStatus").await.expect("others are served");
    let held = memory_bytes(secured.process(), "VmHWM").saturating_sub(before);
    assert!(held <= MAX_HELD_BYTES, "one worker held {} MiB", held >> 20);
}
