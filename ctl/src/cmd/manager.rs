//! `manager`: who is in the group, and who is to be.

use goat_proto::v1::{ListPeersRequest, Peer, SetManagerAddressRequest, SetManagerReply, SetManagerRequest};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

use super::Context;
use crate::cli::WaitFlags;
use crate::client::request_id;
use crate::exit::{Exit, Failure, say};
use crate::rows::PeerRow;

const LOOK_EVERY: Duration = Duration::from_millis(200);

pub async fn ls(context: &Context, quiet: bool) -> Result<(), Failure> {
    let out = context.out;
    let peers = peers(context).await?;
    if quiet {
        return out.names(peers.iter().map(|peer| &peer.name));
    }
    if out.is_json() {
        return out.json(&peers.iter().map(PeerRow::from).collect::<Vec<_>>());
    }
    let last = peers.iter().map(|peer| peer.last_log_index).max().unwrap_or(0);
    let row = |peer: &Peer| {
        let told = |text: String| if peer.reachable { text } else { "-".into() };
        vec![
            peer.id.to_string(),
            peer.name.clone(),
            role(peer),
            peer.address.clone(),
            if peer.reachable { "yes".into() } else { "no".into() },
            told(last.saturating_sub(peer.last_log_index).to_string()),
            told(milliseconds(peer.round_trip_us)),
            told(milliseconds(peer.fsync_us)),
            told(peer.version.clone()),
        ]
    };
    out.table(
        &["ID", "NAME", "ROLE", "ADDRESS", "REACHABLE", "ENTRIES BEHIND", "ROUND TRIP", "FSYNC", "VERSION"],
        peers.iter().map(row).collect(),
    )
}

/// An average in ms; `-` if it is not known.
fn milliseconds(us: u64) -> String {
    match us {
        0 => "-".into(),
        us if us < 10_000 => format!("{:.1} ms", us as f64 / 1_000.0),
        us => format!("{} ms", us / 1_000),
    }
}

/// What it is, and what it is on the way to.
fn role(peer: &Peer) -> String {
    let becomes = match (peer.role.as_str(), peer.standing.as_str()) {
        (_, "removed") => ", being removed",
        ("leader" | "follower", "learner") => ", being demoted",
        ("learner", "voter") => ", catching up",
        _ => "",
    };
    format!("{}{becomes}", peer.role)
}

async fn peers(context: &Context) -> Result<Vec<Peer>, Failure> {
    let reply = context.client.unary(ListPeersRequest {}, async |control, request| control.list_peers(request).await);
    Ok(reply.await?.peers)
}

/// What a manager is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Voter,
    Learner,
    Removed,
}

impl Standing {
    const fn word(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::Removed => "removed",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Voter => "votes",
            Self::Learner => "does not vote any more",
            Self::Removed => "is no member any more",
        }
    }

    fn is_reached(self, peer: Option<&Peer>) -> bool {
        match (self, peer) {
            (Self::Removed, None) => true,
            (Self::Voter, Some(peer)) => peer.role == "leader" || peer.role == "follower",
            (Self::Learner, Some(peer)) => peer.role == "learner",
            _ => false,
        }
    }
}

pub async fn set(
    context: &Context,
    reference: String,
    standing: Standing,
    force: bool,
    wait: &WaitFlags,
) -> Result<(), Failure> {
    let request = SetManagerRequest { request_id: request_id(), reference, standing: standing.word().into(), force };
    let reply = context.client.unary(request, async |control, request| control.set_manager(request).await).await?;
    if !wait.quiet && !reply.advice.is_empty() {
        say(&format!("warning: {}", reply.advice));
    }
    if wait.quiet {
        return context.out.line(format_args!("{}", reply.id));
    }
    if !wait.detach {
        settled(context, &reply, standing, wait.wait_timeout).await?;
    }
    if context.out.is_json() {
        return context.out.json(&json!({
            "id": reply.id, "name": reply.name, "standing": standing.word(), "settled": !wait.detach,
        }));
    }
    match wait.detach {
        true => context.out.line(format_args!("{}  is to be a {}", reply.name, standing.word())),
        false => context.out.line(format_args!("{}  {}", reply.name, standing.done())),
    }
}

/// Done when the leader's membership says so, which the list shows.
pub async fn set_address(
    context: &Context,
    reference: String,
    address: String,
    force: bool,
    wait: &WaitFlags,
) -> Result<(), Failure> {
    let request = SetManagerAddressRequest { request_id: request_id(), reference, address: address.clone(), force };
    let call = context.client.unary(request, async |control, request| control.set_manager_address(request).await);
    let reply = call.await?;
    if wait.quiet {
        return context.out.line(format_args!("{}", reply.id));
    }
    let deadline = Instant::now() + wait.wait_timeout;
    let is_there = |peer: &Peer| peer.id == reply.id && peer.address == address && (peer.reachable || force);
    let mut is_settled = false;
    while !wait.detach && !is_settled {
        let listed = peers(context).await.map_err(|failure| failure.after_acceptance(&reply.name))?;
        is_settled = listed.iter().any(is_there);
        if !is_settled && Instant::now() >= deadline {
            let message = format!("{} is not reached at {address} yet", reply.name);
            return Err(Failure::new(Exit::TimedOut, message).after_acceptance("look at `goatctl manager ls`"));
        }
        if !is_settled {
            sleep(LOOK_EVERY).await;
        }
    }
    if context.out.is_json() {
        let (id, name) = (reply.id, &reply.name);
        return context.out.json(&json!({ "id": id, "name": name, "address": address, "settled": is_settled }));
    }
    context.out.line(format_args!("{}  is at {address}", reply.name))
}

async fn settled(
    context: &Context,
    reply: &SetManagerReply,
    standing: Standing,
    within: Duration,
) -> Result<(), Failure> {
    // A leader that goes hands over first: for a moment nobody answers.
    context.client.expect_interruptions();
    let deadline = Instant::now() + within;
    loop {
        let peers = peers(context).await.map_err(|failure| failure.after_acceptance(&reply.name))?;
        let peer = peers.iter().find(|peer| peer.id == reply.id);
        if standing.is_reached(peer) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let now = peer.map_or_else(|| "no member".to_owned(), |peer| peer.role.clone());
            let unreached = peer.is_some_and(|peer| !peer.reachable);
            let why = if unreached { "; it is not reached: does it run?" } else { "" };
            return Err(Failure::new(Exit::TimedOut, format!("{} is still a {now}{why}", reply.name))
                .after_acceptance("the leader goes on trying; look at `goatctl manager ls`"));
        }
        sleep(LOOK_EVERY).await;
    }
}
