//! Narrow links between managers, and a follower that is far behind: it catches up, and writes go on meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::liveness::{Allowed, Period};
use crate::drill::stage::{Measured, Stage};
use crate::error::Error;
use crate::recorder::Recorder;
use crate::shape::Shape;

const BYTES_PER_S: u64 = 125_000;
const ENTRIES: u64 = 2_000;
const ALLOWED: Allowed = Allowed { write_gap: Duration::from_secs(2) };
/// Writers that let a follower fall behind.
const WRITERS: usize = 64;
/// A follower this close keeps up with what is written.
const CLOSE: u64 = 200;
/// To catch up, beside the time that its entries take.
const BASE: Duration = Duration::from_secs(60);
/// What an entry may take on the link, with everything that is sent beside it.
const PER_ENTRY: Duration = Duration::from_millis(10);
const POLL: Duration = Duration::from_millis(100);

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let entries = stage.options.entries.unwrap_or(ENTRIES);
    let leader = stage.client().status().await?.leader;
    let managers = stage.managers();
    let behind = managers.iter().find(|name| **name != leader).cloned();
    let behind = behind.ok_or_else(|| Error::failed("there is no follower"))?;
    stage.remote().stop(&behind).await?;
    fall_behind(stage, &behind, entries).await?;
    let shape = Shape { bytes_per_s: BYTES_PER_S, ..Shape::default() };
    stage.remote().shape(&managers, &managers, shape).await?;
    let what = format!("{shape} between managers, {behind} {entries} entries behind");
    stage.timeline.tell(&what);
    let period = Period::begin(stage, &what).await?;
    let began = Instant::now();
    stage.remote().start(&behind).await?;
    let within = BASE + PER_ENTRY * u32::try_from(entries).unwrap_or(u32::MAX);
    let caught_up = caught_up(stage, &behind, within).await?;
    let took_ms = began.elapsed().as_secs_f64() * 1e3;
    match caught_up {
        Ok(()) => stage.timeline.tell(format!("{behind} has caught up")),
        Err(lag) => {
            stage.wrong.push(format!("{what}: still {lag} entries behind after {} s", within.as_secs()));
        }
    }
    let gap_ms = period.end(stage, ALLOWED).await?;
    stage.remote().heal().await?;
    let healed = stage.whole_again(&what).await?;
    Ok(vec![("write gap", gap_ms), ("start to caught up", took_ms), ("healed to whole", healed)])
}

/// Writes until so many entries are in the log that the manager does not have.
async fn fall_behind(stage: &mut Stage, name: &str, entries: u64) -> Result<(), Error> {
    let first = last_index(stage).await?;
    let writers = Recorder::start(stage.client(), WRITERS, 0.0);
    let result = loop {
        match last_index(stage).await {
            Ok(last) if last >= first + entries => break Ok(()),
            Ok(_) => tokio::time::sleep(POLL).await,
            Err(error) => break Err(error),
        }
    };
    let report = writers.finish().await?;
    stage.wrong.extend(report.violations);
    stage.timeline.tell(format!("{} writes while {name} is away", report.acknowledged));
    result
}

async fn last_index(stage: &Stage) -> Result<u64, Error> {
    let peers = stage.client().peers().await?;
    Ok(peers.iter().map(|peer| peer.applied_index).max().unwrap_or(0))
}

/// How far it is behind still, if it does not catch up in time.
async fn caught_up(stage: &Stage, name: &str, within: Duration) -> Result<Result<(), u64>, Error> {
    let deadline = Instant::now() + within;
    loop {
        let peers = stage.client().peers().await?;
        let last = peers.iter().map(|peer| peer.applied_index).max().unwrap_or(0);
        let own = peers.iter().find(|peer| peer.name == name).map_or(0, |peer| peer.applied_index);
        if own + CLOSE >= last {
            return Ok(Ok(()));
        }
        if Instant::now() >= deadline {
            return Ok(Err(last - own));
        }
        tokio::time::sleep(POLL).await;
    }
}
