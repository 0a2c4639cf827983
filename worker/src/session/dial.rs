//! Finds the leader, from any manager.
//!
//! Managers are asked one after the other: the next at once when one says no, and after a short wait when one does not
//! answer at all, so that a dead one costs little. A leader that others name and that cannot be reached from here is
//! reached through the one that named it. A whole round without a leader is followed by a wait: short while managers
//! answer (they are electing), longer, up to a second, while none does.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::ask::{Refusal, ask};
use super::{Opened, Parts};
use crate::clock;

/// A manager that says nothing for so long no longer keeps the next from being asked.
const STAGGER: Duration = Duration::from_millis(150);
/// A leader that was named is given this long before it is asked through the manager that named it. It confirms that it leads
/// in one round trip (up to 300 ms) and then says that it is registering this worker.
const RELAY_AFTER: Duration = Duration::from_millis(600);
/// Once somebody has answered, those who say nothing for so long are not waited for.
const LAST_ANSWER: Duration = Duration::from_millis(700);
/// Between rounds, doubled each time.
const FIRST_WAIT_MS: u64 = 25;
/// While managers answer but none leads.
const ELECTING_WAIT_MS: u64 = 100;
/// While none answers, or all refuse. With jitter: up to a second.
const UNREACHABLE_WAIT_MS: u64 = 500;

/// Knows the managers, and which to ask first.
#[derive(Debug)]
pub(super) struct Dialer {
    configured: Vec<String>,
    /// Asked first in the next round.
    hint: Option<String>,
    /// Fell silent or ended the last session: asked last in the next round, and not directly if others name it.
    last: Option<String>,
    rounds: u32,
    told: Option<String>,
}

/// What a round without a leader found.
#[derive(Debug, Default)]
struct Round {
    has_answer: bool,
    refusal: Option<String>,
    unreachable: Option<String>,
}

/// Why a round ended without a session.
enum Stop {
    Gone,
    Removed,
    Vain(Round),
}

/// Why there will be no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSession {
    Stopping,
    /// This node was removed from the cluster.
    Removed,
}

impl Dialer {
    pub(super) fn new(parts: &Parts) -> Self {
        Self { configured: parts.managers.clone(), hint: None, last: None, rounds: 0, told: None }
    }

    /// The session with `address` was lost: others are likelier to know more.
    pub(super) fn lost(&mut self, address: &str) {
        self.last = Some(address.to_owned());
        self.hint = None;
    }

    pub(super) fn redirected(&mut self, leader: &str) {
        self.hint = (!leader.is_empty()).then(|| leader.to_owned());
    }

    /// Tries until a leader has welcomed this worker.
    pub(super) async fn connect(&mut self, parts: &Parts) -> Result<Opened, NoSession> {
        self.rounds = 0;
        loop {
            match self.round(parts).await {
                Ok(opened) => {
                    self.hint = Some(opened.address.clone());
                    self.told = None;
                    return Ok(opened);
                }
                Err(Stop::Gone) => return Err(NoSession::Stopping),
                Err(Stop::Removed) => return Err(NoSession::Removed),
                Err(Stop::Vain(round)) => {
                    self.tell(&round);
                    self.rounds += 1;
                    let cap_ms = if round.has_answer { ELECTING_WAIT_MS } else { UNREACHABLE_WAIT_MS };
                    let wait_ms = (FIRST_WAIT_MS << self.rounds.min(10)).min(cap_ms);
                    tokio::time::sleep(Duration::from_millis(clock::jittered_ms(wait_ms / 2))).await;
                }
            }
        }
    }

    /// Once for each new trouble, not for each round.
    fn tell(&mut self, round: &Round) {
        let trouble = match round {
            Round { refusal: Some(refusal), .. } => refusal.clone(),
            Round { has_answer: true, .. } => "no leader".to_owned(),
            Round { unreachable, .. } => unreachable.clone().unwrap_or_default(),
        };
        // Connection errors differ from manager to manager; only their beginning counts.
        let kind = if round.refusal.is_some() || round.has_answer { trouble.clone() } else { "unreachable".into() };
        if self.told.as_ref() == Some(&kind) {
            return;
        }
        match round {
            Round { refusal: Some(_), .. } => error!(error = trouble, "the managers refuse this worker"),
            Round { has_answer: true, .. } => info!("the managers have no leader at present"),
            _ => warn!(error = trouble, "no manager can be reached"),
        }
        self.told = Some(kind);
    }

    /// Of the configuration, and those learnt so far: a session learns them too.
    fn addresses(&self, parts: &Parts) -> VecDeque<String> {
        let learnt = parts.identity.managers();
        let mut addresses: Vec<&String> = self.configured.iter().chain(&learnt).collect();
        let rank = |address: &&String| match *address {
            address if Some(address) == self.hint.as_ref() => 0,
            address if Some(address) == self.last.as_ref() => 2,
            _ => 1,
        };
        addresses.sort_by_key(rank);
        let mut seen = BTreeSet::new();
        let hint = self.hint.iter().chain(addresses);
        hint.filter(|address| seen.insert((*address).clone())).cloned().collect()
    }

    /// Asks every manager once, and those that were redirected to.
    async fn round(&mut self, parts: &Parts) -> Result<Opened, Stop> {
        let mut queue = self.addresses(parts);
        // Nobody is asked twice: two sessions with one leader would end each other.
        let mut known: BTreeSet<String> = queue.iter().cloned().collect();
        let registering = AtomicU32::new(0);
        let mut asked: FuturesUnordered<_> = FuturesUnordered::new();
        let mut round = Round::default();
        // Through whom the leader that was named is asked, and from when on.
        let mut relay: Option<(Instant, String)> = None;
        let mut answered = Instant::now();
        loop {
            // A session through another manager would only end the one that a leader has begun.
            let is_registering = || registering.load(Ordering::Relaxed) > 0;
            if asked.is_empty() {
                match queue.pop_front().map(|address| (address, false)).or_else(|| Some((relay.take()?.1, true))) {
                    Some((address, is_relayed)) => asked.push(ask(address, is_relayed, &registering, parts)),
                    None => return Err(Stop::Vain(round)),
                }
            }
            let answer = tokio::select! {
                Some(answer) = asked.next() => answer,
                () = tokio::time::sleep(STAGGER), if !queue.is_empty() => {
                    asked.extend(queue.pop_front().map(|address| ask(address, false, &registering, parts)));
                    continue;
                }
                () = until(relay.as_ref().map(|(due, _)| *due)), if relay.is_some() && !is_registering() => {
                    if is_registering() {
                        continue;
                    }
                    asked.extend(relay.take().map(|(_, through)| ask(through, true, &registering, parts)));
                    answered = Instant::now();
                    continue;
                }
                () = tokio::time::sleep_until(answered + LAST_ANSWER), if !is_registering() && round.has_answer && queue.is_empty() && relay.is_none() => {
                    if is_registering() {
                        continue;
                    }
                    return Err(Stop::Vain(round));
                }
            };
            answered = Instant::now();
            match answer.result {
                Ok(opened) => return Ok(opened),
                Err(Refusal::Stopping) => return Err(Stop::Gone),
                Err(Refusal::Removed) => return Err(Stop::Removed),
                Err(Refusal::NoLeader) => round.has_answer = true,
                Err(Refusal::Unreachable(problem)) => round.unreachable = Some(problem),
                Err(Refusal::Refused(problem)) => round.refusal = Some(problem),
                Err(Refusal::Redirect(redirect)) => {
                    round.has_answer = true;
                    parts.learn_managers(redirect.managers);
                    let leader = redirect.leader_address;
                    let is_queued = queue.contains(&leader);
                    queue.retain(|address| *address != leader);
                    if !leader.is_empty() && (is_queued || known.insert(leader.clone())) {
                        if self.last.as_ref() == Some(&leader) {
                            relay = Some((Instant::now(), answer.from));
                        } else {
                            relay = Some((Instant::now() + RELAY_AFTER, answer.from));
                            asked.push(ask(leader, false, &registering, parts));
                        }
                    }
                }
            }
            // Whoever said no is followed by the next at once.
            if let Some(address) = queue.pop_front() {
                asked.push(ask(address, false, &registering, parts));
            }
        }
    }
}

/// For ever without a time.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
