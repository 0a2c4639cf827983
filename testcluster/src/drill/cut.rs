//! Wires are cut for a while: which instances stop, which are replaced, and what is left of it afterwards.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use tokio::time::Instant;

use super::Kind;
use super::role::Role;
use super::stage::{Measured, Stage};
use crate::error::Error;
use crate::witness::{ended_ms, refilled_ms};

/// Of cuts by lot.
const LENGTH_S: std::ops::RangeInclusive<u64> = 5..=60;
const MANAGERS_CUT_S: u64 = 10;
const WORKERS_CUT_S: u64 = 15;

/// Which way bytes vanish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Both,
    Outbound,
    Inbound,
}

impl Way {
    const ALL: [Self; 3] = [Self::Both, Self::Outbound, Self::Inbound];

    const fn text(self) -> &'static str {
        match self {
            Self::Both => "both ways",
            Self::Outbound => "what it sends",
            Self::Inbound => "what it is sent",
        }
    }
}

/// One worker is cut off from all other members.
pub(super) async fn worker(stage: &mut Stage, kind: Kind) -> Result<Measured, Error> {
    let victim = vec![stage.holder()?];
    let drawn_s = stage.rng.random_range(LENGTH_S);
    let way = match kind {
        Kind::WorkerCutOutbound => Way::Outbound,
        Kind::WorkerCutInbound => Way::Inbound,
        Kind::RandomCuts => draw(&mut stage.rng),
        _ => Way::Both,
    };
    stage.rules.lost_nodes.clone_from(&victim);
    let others = stage.others(&victim);
    cut_for(stage, (&victim, &others), way, stage.length(drawn_s)).await
}

fn draw(rng: &mut impl Rng) -> Way {
    *Way::ALL.choose(rng).unwrap_or(&Way::Both)
}

/// A worker is cut off from the leader, and from nobody else: that is no reason for anything.
pub(super) async fn worker_from_leader(stage: &mut Stage) -> Result<Measured, Error> {
    let victim = vec![stage.holder()?];
    let leader = vec![stage.client().status().await?.leader];
    cut_for(stage, (&victim, &leader), Way::Both, stage.length(WORKERS_CUT_S)).await
}

/// Two of three workers are cut off together: a single instance may go on there.
pub(super) async fn workers(stage: &mut Stage) -> Result<Measured, Error> {
    let mut victims = vec![stage.holder()?];
    victims.extend(stage.workers().into_iter().find(|worker| !victims.contains(worker)));
    stage.rules.lost_nodes.clone_from(&victims);
    stage.rules.may_double_isolated = true;
    let others = stage.others(&victims);
    cut_for(stage, (&victims, &others), Way::Both, stage.length(WORKERS_CUT_S)).await
}

/// The leader and a worker are cut off together; the others go on without them.
pub(super) async fn minority(stage: &mut Stage) -> Result<Measured, Error> {
    let victim = vec![stage.holder()?];
    stage.rules.lost_nodes.clone_from(&victim);
    with_leader(stage, victim, WORKERS_CUT_S).await
}

/// The leader is cut off; `with_workers`: together with all workers.
pub(super) async fn leader(stage: &mut Stage, with_workers: bool) -> Result<Measured, Error> {
    let company = if with_workers { stage.workers() } else { Vec::new() };
    if with_workers {
        stage.rules.may_stop.push(Role::Stop);
    }
    with_leader(stage, company, MANAGERS_CUT_S).await
}

async fn with_leader(stage: &mut Stage, company: Vec<String>, default_s: u64) -> Result<Measured, Error> {
    let status = stage.client().status().await?;
    let mut ones = vec![status.leader.clone()];
    ones.extend(company.iter().cloned());
    let others = stage.others(&ones);
    let until = cut(stage, (&ones, &others), Way::Both, stage.length(default_s)).await?;
    let began = stage.timeline.zero();
    let (accepted, (_, term)) =
        tokio::try_join!(stage.accepted(began), stage.next_leader(&status.leader, status.term))?;
    stage.term = term;
    let mut measured = vec![("cut to next accepted write", accepted)];
    measured.extend(healed(stage, &company, until).await?);
    Ok(measured)
}

/// Cuts, waits, heals, and tells what had happened by then to the tasks of the ones.
async fn cut_for(
    stage: &mut Stage,
    sides: (&[String], &[String]),
    way: Way,
    length: Duration,
) -> Result<Measured, Error> {
    let until = cut(stage, sides, way, length).await?;
    healed(stage, sides.0, until).await
}

/// Until when.
async fn cut(
    stage: &mut Stage,
    (ones, others): (&[String], &[String]),
    way: Way,
    length: Duration,
) -> Result<Instant, Error> {
    let began = stage.restart_clock();
    let remote = stage.remote();
    let links = match way {
        Way::Both => remote.cut(ones, others, false).await?,
        Way::Outbound => remote.cut(ones, others, true).await?,
        Way::Inbound => remote.cut(others, ones, true).await?,
    };
    stage.timeline.tell(format!(
        "{} cut off from {} ({links} links, {}) for {} s",
        ones.join(" and "),
        others.join(", "),
        way.text(),
        length.as_secs()
    ));
    Ok(began + length)
}

async fn healed(stage: &mut Stage, lost: &[String], until: Instant) -> Result<Measured, Error> {
    tokio::time::sleep_until(until).await;
    let zero_ms = stage.timeline.zero_unix_ms();
    let mut measured = Vec::new();
    for role in Role::ALL {
        let lives = stage.lives_of(role)?;
        // Of workers that were not given up nothing was to be replaced.
        let was_held = lives.iter().any(|life| lost.contains(&life.node) && life.is_alive_at(zero_ms));
        let replaced = was_held.then(|| refilled_ms(&lives, lost, zero_ms)).flatten();
        let ended = was_held.then(|| ended_ms(&lives, lost, zero_ms)).flatten();
        for (name, text, at_ms) in
            [(role.stopped(), "the old ones had ended", ended), (role.replaced(), "all slots ran elsewhere", replaced)]
        {
            if let Some(at_ms) = at_ms {
                stage.timeline.tell_unix(at_ms, format!("{text} ({role})"));
                measured.push((name, stage.since_ms(at_ms)));
            }
        }
    }
    stage.must_have_kept(lost)?;
    let healed = Instant::now();
    stage.remote().heal().await?;
    stage.timeline.tell("healed");
    stage.whole().await?;
    measured.push(("healed to whole", healed.elapsed().as_secs_f64() * 1e3));
    Ok(measured)
}
