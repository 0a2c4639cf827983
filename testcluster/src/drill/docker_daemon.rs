//! A worker's Docker daemon fails while its agent and, mostly, its containers live.

use std::time::Duration;

use tokio::time::Instant;

use super::Kind;
use super::look::WITHIN;
use super::stage::{Measured, Stage};
use crate::error::Error;

const AWAY_S: u64 = 5;
const FROZEN_S: u64 = 10;
const POLL: Duration = Duration::from_millis(20);
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
    let shown = shows(stage, &victim, true, began).await;
    tokio::time::sleep_until(began + stage.length(if is_halted { FROZEN_S } else { AWAY_S })).await;
    let back = Instant::now();
    if is_halted {
        stage.remote().thaw(&daemon).await?;
    } else {
        stage.remote().start(&daemon).await?;
    }
    stage.timeline.tell(format!("{daemon} is back"));
    let shown_ms = shown?;
    let cleared_ms = shows(stage, &victim, false, back).await?;
    stage.whole().await?;
    Ok(vec![
        ("daemon back to whole", back.elapsed().as_secs_f64() * 1e3),
        ("runtime-down shown", shown_ms),
        ("daemon back to runtime-down cleared", cleared_ms),
    ])
}

/// Waits until the node shows that its runtime does not answer, or does not show it any more.
async fn shows(stage: &Stage, node: &str, is_down: bool, since: Instant) -> Result<f64, Error> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let nodes = stage.client().nodes().await?;
        let inventory = nodes.into_iter().find(|found| found.name == node).and_then(|found| found.inventory);
        let conditions = inventory.map(|inventory| inventory.conditions).unwrap_or_default();
        if conditions.iter().any(|condition| condition == RUNTIME_DOWN) == is_down {
            stage
                .timeline
                .tell(format!("{node} shows {}", if is_down { RUNTIME_DOWN } else { "that its runtime is back" }));
            return Ok(since.elapsed().as_secs_f64() * 1e3);
        }
        if Instant::now() >= deadline {
            let not = if is_down { "does not show" } else { "still shows" };
            return Err(Error::failed(format!("{node} {not} {RUNTIME_DOWN} after {} s", WITHIN.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
}
