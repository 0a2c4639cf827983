//! Somebody without a certificate holds requests and connections open at the leader. It keeps its memory, and members still get
//! in: an agent and a manager that start again, and a client that connects anew.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goat_tls::{Connector, JoinToken};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use tonic::codegen::{Service, http};
use tonic::transport::Endpoint;

use super::crowd::Crowd;
use super::liveness::Period;
use super::memory::Memory;
use super::{liveness, withheld};
use crate::client::Client;
use crate::drill::stage::{Measured, Stage};
use crate::error::Error;
use crate::taskset::TaskSet;

const JOIN: &str = "/goat.v1.Identity/JoinWorker";
/// Largest request to join.
const JOIN_BYTES: usize = 32 << 10;
/// Strangers, each with a source address and a connection of its own. More than a manager has places for.
const STRANGERS: u8 = 100;
/// Of each stranger at the same time. More than a manager takes on one connection.
const REQUESTS: usize = 64;
/// Connections of one more stranger. More than a manager takes of everybody.
const SOCKETS: usize = 8_200;
/// Of the first stranger, in the cluster's subnet. The cluster's own addresses end with less.
const FIRST_ADDRESS: u8 = 120;
/// For the strangers to have sent what they send.
const HELD_S: u64 = 10;
const CONNECT: Duration = Duration::from_secs(5);
/// Until the first connection is let in.
const FIRST: Duration = Duration::from_secs(30);
/// So long no more connection was let in.
const NO_MORE: Duration = Duration::from_secs(3);
const MEMBERS_WITHIN: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(100);
const ALLOWED: liveness::Allowed = liveness::Allowed { write_gap: Duration::from_secs(3) };

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let layout = stage.remote().layout().clone();
    let leader = stage.client().status().await?.leader;
    let at = layout.listen(layout.find(&leader)?);
    let token = stage.client().join_token("worker").await?;
    let token: JoinToken = token.parse().map_err(|error| Error::failed(format!("the join token: {error}")))?;
    let source = |number: u8| IpAddr::from(Ipv4Addr::new(127, layout.subnet, 0, FIRST_ADDRESS + number));

    let connectors: Vec<_> =
        (0..STRANGERS).map(|number| connector(&token, source(number))).collect::<Result<_, _>>()?;
    let crowd = Crowd::gather("strangers", move |tasks| requests(tasks, &connectors, at))?;
    let what = format!("{STRANGERS} strangers with {REQUESTS} requests each");
    let mut measured = vec![("members back, requests held", held(stage, &leader, &what).await?)];
    crowd.disperse().await;
    stage.whole_again(&what).await?;

    let connector = connector(&token, source(STRANGERS))?;
    let open = Arc::new(AtomicUsize::new(0));
    let counter = open.clone();
    let crowd = Crowd::gather("strangers", move |tasks| {
        for _ in 0..SOCKETS {
            tasks.spawn(idle(connector.clone(), at, counter.clone()));
        }
    })?;
    let what = format!("{SOCKETS} connections of a stranger");
    let most = opened(&open).await;
    stage.timeline.tell(format!("{what}: at most {most} are open"));
    if most == 0 {
        return Err(Error::failed("the stranger did not get a single connection: nothing is shown"));
    }
    measured.push(("members back, connections held", held(stage, &leader, &what).await?));
    crowd.disperse().await;
    stage.whole_again(&what).await?;
    Ok(measured)
}

/// Connects from `source` without a certificate.
fn connector(token: &JoinToken, source: IpAddr) -> Result<Connector, Error> {
    Connector::newcomer(token, Some(source), CONNECT).map_err(|error| Error::failed(error.to_string()))
}

/// Requests to join that withhold their last byte, on connections without a certificate.
fn requests(strangers: &TaskSet, connectors: &[Connector], at: SocketAddr) {
    let endpoint = Endpoint::from_shared(format!("http://{at}")).expect("it is an address");
    let message = withheld::message(JOIN_BYTES, JOIN_BYTES - 1);
    for connector in connectors {
        let channel = connector.channel(&endpoint);
        for _ in 0..REQUESTS {
            strangers.spawn(withheld::hold(channel.clone(), JOIN, message.clone()));
        }
    }
}

/// Connects without a certificate and answers pings, so that nothing ends the connection; again whenever it is closed.
async fn idle(mut connector: Connector, at: SocketAddr, open: Arc<AtomicUsize>) {
    let uri: http::Uri = format!("http://{at}").parse().expect("it is an address");
    loop {
        if let Ok(stream) = connector.call(uri.clone()).await {
            open.fetch_add(1, Ordering::Relaxed);
            // However it ends.
            let _ = answer_pings(stream.into_inner()).await;
            open.fetch_sub(1, Ordering::Relaxed);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Begins HTTP/2 and sends nothing but answers to pings. Returns when the other side closes.
async fn answer_pings(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const HEAD_BYTES: usize = 9;
    const PING: u8 = 6;
    const ACK: u8 = 1;
    stream.write_all(PREFACE).await?;
    loop {
        let mut head = [0; HEAD_BYTES];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = Vec::new();
        (&mut stream).take(u64::from(length)).read_to_end(&mut payload).await?;
        if head[3] == PING && head[4] & ACK == 0 {
            head[4] |= ACK;
            stream.write_all(&[&head[..], &payload].concat()).await?;
        }
    }
}

/// Waits until all are open, or no more are let in.
async fn opened(open: &AtomicUsize) -> usize {
    let (mut most, mut since) = (0, Instant::now());
    while most < SOCKETS && since.elapsed() < if most == 0 { FIRST } else { NO_MORE } {
        let now = open.load(Ordering::Relaxed);
        if now > most {
            (most, since) = (now, Instant::now());
        }
        tokio::time::sleep(AGAIN).await;
    }
    most
}

/// While strangers hold what they hold: memory, liveness, and whether members get in. How long the last took, in ms.
async fn held(stage: &mut Stage, leader: &str, what: &str) -> Result<f64, Error> {
    let memory = Memory::begin(stage).await?;
    let period = Period::begin(stage, what).await?;
    stage.timeline.tell(what);
    tokio::time::sleep(stage.length(HELD_S)).await;
    memory.check(stage, what);
    period.end(stage, ALLOWED).await?;
    let began = Instant::now();
    match tokio::time::timeout(MEMBERS_WITHIN, members_get_in(stage, leader)).await {
        Ok(Ok(())) => stage.timeline.tell(format!("{what}: members get in within {} ms", began.elapsed().as_millis())),
        Ok(Err(error)) => stage.wrong.push(format!("{what}: members do not get in: {error}")),
        Err(_) => {
            let seconds = MEMBERS_WITHIN.as_secs();
            stage.wrong.push(format!("{what}: members do not get in within {seconds} s"));
        }
    }
    memory.check(stage, what);
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// A client, an agent and a manager that connect to the leader anew.
async fn members_get_in(stage: &Stage, leader: &str) -> Result<(), Error> {
    let layout = stage.remote().layout();
    let leader_address = layout.advertised(layout.find(leader)?).to_string();
    let client = Client::new(&[leader_address], &layout.credentials())?;
    client.status().await?;
    stage.timeline.tell("a client gets in");
    let worker = stage.holder()?;
    stage.remote().kill(&worker, false).await?;
    stage.remote().start(&worker).await?;
    let follower = stage.managers().into_iter().find(|name| name != leader);
    let follower = follower.ok_or_else(|| Error::failed("there is no follower"))?;
    stage.remote().stop(&follower).await?;
    stage.remote().start(&follower).await?;
    stage.whole().await?;
    stage.timeline.tell(format!("{worker} and {follower} have started again and are in place"));
    Ok(())
}
