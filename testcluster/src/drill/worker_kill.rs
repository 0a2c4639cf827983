//! Machines die: a worker with its tasks, alone or together with the leader. How long until all slots run elsewhere?

use super::role::Role;
use super::stage::{Measured, Stage};
use crate::error::Error;

/// A worker's machine.
pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let victim = stage.holder()?;
    stage.rules.lost_nodes.push(victim.clone());
    let killed = stage.restart_clock();
    stage.remote().kill(&victim, true).await?;
    stage.timeline.tell_at(killed, format!("SIGKILL {victim} and its tasks"));
    let measured = replaced(stage).await?;
    stage.remote().start(&victim).await?;
    stage.timeline.tell(format!("{victim} started again"));
    Ok(measured)
}

/// A worker's machine and the leader's at one moment.
pub(super) async fn with_leader(stage: &mut Stage) -> Result<Measured, Error> {
    let victim = stage.holder()?;
    let status = stage.client().status().await?;
    stage.rules.lost_nodes.push(victim.clone());
    let killed = stage.restart_clock();
    tokio::try_join!(stage.remote().kill(&status.leader, false), stage.remote().kill(&victim, true))?;
    stage.timeline.tell_at(killed, format!("SIGKILL {} (leader), {victim} and its tasks", status.leader));
    let (measured, accepted, (_, term)) =
        tokio::try_join!(replaced(stage), stage.accepted(killed), stage.next_leader(&status.leader, status.term))?;
    stage.term = term;
    tokio::try_join!(stage.remote().start(&status.leader), stage.remote().start(&victim))?;
    stage.timeline.tell(format!("{} and {victim} started again", status.leader));
    Ok(measured.into_iter().chain([("SIGKILL to next accepted write", accepted)]).collect())
}

async fn replaced(stage: &Stage) -> Result<Measured, Error> {
    let lost = &stage.rules.lost_nodes;
    let (keep, stop, one) = tokio::try_join!(
        stage.replaced(Role::Keep, lost),
        stage.replaced(Role::Stop, lost),
        stage.replaced(Role::Isolated, lost),
    )?;
    Ok(vec![(Role::Keep.replaced(), keep), (Role::Stop.replaced(), stop), (Role::Isolated.replaced(), one)])
}
