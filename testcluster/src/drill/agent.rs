//! The agent of a worker fails while the machine and its tasks live.

use std::time::Duration;

use goat_proto::v1;
use tokio::time::Instant;

use super::look::WITHIN;
use super::role::Role;
use super::stage::{Measured, Stage};
use crate::control::Ask;
use crate::error::Error;
use crate::witness::Life;

const POLL: Duration = Duration::from_millis(10);
const ASK: Duration = Duration::from_millis(500);
const FROZEN_S: u64 = 10;

/// Killed, and started again at once: whoever comes adopts what runs.
pub(super) async fn restart(stage: &mut Stage) -> Result<Measured, Error> {
    let victim = stage.holder()?;
    let killed = stage.restart_clock();
    stage.remote().kill(&victim, false).await?;
    stage.timeline.tell_at(killed, format!("SIGKILL the agent of {victim}"));
    stage.remote().start(&victim).await?;
    stage.timeline.tell(format!("the agent of {victim} started again"));
    Ok(vec![("SIGKILL to adopted", adopted(stage, &victim, killed).await?)])
}

/// Ended by SIGTERM, and started from another file.
pub(super) async fn upgrade(stage: &mut Stage) -> Result<Measured, Error> {
    let victim = stage.holder()?;
    let layout = stage.remote().layout();
    let binaries = layout.dir.join("upgrade").join(format!("{victim}-{}", stage.nth));
    copy_program(&crate::cluster::Options::new(layout.dir.clone(), layout.runtime)?.binaries, &binaries)?;
    let began = stage.restart_clock();
    stage.remote().stop(&victim).await?;
    stage.timeline.tell(format!("SIGTERM the agent of {victim}, and it ended"));
    stage.remote().ask(&Ask::Start { name: victim.clone(), binaries: Some(binaries) }).await?;
    stage.timeline.tell(format!("the agent of {victim} started from a new file"));
    Ok(vec![("SIGTERM to adopted", adopted(stage, &victim, began).await?)])
}

fn copy_program(from: &std::path::Path, to: &std::path::Path) -> Result<(), Error> {
    std::fs::create_dir_all(to).map_err(Error::io("make", to))?;
    let copied = std::fs::copy(from.join("goat-worker"), to.join("goat-worker"));
    copied.map(drop).map_err(Error::io("copy goat-worker to", to))
}

/// Killed for good; its machine and its tasks live on.
pub(super) async fn kill(stage: &mut Stage) -> Result<Measured, Error> {
    let victim = stage.holder()?;
    let lost = vec![victim.clone()];
    stage.rules.lost_nodes.clone_from(&lost);
    let killed = stage.restart_clock();
    stage.remote().kill(&victim, false).await?;
    stage.timeline.tell_at(killed, format!("SIGKILL the agent of {victim}, and nobody starts it"));
    let measured = fenced(stage, &lost).await?;
    stage.must_have_kept(&lost)?;
    stage.remote().start(&victim).await?;
    stage.timeline.tell(format!("the agent of {victim} started again"));
    Ok(measured)
}

/// Halted for longer than its lease, and let go on.
pub(super) async fn freeze(stage: &mut Stage) -> Result<Measured, Error> {
    let victim = stage.holder()?;
    let lost = vec![victim.clone()];
    stage.rules.lost_nodes.clone_from(&lost);
    let thaw_at = stage.restart_clock() + stage.length(FROZEN_S);
    stage.remote().freeze(&victim).await?;
    stage.timeline.tell(format!("SIGSTOP the agent of {victim}"));
    let measured = fenced(stage, &lost).await;
    tokio::time::sleep_until(thaw_at).await;
    let kept = stage.must_have_kept(&lost);
    stage.remote().thaw(&victim).await?;
    stage.timeline.tell(format!("SIGCONT the agent of {victim}"));
    kept.and(measured)
}

/// Until leased tasks have ended on the nodes without their agents, and everything runs elsewhere.
async fn fenced(stage: &Stage, lost: &[String]) -> Result<Measured, Error> {
    let (stop, one, keep, stop_back, one_back) = tokio::try_join!(
        stage.stopped(Role::Stop, lost),
        stage.stopped(Role::Isolated, lost),
        stage.replaced(Role::Keep, lost),
        stage.replaced(Role::Stop, lost),
        stage.replaced(Role::Isolated, lost),
    )?;
    Ok(vec![
        (Role::Stop.replaced(), stop_back),
        (Role::Stop.stopped(), stop),
        (Role::Isolated.replaced(), one_back),
        (Role::Isolated.stopped(), one),
        (Role::Keep.replaced(), keep),
    ])
}

/// Waits until the new agent can be asked for the output of every task that ran there before; since `since`, in ms.
async fn adopted(stage: &Stage, node: &str, since: Instant) -> Result<f64, Error> {
    let lives = stage.witness()?.lives().into_iter();
    let tasks: Vec<_> = lives.filter(|life| life.node == node && life.is_alive()).map(|life: Life| life.task).collect();
    let client = stage.client().with_limits(ASK, ASK);
    for task in &tasks {
        loop {
            let request = v1::TaskLogsRequest { reference: task.clone(), tail: Some(1), ..Default::default() };
            if client.first_log(request).await.is_ok() {
                break;
            }
            if since.elapsed() > WITHIN {
                let seconds = WITHIN.as_secs();
                return Err(Error::failed(format!("task {task} on {node} is not adopted after {seconds} s")));
            }
            tokio::time::sleep(POLL).await;
        }
    }
    stage.timeline.tell(format!("its {} tasks answer through it", tasks.len()));
    Ok(since.elapsed().as_secs_f64() * 1e3)
}
