//! A worker dies with its tasks, as a machine does: how long until all slots run elsewhere?

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::stage::{Measured, Stage};
use crate::error::Error;

const WITHIN: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

pub(super) async fn run(stage: &mut Stage) -> Result<Measured, Error> {
    let victim = victim(stage)?;
    let held = stage.before.values().filter(|task| task.node == victim).count();
    stage.lost_nodes.push(victim.clone());
    let killed = stage.restart_clock();
    stage.remote().kill(&victim, true).await?;
    stage.timeline.tell_at(killed, format!("SIGKILL {victim} and its {held} tasks"));
    let [keep, stop] = &stage.services;
    let (keep, stop, _) = tokio::try_join!(
        replaced(stage, keep, "on-disconnect keep", &victim, killed),
        replaced(stage, stop, "on-disconnect stop", &victim, killed),
        seen_down(stage, &victim),
    )?;
    stage.remote().start(&victim).await?;
    stage.timeline.tell(format!("{victim} started again"));
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(vec![
        ("SIGKILL to all slots running (on-disconnect keep)", ms(keep)),
        ("SIGKILL to all slots running (on-disconnect stop)", ms(stop)),
    ])
}

/// A worker with tasks of both services; after it was restarted once a worker may have none.
fn victim(stage: &Stage) -> Result<String, Error> {
    let nodes_of = |service: &String| -> BTreeSet<_> {
        let own = stage.before.values().filter(|task| task.service == *service);
        own.map(|task| task.node.clone()).collect()
    };
    let [keep, stop] = stage.services.each_ref().map(nodes_of);
    let victim = keep.intersection(&stop).next().cloned();
    victim.ok_or_else(|| Error::failed("no worker has tasks of both services; repeat with more workers"))
}

async fn replaced(stage: &Stage, service: &str, what: &str, victim: &str, since: Instant) -> Result<Duration, Error> {
    let slots: BTreeSet<_> =
        stage.before.values().filter(|task| task.service == service).map(|task| task.slot).collect();
    let deadline = since + WITHIN;
    loop {
        let tasks = stage.checks.running().await?;
        let filled: BTreeSet<_> = tasks
            .values()
            .filter(|task| task.service == service && task.node != victim)
            .map(|task| task.slot)
            .collect();
        if filled == slots {
            stage.timeline.tell(format!("all {} slots run ({what})", slots.len()));
            return Ok(since.elapsed());
        }
        if Instant::now() >= deadline {
            let missing = slots.difference(&filled).count();
            return Err(Error::failed(format!("{missing} slots of {service} do not run after {} s", WITHIN.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn seen_down(stage: &Stage, victim: &str) -> Result<(), Error> {
    let deadline = Instant::now() + WITHIN;
    let mut last = "ready".to_owned();
    while Instant::now() < deadline {
        let nodes = stage.client().nodes().await?;
        if let Some(node) = nodes.into_iter().find(|node| node.name == victim)
            && node.state != last
        {
            stage.timeline.tell(format!("{victim} is {}", node.state));
            if node.state == "down" {
                return Ok(());
            }
            last = node.state;
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Error::failed(format!("{victim} is not seen as down after {} s", WITHIN.as_secs())))
}
