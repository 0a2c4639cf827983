//! Drills at the bounds: long and narrow links, slow disks, largest sizes and counts, strangers and hostile workers. None of
//! them may stop the cluster.

mod busy_leader;
mod crowd;
mod hostile_worker;
mod large_specs;
mod liveness;
mod many_tasks;
mod memory;
mod slow_disks;
mod slow_links;
mod stopped_reader;
mod stranger;
mod thin_links;
mod withheld;

use super::Kind;
use super::stage::{Measured, Stage};
use crate::error::Error;

pub(super) async fn run(stage: &mut Stage, kind: Kind) -> Result<Measured, Error> {
    match kind {
        Kind::SlowLinks => slow_links::run(stage).await,
        Kind::SlowDisks => slow_disks::run(stage).await,
        Kind::ThinLinks => thin_links::run(stage).await,
        Kind::LargeSpecs => large_specs::run(stage).await,
        Kind::ManyTasks => many_tasks::run(stage).await,
        Kind::BusyLeader => busy_leader::run(stage).await,
        Kind::Stranger => stranger::run(stage).await,
        Kind::HostileWorker => hostile_worker::run(stage).await,
        Kind::StoppedReader => stopped_reader::run(stage).await,
        _ => Err(Error::usage("that is no drill at the bounds")),
    }
}
