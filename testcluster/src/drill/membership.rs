//! Managers come and go while the cluster serves: it grows from one to five and shrinks again, and a dead one is replaced.

use std::time::Duration;

use tokio::time::Instant;

use super::catalogue::Kind;
use super::look::WITHIN;
use super::stage::{Measured, Stage};
use crate::cluster::Condition;
use crate::error::Error;

const POLL: Duration = Duration::from_millis(20);
/// What a manager says that was removed.
const REMOVED: &str = "was removed from cluster";

const GAP: &str = "longest write gap";
const JOIN: &str = "join to vote, longest";
const REMOVAL: &str = "removal to end of its process, longest";

pub(super) async fn run(stage: &mut Stage, kind: Kind) -> Result<Measured, Error> {
    match kind {
        Kind::ManagerReplace => replace(stage).await,
        _ => grow_shrink(stage).await,
    }
}

/// 1, 3, 5; one loses its vote and gets it back; the leader is replaced; 3, 1. Twelve changes.
async fn grow_shrink(stage: &mut Stage) -> Result<Measured, Error> {
    let began = stage.restart_clock();
    let first = stage.client().status().await?.leader;
    let mut others = stage.managers();
    others.retain(|name| *name != first);
    let mut joined_ms: f64 = 0.0;
    let mut removed_ms: f64 = 0.0;
    for name in &others {
        joined_ms = joined_ms.max(join(stage, name).await?);
    }
    let Some(last) = others.last().cloned() else { return Err(Error::usage("this drill needs spare managers")) };
    set(stage, &last, "learner").await?;
    settled(stage, &last, &["learner"]).await?;
    set(stage, &last, "voter").await?;
    settled(stage, &last, &["follower"]).await?;
    removed_ms = removed_ms.max(remove(stage, &first).await?);
    joined_ms = joined_ms.max(join(stage, &first).await?);
    // The leader included, so that it has to hand over; one stays.
    let leader = stage.client().status().await?.leader;
    let mut leaving = stage.managers();
    leaving.sort_by_key(|name| *name != leader);
    leaving.truncate(others.len());
    for name in leaving {
        removed_ms = removed_ms.max(remove(stage, &name).await?);
    }
    let gap = stage.recorder()?.longest_gap(began);
    Ok(vec![(GAP, gap.as_secs_f64() * 1e3), (JOIN, joined_ms), (REMOVAL, removed_ms)])
}

/// The leader dies with its disk; it is removed, and a new manager of its name joins.
async fn replace(stage: &mut Stage) -> Result<Measured, Error> {
    let status = stage.client().status().await?;
    let killed = stage.restart_clock();
    stage.remote().kill(&status.leader, false).await?;
    stage.timeline.tell_at(killed, format!("SIGKILL {}, for good", status.leader));
    let accepted = stage.accepted(killed).await?;
    let (_, term) = stage.next_leader(&status.leader, status.term).await?;
    stage.term = term;
    let began = Instant::now();
    set(stage, &status.leader, "removed").await?;
    gone(stage, &status.leader).await?;
    let joined_ms = join(stage, &status.leader).await?;
    let gap = stage.recorder()?.longest_gap(began);
    Ok(vec![("SIGKILL to next accepted write", accepted), (GAP, gap.as_secs_f64() * 1e3), (JOIN, joined_ms)])
}

/// Since it was started until it votes, in ms.
async fn join(stage: &mut Stage, name: &str) -> Result<f64, Error> {
    let began = Instant::now();
    stage.remote().join(name).await?;
    settled(stage, name, &["follower"]).await?;
    stage.timeline.tell(format!("{name} has joined and votes"));
    same_term(stage).await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Since it was asked for until its process has ended by itself, in ms.
async fn remove(stage: &mut Stage, name: &str) -> Result<f64, Error> {
    let began = Instant::now();
    let before = stage.client().status().await?;
    set(stage, name, "removed").await?;
    gone(stage, name).await?;
    if before.leader == name {
        let (_, term) = stage.next_leader(name, before.term).await?;
        stage.term = term;
    } else {
        same_term(stage).await?;
    }
    ended(stage, name).await?;
    stage.timeline.tell(format!("{name} was removed and has ended"));
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

async fn set(stage: &Stage, name: &str, standing: &str) -> Result<(), Error> {
    let reply = stage.client().set_manager(name, standing).await?;
    stage.timeline.tell(format!("{} (number {}) is to be {standing}", reply.name, reply.id));
    Ok(())
}

/// Nothing of that kind costs an election.
async fn same_term(stage: &mut Stage) -> Result<(), Error> {
    let term = stage.client().status().await?.term;
    if term != stage.term {
        stage.wrong.push(format!("an election without cause: term {} became {term}", stage.term));
        stage.term = term;
    }
    Ok(())
}

/// Waits until the manager is in one of those roles.
async fn settled(stage: &Stage, name: &str, roles: &[&str]) -> Result<(), Error> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let peers = stage.client().peers().await?;
        if peers.iter().any(|peer| peer.name == name && peer.reachable && roles.contains(&peer.role.as_str())) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::failed(format!("{name} is not a {} after {} s", roles.join(" or "), WITHIN.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until the manager is no member any more.
async fn gone(stage: &Stage, name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + WITHIN;
    while stage.client().peers().await?.iter().any(|peer| peer.name == name) {
        if Instant::now() >= deadline {
            return Err(Error::failed(format!("{name} is still a member after {} s", WITHIN.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Waits until its process has ended by itself, which has to say why.
async fn ended(stage: &mut Stage, name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let members = stage.remote().status().await?.members;
        if members.iter().any(|member| member.name == name && matches!(member.condition, Condition::Ended(_))) {
            break;
        }
        if Instant::now() >= deadline {
            return Err(Error::failed(format!("{name} was removed and runs after {} s", WITHIN.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
    let log = std::fs::read_to_string(stage.remote().layout().log_path(name)).unwrap_or_default();
    if !log.contains(REMOVED) {
        stage.wrong.push(format!("{name} ended without saying that it was removed"));
    }
    Ok(())
}
