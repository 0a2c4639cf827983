//! The leading manager is killed under writes: how long until the next write is accepted?

use std::time::Duration;

use tokio::time::Instant;

use super::stage::{Measured, Stage};
use crate::error::Error;

const WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
const ASK: Duration = Duration::from_millis(250);

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let status = stage.client().status().await?;
    let (leader, term) = (status.leader, status.term);
    let killed = stage.restart_clock();
    stage.remote().kill(&leader, false).await?;
    stage.timeline.tell_at(killed, format!("SIGKILL {leader} (leader, term {term})"));
    let found = async {
        let found = next_leader(stage, &leader, term).await?;
        stage.timeline.tell(format!("{} leads, term {}", found.0, found.1));
        Ok::<_, Error>((found, killed.elapsed()))
    };
    let accepted = async {
        let at = stage.recorder()?.first_after(killed, WITHIN).await?;
        stage.timeline.tell_at(at, "first write accepted");
        Ok(at - killed)
    };
    let (((_, new_term), elected), accepted) = tokio::try_join!(found, accepted)?;
    stage.remote().start(&leader).await?;
    stage.timeline.tell(format!("{leader} started again"));
    stage.term = new_term;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(vec![("SIGKILL to next accepted write", ms(accepted)), ("SIGKILL to new leader seen", ms(elected))])
}

/// Asks all managers until one of them knows a leader of a later term.
pub(super) async fn next_leader(stage: &Stage, old: &str, term: u64) -> Result<(String, u64), Error> {
    let client = stage.client().with_limits(ASK, ASK);
    let deadline = Instant::now() + WITHIN;
    loop {
        let asked = (0..client.managers()).map(|at| client.status_of(at));
        let statuses = futures::future::join_all(asked).await;
        let found = statuses
            .into_iter()
            .flatten()
            .find(|status| status.term > term && !status.leader.is_empty() && status.leader != old);
        if let Some(status) = found {
            return Ok((status.leader, status.term));
        }
        if Instant::now() >= deadline {
            return Err(Error::failed(format!("no manager leads {} s after {old} ended", WITHIN.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
}
