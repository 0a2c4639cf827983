//! A worker's Docker daemon fails while its agent and, mostly, its containers live.

use tokio::time::Instant;

use super::Kind;
use super::stage::{Measured, Stage};
use crate::error::Error;

const AWAY_S: u64 = 5;
const FROZEN_S: u64 = 10;
/// What a node shows whose runtime does not answer.
const RUNTIME_DOWN: &str = "runtime-down";

pub(super) async fn run(stage: &mut Stage, kind: Kind) -> Result<Measured, Error> {
    let victim = stage.holder()?;
    let daemon = victim.replacen('w', "d", 1);
    let is_halted = kind == Kind::DockerFreeze;
    if matches!(kind, Kind::DockerKill | Kind::DockerRestart) {
        stage.rules.lost_nodes.push(victim.clone());
    }
    let began = stage.restart_clock();
    let remote = stage.remote();
    let what = match kind {
        Kind::DockerFreeze => remote.freeze(&daemon).await.map(|()| "SIGSTOP"),
        Kind::DockerRestart | Kind::DockerRestartLive => remote.stop(&daemon).await.map(|()| "SIGTERM"),
        _ => remote.kill(&daemon, false).await.map(|()| "SIGKILL"),
    }?;
    stage.timeline.tell_at(began, format!("{what} {daemon}, the Docker daemon of {victim}"));
    let shown = stage.shows(&victim, RUNTIME_DOWN, true, began).await;
    tokio::time::sleep_until(began + stage.length(if is_halted { FROZEN_S } else { AWAY_S })).await;
    let back = Instant::now();
    if is_halted {
        stage.remote().thaw(&daemon).await?;
    } else {
        stage.remote().start(&daemon).await?;
    }
    stage.timeline.tell(format!("{daemon} is back"));
    let shown_ms = shown?;
    let cleared_ms = stage.shows(&victim, RUNTIME_DOWN, false, back).await?;
    stage.whole().await?;
    Ok(vec![
        ("daemon back to whole", back.elapsed().as_secs_f64() * 1e3),
        ("runtime-down shown", shown_ms),
        ("daemon back to runtime-down cleared", cleared_ms),
    ])
}
