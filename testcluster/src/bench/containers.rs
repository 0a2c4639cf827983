//! How fast containers come to run, against Docker itself.

use std::collections::BTreeSet;
use std::time::Duration;

use bollard::query_parameters as query;
use goat_proto::v1;
use tokio::time::Instant;

use super::{Bound, Figure, Yardstick, median, raw};
use crate::client::Client;
use crate::echo;
use crate::error::Error;
use crate::runtime::{RuntimeKind, docker};
use crate::supervisor::Hosted;

const REPLICAS: u32 = 60;
const POLL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(120);
const SETTLE: Duration = Duration::from_secs(1);

/// Makes the first manager the leader, so that it is known whom to ask.
pub(super) async fn lead_with_the_first(client: &Client) -> Result<(), Error> {
    let peers = client.peers().await?;
    match peers.iter().find(|peer| peer.role == "leader") {
        Some(leader) if leader.name == "m1" => Ok(()),
        _ => client.transfer_leader("m1").await.map(drop),
    }
}

fn spec(name: &str, replicas: u32) -> v1::ServiceSpec {
    echo::spec(name, RuntimeKind::Docker, replicas, std::path::Path::new("/echo"))
}

/// One service after the other, each measured from the request to the running task, and `docker run -d` in between.
pub(super) async fn create(client: &Client, repeat: usize) -> Result<Figure, Error> {
    let (mut samples, mut raw_samples) = (Vec::new(), Vec::new());
    for number in 0..repeat {
        raw_samples.push(raw::docker_run().await?);
        let name = format!("bench-create-{number}");
        let started = Instant::now();
        client.create_service(spec(&name, 1)).await?;
        running(client, &name, 1).await?;
        samples.push(started.elapsed().as_secs_f64());
        removed(client, &name).await?;
    }
    let yardstick = Yardstick { what: "docker run -d".into(), value: median(&raw_samples) };
    let what = format!("service create to running (median of {repeat})");
    Ok(Figure::compared("create", what, (median(&samples), "s"), yardstick, Bound::AtMost(1.25)).with_samples(samples))
}

/// 60 replicas at once, against as many containers over Docker's API with the same concurrency.
pub(super) async fn many(hosted: &Hosted, client: &Client) -> Result<Figure, Error> {
    let concurrency = usize::from(hosted.cluster.layout().workers) * starts_per_worker();
    // Once before and once after, since the daemon's speed changes as it goes.
    let before = raw::containers_per_second(REPLICAS as usize, concurrency).await?;
    let name = "bench-many";
    let started = Instant::now();
    client.create_service(spec(name, REPLICAS)).await?;
    running(client, name, REPLICAS).await?;
    let rate = f64::from(REPLICAS) / started.elapsed().as_secs_f64();
    removed(client, name).await?;
    let after = raw::containers_per_second(REPLICAS as usize, concurrency).await?;
    let what = format!("Docker's API, {concurrency} at a time");
    let yardstick = Yardstick { what, value: f64::midpoint(before, after) };
    let what = format!("{REPLICAS} replicas on {} workers", hosted.cluster.layout().workers);
    Ok(Figure::compared("many", what, (rate, "/s"), yardstick, Bound::AtLeast(0.9))
        .with_samples(vec![before, rate, after]))
}

/// The default of `max_concurrent_starts`.
fn starts_per_worker() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
    (2 * cpus).max(4)
}

/// A service's container is killed; until its next one runs.
pub(super) async fn restart(client: &Client, repeat: usize) -> Result<Vec<Figure>, Error> {
    let daemon = docker()?;
    let (mut samples, mut raw_samples, mut by_hand) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..repeat {
        by_hand.push(raw::restarted_by_hand(SETTLE).await?);
        raw_samples.push(1.0 / raw::containers_per_second(1, 1).await?);
        tokio::time::sleep(SETTLE).await;
        // A new one each time: what is measured is the first restart, which has no wait.
        let name = format!("bench-restart-{number}");
        client.create_service(spec(&name, 1)).await?;
        let before = running(client, &name, 1).await?;
        let container = before.into_iter().next().unwrap_or_default();
        // What is killed has run for a while: Docker is busy with a start for some time after its answer.
        tokio::time::sleep(SETTLE).await;
        let kill = query::KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let started = Instant::now();
        daemon.kill_container(&container, Some(kill)).await.map_err(Error::docker("kill a container"))?;
        loop {
            let now = running(client, &name, 1).await?;
            if !now.contains(&container) {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        samples.push(started.elapsed().as_secs_f64());
        removed(client, &name).await?;
    }
    let yardstick = Yardstick { what: "create and start over Docker's API".into(), value: median(&raw_samples) };
    let what = || format!("container killed to running again (median of {repeat})");
    let value = (median(&samples), "s");
    let hand = Yardstick { what: "the same by hand over Docker's API".into(), value: median(&by_hand) };
    Ok(vec![
        Figure::compared("restart", what(), value, yardstick, Bound::AtMost(1.5)).with_samples(samples.clone()),
        Figure::compared("restart", what(), value, hand, Bound::AtMost(1.25)).with_samples(samples),
    ])
}

/// Waits until so many tasks run; their containers.
async fn running(client: &Client, service: &str, replicas: u32) -> Result<BTreeSet<String>, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let tasks = tasks(client, service).await?;
        let running: BTreeSet<String> =
            tasks.into_iter().filter(|task| task.state == "running").map(|task| task.container_id).collect();
        if running.len() >= replicas as usize {
            return Ok(running);
        }
        if Instant::now() > deadline {
            return Err(Error::failed(format!(
                "{} of {replicas} tasks of {service} run, and more did not come",
                running.len()
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// From the leader's own state, which is the first to know: a read that asks a quorum, two hundred times a second, would
/// take the machine's time from what is measured.
async fn tasks(client: &Client, service: &str) -> Result<Vec<v1::Task>, Error> {
    let read = Some(v1::ReadOptions { stale: true });
    let request = v1::ListTasksRequest { read, service: service.to_owned(), ..Default::default() };
    let call = |mut control: crate::client::Control, request| async move { control.list_tasks(request).await };
    match client.once(0, request, call).await {
        Ok(reply) => Ok(reply.tasks),
        // It has not been heard of yet.
        Err(status) if status.code() == tonic::Code::NotFound => Ok(Vec::new()),
        Err(status) => Err(Error::Refused { what: "list tasks", status: Box::new(status) }),
    }
}

/// Removes the service and waits until nothing is left of it, so that the next measurement has the machine to itself.
async fn removed(client: &Client, service: &str) -> Result<(), Error> {
    client.remove_service(service).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let services = client.list_services(v1::ListServicesRequest::default()).await?;
        if !services.iter().any(|known| known.spec.as_ref().is_some_and(|spec| spec.name == service)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::failed(format!("{service} was not removed in time")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
