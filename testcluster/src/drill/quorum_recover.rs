//! A majority of managers is lost for good: the one that is left is recovered, goes on alone, and others join it.

use tokio::time::Instant;

use super::role::Role;
use super::stage::{Measured, Stage};
use crate::error::Error;

/// Of the service that is scaled to see that decisions are made again.
const MORE: u32 = 2;

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let (left, lost) = lose(stage).await?;
    let killed = stage.timeline.zero();
    stage.remote().kill(&left, false).await?;
    let began = Instant::now();
    stage.remote().recover(&left).await?;
    stage.timeline.tell(format!("{left} was recovered"));
    let recovered_ms = began.elapsed().as_secs_f64() * 1e3;
    stage.remote().start(&left).await?;
    let accepted = stage.accepted(began).await?;
    stage.timeline.tell(format!("{left} leads alone"));
    let outage_ms = killed.elapsed().as_secs_f64() * 1e3;
    for name in &lost {
        stage.remote().join(name).await?;
        stage.timeline.tell(format!("{name} joins anew"));
    }
    scaled(stage).await?;
    stage.whole().await?;
    stage.term = stage.client().status().await?.term;
    let whole_ms = began.elapsed().as_secs_f64() * 1e3;
    Ok(vec![
        ("recovery itself", recovered_ms),
        ("recovery begun to next accepted write", accepted),
        ("loss to next accepted write", outage_ms),
        ("recovery begun to whole, three managers", whole_ms),
    ])
}

/// The leader first, so that the two that are left both have all that is acknowledged from then on; then one of them. The
/// one that is left, and those that are lost.
async fn lose(stage: &mut Stage) -> Result<(String, Vec<String>), Error> {
    let before = stage.client().status().await?;
    let killed = Instant::now();
    stage.remote().kill(&before.leader, false).await?;
    stage.timeline.tell_at(killed, format!("SIGKILL {}, for good", before.leader));
    stage.accepted(killed).await?;
    let mut others = stage.managers();
    others.retain(|name| *name != before.leader);
    let [left, second] = <[String; 2]>::try_from(others)
        .map_err(|others| Error::usage(format!("this drill needs three managers, and {} are left", others.len())))?;
    stage.rules.may_fail_requests = true;
    stage.rules.may_stop.push(Role::Stop);
    let killed = stage.restart_clock();
    stage.remote().kill(&second, false).await?;
    stage.timeline.tell_at(killed, format!("SIGKILL {second}, for good: no quorum"));
    Ok((left, vec![before.leader, second]))
}

/// Up and down again.
async fn scaled(stage: &mut Stage) -> Result<(), Error> {
    let name = stage.service(Role::Keep).to_owned();
    let services = stage.client().services().await?;
    let service = services.iter().find(|service| service.spec.as_ref().is_some_and(|spec| spec.name == name));
    let replicas = service.map_or(0, |service| service.replicas_desired);
    for wanted in [replicas + MORE, replicas] {
        stage.client().scale_service(&name, wanted).await?;
        stage.whole().await?;
        stage.timeline.tell(format!("{name} has {wanted} tasks"));
    }
    Ok(())
}
