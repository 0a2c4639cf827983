//! Somebody without a certificate holds requests and connections open at the leader. It keeps its memory, and members still get
//! in: an agent and a manager that start again, and a client that connects anew.

use std::net::SocketAddr;
use std::time::Duration;

use goat_tls::{Connector, JoinToken};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::transport::Endpoint;

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
const CONNECTIONS: usize = 4;
const REQUESTS: usize = 2_000;
/// More than a manager takes.
const SOCKETS: usize = 8_200;
/// For the strangers to have sent what they send.
const HELD_S: u64 = 10;
const CONNECT: Duration = Duration::from_secs(5);
const MEMBERS_WITHIN: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(100);
const STOP_GRACE: Duration = Duration::from_secs(5);
const ALLOWED: liveness::Allowed = liveness::Allowed { write_gap: Duration::from_secs(3) };

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let layout = stage.remote().layout().clone();
    let leader = stage.client().status().await?.leader;
    let at = layout.listen(layout.find(&leader)?);
    let token = stage.client().join_token("worker").await?;
    let token: JoinToken = token.parse().map_err(|error| Error::failed(format!("the join token: {error}")))?;

    let strangers = TaskSet::new("strangers");
    requests(&strangers, &token, at)?;
    let what = format!("{CONNECTIONS} strangers with {REQUESTS} requests each");
    let mut measured = vec![("members back, requests held", held(stage, &leader, &what).await?)];
    strangers.stop(STOP_GRACE).await;
    stage.whole_again(&what).await?;

    let strangers = TaskSet::new("strangers");
    for _ in 0..SOCKETS {
        strangers.spawn(idle(at));
    }
    let what = format!("{SOCKETS} connections of strangers");
    measured.push(("members back, connections held", held(stage, &leader, &what).await?));
    strangers.stop(STOP_GRACE).await;
    stage.whole_again(&what).await?;
    Ok(measured)
}

/// Requests to join that withhold their last byte, on connections without a certificate.
fn requests(strangers: &TaskSet, token: &JoinToken, at: SocketAddr) -> Result<(), Error> {
    let connector = Connector::newcomer(token, None, CONNECT).map_err(|error| Error::failed(error.to_string()))?;
    let endpoint = Endpoint::from_shared(format!("http://{at}")).map_err(|error| Error::failed(error.to_string()))?;
    let message = withheld::message(JOIN_BYTES, JOIN_BYTES - 1);
    for _ in 0..CONNECTIONS {
        let channel = connector.channel(&endpoint);
        for _ in 0..REQUESTS {
            strangers.spawn(withheld::hold(channel.clone(), JOIN, message.clone()));
        }
    }
    Ok(())
}

/// Connects and says nothing; again whenever the other side has closed it.
async fn idle(at: SocketAddr) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(at).await {
            // Returns when the other side closes.
            let _ = stream.read(&mut [0; 64]).await;
        }
        tokio::time::sleep(AGAIN).await;
    }
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
