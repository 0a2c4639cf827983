//! Workloads that run and do not work: their health checks say so.

use std::net::SocketAddr;
use std::time::Duration;

use goat_proto::v1;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::look::WITHIN;
use super::stage::{Measured, Stage};
use crate::echo;
use crate::error::Error;
use crate::witness::Life;

const INTERVAL_MS: u64 = 500;
const CALL: Duration = Duration::from_secs(2);

/// It was ready, and answers nothing any more: stopped, and started again.
pub(super) async fn hang(stage: &mut Stage) -> Result<Measured, Error> {
    let mut spec = stage.extra_spec("hang", 1)?;
    spec.ports =
        vec![v1::Port { host_port: echo::PORT.into(), container_port: echo::PORT.into(), protocol: "tcp".into() }];
    spec.health = Some(check(30_000, 3));
    let name = spec.name.clone();
    stage.restart_clock();
    stage.client().create_service(spec).await?;
    let ready = |tasks: &[v1::Task]| tasks.iter().find(|task| task.state == "running").cloned();
    let task = stage.told_of(&name, "has no task that is ready", ready).await?;
    let node = stage.remote().layout().find(&task.node)?;
    let hung = stage.restart_clock();
    post((stage.remote().layout().member_ip(node), echo::PORT).into(), "/hang").await?;
    stage.timeline.tell_at(hung, format!("{} on {} hangs", task.id, task.node));
    let next = |lives: &[Life]| {
        let own = || lives.iter().filter(|life| life.service == name);
        let old = own().find(|life| life.task == task.id)?.until_ms?;
        Some((old, own().find(|life| life.task != task.id)?.from_ms))
    };
    let (ended, started) = stage
        .witness()?
        .until(WITHIN, next)
        .await
        .ok_or_else(|| Error::failed(format!("{name} was not restarted in {} s", WITHIN.as_secs())))?;
    stage.timeline.tell_unix(ended, "it has ended");
    stage.timeline.tell_unix(started, "the next one runs");
    let measured =
        vec![("hung to next one started", stage.since_ms(started)), ("hung to stopped", stage.since_ms(ended))];
    let failed = |tasks: &[v1::Task]| tasks.iter().find(|told| told.id == task.id && told.state == "failed").cloned();
    let told = stage.told_of(&name, "is not known to have failed", failed).await?;
    if told.reason != "unhealthy" {
        stage.wrong.push(format!("the reason is {:?}, not unhealthy", told.reason));
    }
    stage.told_of(&name, "is not ready again", ready).await?;
    stage.client().remove_service(&name).await?;
    Ok(measured)
}

/// It runs and never answers well: never counted as running, stopped after its start period, tried once more.
pub(super) async fn never_ready(stage: &mut Stage) -> Result<Measured, Error> {
    let mut spec = stage.extra_spec("unready", 1)?;
    // Nobody listens there.
    spec.args = vec!["--port".into(), echo::PORT.to_string(), "--wait-for".into(), "127.0.0.1:1".into()];
    spec.health = Some(check(2_000, 2));
    let restart = v1::RestartPolicy { condition: "on-failure".into(), max_attempts: Some(1), ..Default::default() };
    spec.restart = Some(restart);
    let name = spec.name.clone();
    let began = stage.restart_clock();
    stage.client().create_service(spec).await?;
    let given_up = |tasks: &[v1::Task]| {
        let ended: Vec<_> = tasks.iter().filter(|task| task.state == "failed").cloned().collect();
        (ended.len() >= 2).then_some(ended)
    };
    let failed = stage.told_of(&name, "has not failed twice", given_up).await?;
    let took_ms = began.elapsed().as_secs_f64() * 1e3;
    for task in failed {
        stage.timeline.tell(format!("attempt {} failed: {}", task.attempt, task.reason));
        if task.reason != "never-ready" {
            stage.wrong.push(format!("the reason of attempt {} is {:?}, not never-ready", task.attempt, task.reason));
        }
    }
    let lives = stage.extra_lives(&name)?;
    if lives.len() != 2 || lives.iter().any(Life::is_alive) {
        stage.wrong.push(format!("{} instances ran, and one restart was allowed", lives.len()));
    }
    stage.client().remove_service(&name).await?;
    Ok(vec![("created to failed twice", took_ms)])
}

fn check(start_period_ms: u64, retries: u32) -> v1::HealthCheck {
    let http = v1::HttpProbe { port: echo::PORT.into(), path: "/healthz".into() };
    v1::HealthCheck {
        probe: Some(v1::health_check::Probe::Http(http)),
        interval_ms: Some(INTERVAL_MS),
        timeout_ms: Some(INTERVAL_MS),
        start_period_ms: Some(start_period_ms),
        retries: Some(retries),
    }
}

/// Sends it and does not wait for an answer, since there will be none.
async fn post(to: SocketAddr, path: &str) -> Result<(), Error> {
    let io = |source| Error::Io { what: format!("cannot talk to echo at {to}"), source };
    let sent = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(format!("POST {path} HTTP/1.1\r\nhost: echo\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
        // It is closed only after echo has read it.
        let mut byte = [0];
        let _ = tokio::time::timeout(CALL / 4, tokio::io::AsyncReadExt::read(&mut stream, &mut byte)).await;
        Ok::<_, std::io::Error>(())
    };
    match tokio::time::timeout(CALL, sent).await {
        Ok(result) => result.map_err(io),
        Err(_) => Err(io(std::io::ErrorKind::TimedOut.into())),
    }
}
