//! Managers are restarted one after the other, the leader last, as for an update: no request may fail.

use std::time::Duration;

use tokio::time::Instant;

use super::stage::{Measured, Stage};
use crate::error::Error;

const WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let status = stage.client().status().await?;
    let members = (1..=stage.remote().layout().managers).map(|n| format!("m{n}"));
    let followers: Vec<_> = members.filter(|name| *name != status.leader).collect();
    let Some(follower) = followers.first() else {
        return Err(Error::failed("there is only one manager: it cannot be restarted without a gap"));
    };
    let zero = stage.restart_clock();
    let follower_gap = restart(stage, follower, "follower").await?;
    let began = Instant::now();
    stage.remote().stop(&status.leader).await?;
    stage.timeline.tell_at(began, format!("SIGTERM {} (leader, term {})", status.leader, status.term));
    stage.timeline.tell(format!("{} ended", status.leader));
    let (_, term) = stage.next_leader(&status.leader, status.term).await?;
    stage.term = term;
    stage.recorder()?.first_after(Instant::now(), WITHIN).await?;
    let leader_gap = stage.recorder()?.longest_gap(began);
    stage.remote().start(&status.leader).await?;
    stage.timeline.tell(format!(
        "{} started again; longest time without an accepted write {:.0} ms",
        status.leader,
        leader_gap.as_secs_f64() * 1e3
    ));
    stage.whole().await?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(vec![
        ("write gap, follower restarted", ms(follower_gap)),
        ("write gap, leader restarted", ms(leader_gap)),
        ("both restarted, cluster whole", ms(zero.elapsed())),
    ])
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
