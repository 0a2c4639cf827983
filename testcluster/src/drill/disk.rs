//! A manager's disk fails it: it must not go on as if it had written, and the others must not need it.

use std::path::PathBuf;
use std::time::Duration;

use goat_proto::v1;
use tokio::time::Instant;

use super::stage::{Measured, Stage};
use crate::client::Client;
use crate::cluster::Condition;
use crate::error::Error;
use crate::layout::Layout;
use crate::tracer::{attach, detach};
use crate::volumes;

const FAILING_S: u64 = 10;
const POLL: Duration = Duration::from_millis(5);
/// From when the disk is well again.
const ENDS: Duration = Duration::from_secs(5);
const BULK_BYTES: usize = 60_000;

/// The leader's file system fills up, and has room again.
pub(super) async fn full(stage: &mut Stage) -> Result<Measured, Error> {
    let status = stage.client().status().await?;
    let layout = stage.remote().layout();
    let data_dir = data_dir(layout, &status.leader)?;
    let began = stage.restart_clock();
    let filled = volumes::fill(&data_dir, 0)?;
    stage.timeline.tell(format!("the disk of {} (leader) is full, with {filled} bytes more", status.leader));
    let bulk = stage.extra_spec("bulk", 0)?;
    let client = stage.client().clone();
    let failing = tokio::select! {
        failing = failing(stage, &status.leader, status.term, began) => failing,
        never = use_up(&client, bulk) => never,
    };
    volumes::empty(&data_dir)?;
    stage.timeline.tell("it has room again");
    revive(stage, &status.leader).await?;
    failing
}

/// The leader's disk reports that it could not write.
pub(super) async fn fsync_fails(stage: &mut Stage) -> Result<Measured, Error> {
    let status = stage.client().status().await?;
    let members = stage.remote().status().await?.members;
    let pid = members.iter().find(|member| member.name == status.leader).and_then(|member| member.pid);
    let pid = pid.ok_or_else(|| Error::failed(format!("{} does not run", status.leader)))?;
    let began = stage.restart_clock();
    let mut strace = attach(pid).await?;
    stage.timeline.tell(format!("every fsync of {} (leader) fails from here on", status.leader));
    let failing = failing(stage, &status.leader, status.term, began).await;
    detach(&mut strace).await?;
    stage.timeline.tell("its disk is well again");
    revive(stage, &status.leader).await?;
    failing
}

fn data_dir(layout: &Layout, manager: &str) -> Result<PathBuf, Error> {
    Ok(layout.data_dir(layout.find(manager)?))
}

/// A full disk still takes what goes to blocks that were set aside before: writes use those up.
async fn use_up(client: &Client, mut bulk: v1::ServiceSpec) -> Result<Measured, Error> {
    bulk.env.insert("BULK".into(), "x".repeat(BULK_BYTES));
    loop {
        // Whether a write is accepted is the recorder's to see.
        let _ = client.create_service(bulk.clone()).await;
        let _ = client.remove_service(&bulk.name).await;
    }
}

/// Until another leads and writes are accepted; then the rest of the time.
async fn failing(stage: &mut Stage, leader: &str, term: u64, began: Instant) -> Result<Measured, Error> {
    let (_, term) = stage.next_leader(leader, term).await?;
    stage.term = term;
    stage.accepted(Instant::now()).await?;
    tokio::time::sleep_until(began + stage.length(FAILING_S)).await;
    // When exactly the disk began to fail is the manager's secret; until then writes were accepted.
    let gap = stage.recorder()?.longest_gap(began);
    stage.timeline.tell(format!("longest time without an accepted write {} ms", gap.as_millis()));
    Ok(vec![("write gap", gap.as_secs_f64() * 1e3)])
}

/// Starts the manager when it has ended by itself. One that goes on is as good, if it is whole afterwards.
async fn revive(stage: &Stage, name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + ENDS;
    loop {
        let members = stage.remote().status().await?.members;
        let condition = members.into_iter().find(|member| member.name == name).map(|member| member.condition);
        if let Some(Condition::Ended(how)) = condition {
            stage.timeline.tell(format!("{name} had ended by itself ({how}); started again"));
            return stage.remote().start(name).await;
        }
        if Instant::now() >= deadline {
            stage.timeline.tell(format!("{name} still runs"));
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}
