//! All managers' disks are slow: at every fsync up to 200 ms the cluster is slower, and nothing stops.

use std::time::Duration;

use super::liveness::{Allowed, Period};
use crate::drill::stage::{Measured, Stage};
use crate::error::Error;
use crate::recorder::Recorder;

const LENGTH_S: u64 = 60;
const WRITERS: usize = 64;
/// Of all of them together. On a slow disk each waits for its answer most of the time.
const WRITES_PER_S: f64 = 640.0;
/// The log's sync of the leader, the one of a follower that has just begun another, and as much again for the queue.
const ALLOWED: Allowed = Allowed { write_gap: Duration::from_secs(3) };

/// How much longer each fsync takes, in ms, and the measure of each.
const STEPS: [(u64, &str); 4] = [
    (20, "write gap at an fsync of 20 ms"),
    (50, "write gap at an fsync of 50 ms"),
    (100, "write gap at an fsync of 100 ms"),
    (200, "write gap at an fsync of 200 ms"),
];

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let managers = stage.managers();
    let mut measured = Vec::new();
    for (fsync_ms, measure) in STEPS {
        let what = format!("fsync of {fsync_ms} ms on all managers");
        let period = Period::begin(stage, &what).await?;
        stage.remote().slow_disks(&managers, Duration::from_millis(fsync_ms)).await?;
        stage.timeline.tell(format!("{what}, {WRITERS} writers"));
        let writers = Recorder::start(stage.client(), WRITERS, WRITES_PER_S);
        tokio::time::sleep(stage.length(LENGTH_S)).await;
        let gap_ms = period.end(stage, ALLOWED).await;
        stage.remote().heal().await?;
        stage.timeline.tell("disks are fast again");
        let report = writers.finish().await?;
        stage.timeline.tell(format!(
            "{what}: {} writes accepted, {} failed, half of them within {:.0} ms, 99 % within {:.0} ms",
            report.acknowledged, report.failed, report.latency_p50_ms, report.latency_p99_ms
        ));
        let failures = report.failures.iter().map(|failure| format!("a request failed: {failure}"));
        stage.wrong.extend(report.violations.iter().cloned().chain(failures).map(|wrong| format!("{what}: {wrong}")));
        measured.push((measure, gap_ms?));
        measured.push(("healed to whole", stage.whole_again(&what).await?));
    }
    Ok(measured)
}
