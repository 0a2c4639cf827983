//! What concerns managers alone: memory at rest, and accepted writes.

use std::time::Duration;

use tokio::time::Instant;

use super::flood::Flood;
use super::{Bound, Figure, Yardstick, median, raw};
use crate::error::Error;
use crate::supervisor::Hosted;

pub(super) const CLIENTS: usize = 64;
const WARM_UP: Duration = Duration::from_secs(2);
/// After the start, before a manager counts as idle.
const SETTLE: Duration = Duration::from_secs(5);

/// The largest of the managers.
pub(super) async fn idle(hosted: &Hosted) -> Result<Figure, Error> {
    tokio::time::sleep(SETTLE).await;
    let (largest, samples) = largest_rss_mib(hosted).await;
    let what = "idle manager, resident (largest of three)".into();
    Ok(Figure::absolute("idle", what, largest, "MiB", Bound::AtMost(40.0)).with_samples(samples))
}

/// Of the managers; and of each.
pub(super) async fn largest_rss_mib(hosted: &Hosted) -> (f64, Vec<f64>) {
    let members = hosted.cluster.status().await;
    let managers = members.iter().filter(|member| member.name.starts_with('m'));
    let samples: Vec<f64> = managers.filter_map(|manager| rss_mib(manager.pid?)).collect();
    (samples.iter().copied().fold(f64::NAN, f64::max), samples)
}

fn rss_mib(pid: i32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// 64 clients, spread over the managers.
pub(super) async fn writes(hosted: &Hosted, how_long: Duration) -> Result<Figure, Error> {
    let layout = hosted.cluster.layout();
    let sync_per_s = raw::syncs_per_second(&layout.dir)?;
    let flood = Flood::start(hosted, CLIENTS, "bench").await?;
    tokio::time::sleep(WARM_UP).await;
    let observer = hosted.cluster.client()?;
    let term = observer.status().await?.term;
    let mut samples = Vec::new();
    for _ in 0..how_long.as_secs().max(1) {
        let (before, since) = (flood.tally.accepted(), Instant::now());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let count = flood.tally.accepted() - before;
        samples.push(count as f64 / since.elapsed().as_secs_f64());
    }
    let term_after = observer.status().await?.term;
    let stopped = flood.stop(&observer).await;
    if term_after != term {
        return Err(Error::failed(format!(
            "an election under load, from term {term} to {term_after}, without a failure"
        )));
    }
    let failed = stopped?;
    if failed > 0 {
        return Err(Error::failed(format!("{failed} writes failed: nothing was broken, so none should")));
    }
    let rate = median(&samples);
    let what = format!("accepted control writes, {CLIENTS} clients, {} managers", layout.managers);
    let mut figure = Figure::absolute("writes", what, rate, "/s", Bound::AtLeast(3_000.0)).with_samples(samples);
    figure.ratio = Some(rate / sync_per_s);
    figure.yardstick = Some(Yardstick { what: "512 B written and synced, one by one".into(), value: sync_per_s });
    Ok(figure)
}
