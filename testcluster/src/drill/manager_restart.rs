//! Managers are restarted one after the other, the leader last, as for an update: no request may fail.

use std::time::Duration;

use tokio::time::Instant;

use super::catalogue::Kind;
use super::stage::{Measured, Stage};
use crate::error::Error;

const WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn run(stage: &mut Stage, kind: Kind) -> Result<Measured, Error> {
    let status = stage.client().status().await?;
    let members = (1..=stage.remote().layout().managers).map(|n| format!("m{n}"));
    let mut followers: Vec<_> = members.filter(|name| *name != status.leader).collect();
    if followers.is_empty() {
        return Err(Error::failed("there is only one manager: it cannot be restarted without a gap"));
    }
    if kind == Kind::ManagerRestart {
        followers.truncate(1);
    }
    let zero = stage.restart_clock();
    let mut follower_gap = Duration::ZERO;
    for follower in &followers {
        follower_gap = follower_gap.max(restart(stage, follower, "follower").await?);
    }
    let leader_gap = restart_leader(stage, &status.leader, status.term).await?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let whole = match kind {
        Kind::ManagerRestart => "both restarted, cluster whole",
        _ => "all restarted, cluster whole",
    };
    Ok(vec![
        ("write gap, follower restarted", ms(follower_gap)),
        ("write gap, leader restarted", ms(leader_gap)),
        (whole, ms(zero.elapsed())),
    ])
}

async fn restart_leader(stage: &mut Stage, leader: &str, term: u64) -> Result<Duration, Error> {
    let began = Instant::now();
    stage.remote().stop(leader).await?;
    stage.timeline.tell_at(began, format!("SIGTERM {leader} (leader, term {term})"));
    stage.timeline.tell(format!("{leader} ended"));
    let (_, term) = stage.next_leader(leader, term).await?;
    stage.term = term;
    stage.recorder()?.first_after(Instant::now(), WITHIN).await?;
    stage.remote().start(leader).await?;
    stage.whole().await?;
    let gap = stage.recorder()?.longest_gap(began);
    stage
        .timeline
        .tell(format!("{leader} is back; longest time without an accepted write {:.0} ms", gap.as_secs_f64() * 1e3));
    Ok(gap)
}

async fn restart(stage: &Stage, name: &str, what: &str) -> Result<Duration, Error> {
    let began = Instant::now();
    stage.timeline.tell(format!("SIGTERM {name} ({what})"));
    stage.remote().stop(name).await?;
    stage.timeline.tell(format!("{name} ended"));
    stage.remote().start(name).await?;
    stage.timeline.tell(format!("{name} started again"));
    stage.whole().await?;
    let gap = stage.recorder()?.longest_gap(began);
    stage
        .timeline
        .tell(format!("{name} is back; longest time without an accepted write {:.0} ms", gap.as_secs_f64() * 1e3));
    Ok(gap)
}
