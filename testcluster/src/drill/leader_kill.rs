//! The leading manager is killed under writes: how long until the next write is accepted?

use super::stage::{Measured, Stage};
use crate::error::Error;

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let status = stage.client().status().await?;
    let (leader, term) = (status.leader, status.term);
    let killed = stage.restart_clock();
    stage.remote().kill(&leader, false).await?;
    stage.timeline.tell_at(killed, format!("SIGKILL {leader} (leader, term {term})"));
    let found = async {
        let found = stage.next_leader(&leader, term).await?;
        Ok::<_, Error>((found.1, killed.elapsed()))
    };
    let ((new_term, elected), accepted) = tokio::try_join!(found, stage.accepted(killed))?;
    stage.remote().start(&leader).await?;
    stage.timeline.tell(format!("{leader} started again"));
    stage.term = new_term;
    Ok(vec![("SIGKILL to next accepted write", accepted), ("SIGKILL to new leader seen", elected.as_secs_f64() * 1e3)])
}
