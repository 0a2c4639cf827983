//! Leadership is handed over on request: how long is no write accepted?

use std::time::Duration;

use tokio::time::Instant;

use super::stage::{Measured, Stage};
use crate::error::Error;

const WITHIN: Duration = Duration::from_secs(30);
/// Writes that must be accepted afterwards before the gap is taken.
const AFTERWARDS: usize = 5;

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let status = stage.client().status().await?;
    let began = stage.restart_clock();
    stage.timeline.tell(format!("{} (leader, term {}) is asked to hand over", status.leader, status.term));
    let reply = stage.client().transfer_leader("").await?;
    let answered = began.elapsed();
    stage.timeline.tell(format!("{} leads, term {}", reply.leader, reply.term));
    if reply.leader == status.leader {
        return Err(Error::failed(format!("{} still leads", status.leader)));
    }
    stage.term = reply.term;
    for _ in 0..AFTERWARDS {
        stage.recorder()?.first_after(Instant::now(), WITHIN).await?;
    }
    let gap = stage.recorder()?.longest_gap(began);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    stage.timeline.tell(format!("longest time without an accepted write {:.0} ms", ms(gap)));
    Ok(vec![("write gap", ms(gap)), ("request to answer", ms(answered))])
}
