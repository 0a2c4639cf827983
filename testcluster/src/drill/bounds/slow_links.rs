//! Managers far apart: at every round trip up to 300 ms the cluster is slower, and nothing stops.

use std::time::Duration;

use super::liveness::{Allowed, Period};
use crate::drill::stage::{Measured, Stage};
use crate::error::Error;
use crate::shape::Shape;

const LENGTH_S: u64 = 60;
/// A write by way of a follower takes two round trips.
const ALLOWED: Allowed = Allowed { write_gap: Duration::from_secs(3) };

/// Round trips in ms, and the measures of each.
const STEPS: [(u64, &str); 4] = [
    (60, "write gap at a round trip of 60 ms"),
    (100, "write gap at a round trip of 100 ms"),
    (200, "write gap at a round trip of 200 ms"),
    (300, "write gap at a round trip of 300 ms"),
];

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let managers = stage.managers();
    let mut measured = Vec::new();
    for (round_trip_ms, measure) in STEPS {
        let what = format!("round trip of {round_trip_ms} ms between managers");
        let period = Period::begin(stage, &what).await?;
        let shape = Shape { delay_ms: round_trip_ms / 2, ..Shape::default() };
        stage.remote().shape(&managers, &managers, shape).await?;
        stage.timeline.tell(&what);
        tokio::time::sleep(stage.length(LENGTH_S)).await;
        measured.push((measure, period.end(stage, ALLOWED).await?));
        stage.remote().heal().await?;
        stage.timeline.tell("links are fast again");
        measured.push(("healed to whole", stage.whole_again(&what).await?));
    }
    Ok(measured)
}
