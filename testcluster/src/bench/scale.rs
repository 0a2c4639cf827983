//! A large cluster: what many tasks and a long history cost its managers, under writes.
//!
//! The tasks are pending ones: real rows, planned, explained and replicated by real managers, that no worker fits (they
//! want a label that none has). The history is real writes over the control API, with snapshots taken as shipped.

use std::time::Duration;

use goat_proto::v1;
use tokio::time::Instant;

use super::control::{CLIENTS, largest_rss_mib};
use super::flood::Flood;
use super::{Bound, Figure, Yardstick};
use crate::client::{Client, is_passing};
use crate::error::Error;
use crate::goatctl;
use crate::recorder::Recorder;
use crate::supervisor::Hosted;

const PART: &str = "scale";
const PER_SERVICE: u32 = 1_000;
/// Of the writer beside which things are done.
const WRITES_PER_S: f64 = 200.0;
const WRITERS: usize = 10;
const GAP_MS: f64 = 200.0;
const START_S: f64 = 5.0;
const ROUNDS: usize = 5;
const POLL: Duration = Duration::from_millis(20);
const QUIET: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(1_800);
/// How long a write gap is looked for where nothing is done, and after something was done at once.
const LOOK: Duration = Duration::from_secs(10);

/// How large.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    pub tasks: u32,
    pub entries: u64,
}

/// One after the other, on one growing cluster.
pub(super) async fn run(hosted: &Hosted, client: &Client, scale: Scale) -> Result<Vec<Figure>, Error> {
    let mut figures = vec![fill(client, scale.tasks).await?];
    figures.push(memory(hosted, format!("manager, resident, with {} tasks (largest)", scale.tasks)).await);
    let recorder = Recorder::start(client, WRITERS, WRITES_PER_S);
    let gaps = gaps(hosted, client, &recorder, scale).await;
    let record = recorder.finish().await?;
    figures.extend(gaps?);
    if record.failed > 0 || !record.violations.is_empty() {
        return Err(Error::failed(format!(
            "writes failed or were lost: {:?} {:?}",
            record.failures, record.violations
        )));
    }
    figures.extend(grow(hosted, client, scale.entries).await?);
    figures.push(memory(hosted, format!("the same after {} log entries", scale.entries)).await);
    figures.extend(restarts(hosted, client, scale).await?);
    Ok(figures)
}

/// Until every task is there and everything that is to be said of it has been.
async fn fill(client: &Client, tasks: u32) -> Result<Figure, Error> {
    let started = Instant::now();
    let services = tasks.div_ceil(PER_SERVICE);
    for number in 0..services {
        let spec = v1::ServiceSpec {
            name: format!("scale-{number}"),
            image: "none:1".into(),
            replicas: PER_SERVICE.min(tasks - number * PER_SERVICE),
            constraints: vec![v1::Constraint { label: "scale".into(), equal: true, value: "nowhere".into() }],
            ..Default::default()
        };
        client.create_service(spec).await?;
    }
    let mut last = (0, Instant::now());
    loop {
        let status = client.status().await?;
        let index = status.read.map_or(0, |read| read.index);
        if index != last.0 {
            last = (index, Instant::now());
        }
        let pending = status.tasks.get("pending").copied().unwrap_or(0);
        if pending >= tasks && last.1.elapsed() >= QUIET {
            break;
        }
        if started.elapsed() > PATIENCE {
            return Err(Error::failed(format!("{pending} of {tasks} tasks are there after {} s", PATIENCE.as_secs())));
        }
        tokio::time::sleep(POLL * 10).await;
    }
    let per_s = f64::from(tasks) / (last.1 - started).as_secs_f64();
    let what = format!("{tasks} tasks of {services} services made, looked at, and told why they wait");
    Ok(Figure::absolute(PART, what, per_s, "/s", Bound::None))
}

async fn memory(hosted: &Hosted, what: String) -> Figure {
    let (largest, samples) = largest_rss_mib(hosted).await;
    Figure::absolute(PART, what, largest, "MiB", Bound::None).with_samples(samples)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Write gaps beside what is done to a cluster with so many tasks.
async fn gaps(hosted: &Hosted, client: &Client, recorder: &Recorder, scale: Scale) -> Result<Vec<Figure>, Error> {
    let quiet = Instant::now();
    tokio::time::sleep(LOOK).await;
    let yardstick = Yardstick { what: "nothing is done".into(), value: ms(recorder.longest_gap(quiet)) };
    let figure = |what: String, samples: Vec<f64>, bound| {
        let longest = samples.iter().copied().fold(f64::NAN, f64::max);
        let figure = Figure::absolute(PART, what, longest, "ms", bound).with_samples(samples);
        Figure { ratio: Some(longest / yardstick.value), yardstick: Some(yardstick.clone()), ..figure }
    };
    let mut saves = Vec::new();
    for round in 0..ROUNDS {
        let since = Instant::now();
        save(hosted, round).await?;
        saves.push(ms(recorder.longest_gap(since)));
        eprintln!("snapshot saved in {:.2} s, longest write gap {:.0} ms", since.elapsed().as_secs_f64(), saves[round]);
    }
    let mut transfers = Vec::new();
    for to in ["m2", "m3", "m1"] {
        let since = Instant::now();
        client.transfer_leader(to).await?;
        tokio::time::sleep(LOOK / 2).await;
        transfers.push(ms(recorder.longest_gap(since)));
    }
    let mut lists = Vec::new();
    for _ in 0..ROUNDS {
        let since = Instant::now();
        let listed = client.tasks(true).await?.len();
        if listed < scale.tasks as usize {
            return Err(Error::failed(format!("{listed} tasks were listed of {}", scale.tasks)));
        }
        lists.push(ms(recorder.longest_gap(since)));
    }
    Ok(vec![
        figure(format!("snapshot save of {} tasks: longest write gap", scale.tasks), saves, Bound::AtMost(GAP_MS)),
        figure("planned change of leader: longest write gap".into(), transfers, Bound::None),
        figure(format!("all {} tasks listed: longest write gap", scale.tasks), lists, Bound::None),
    ])
}

/// As a user does it.
async fn save(hosted: &Hosted, round: usize) -> Result<(), Error> {
    let layout = hosted.cluster.layout();
    let file = layout.dir.join(format!("scale-{round}.goat"));
    let saved = goatctl::run(layout, &["operator", "snapshot", "save", &file.display().to_string()]).await;
    let _ = std::fs::remove_file(&file);
    saved.map(drop)
}

/// Writes until the log has been so long, over many snapshots of Raft's.
async fn grow(hosted: &Hosted, client: &Client, entries: u64) -> Result<Vec<Figure>, Error> {
    let index = async || client.status().await.map(|status| status.read.map_or(0, |read| read.index));
    let (first, started) = (index().await?, Instant::now());
    if first >= entries {
        return Ok(Vec::new());
    }
    let flood = Flood::start(hosted, CLIENTS, "scale-flood").await?;
    tokio::time::sleep(QUIET).await;
    let _ = flood.tally.take_gap();
    let mut gaps = Vec::new();
    let mut reached = first;
    while reached < entries {
        tokio::time::sleep(Duration::from_secs(5)).await;
        gaps.push(ms(flood.tally.take_gap()));
        reached = index().await?;
        eprintln!(
            "{reached} of {entries} log entries; longest write gap in the last 5 s {:.0} ms",
            gaps[gaps.len() - 1]
        );
        if started.elapsed() > PATIENCE {
            return Err(Error::failed(format!("{reached} log entries after {} s", PATIENCE.as_secs())));
        }
    }
    let per_s = (reached - first) as f64 / started.elapsed().as_secs_f64();
    let failed = flood.stop(client).await? as f64;
    let longest = gaps.iter().copied().fold(f64::NAN, f64::max);
    let what = format!("{CLIENTS} clients, Raft's own snapshots in between: longest write gap");
    Ok(vec![
        Figure::absolute(PART, "of these writes failed".into(), failed, "", Bound::AtMost(0.0)),
        Figure::absolute(PART, format!("log entries written by {CLIENTS} clients"), per_s, "/s", Bound::None),
        Figure::absolute(PART, what, longest, "ms", Bound::AtMost(GAP_MS)).with_samples(gaps),
    ])
}

/// From the start of a manager's process until it has answered for the whole cluster's newest state by itself.
async fn restarts(hosted: &Hosted, client: &Client, scale: Scale) -> Result<Vec<Figure>, Error> {
    let (mut after_stop, mut after_kill) = (Vec::new(), Vec::new());
    for name in ["m2", "m3", "m1"] {
        hosted.cluster.stop(name).await?;
        after_stop.push(start(hosted, name).await?);
        hosted.cluster.kill(name, false).await?;
        // Those that are left have to agree on a leader first: that is not what is measured.
        client.status().await?;
        after_kill.push(start(hosted, name).await?);
    }
    let figure = |how: &str, samples: Vec<f64>| {
        let longest = samples.iter().copied().fold(f64::NAN, f64::max);
        let what =
            format!("manager started after {how}, {} tasks, {} log entries: to ready", scale.tasks, scale.entries);
        Figure::absolute(PART, what, longest, "s", Bound::AtMost(START_S)).with_samples(samples)
    };
    Ok(vec![figure("SIGTERM", after_stop), figure("SIGKILL", after_kill)])
}

async fn start(hosted: &Hosted, name: &str) -> Result<f64, Error> {
    let at = name.trim_start_matches('m').parse::<usize>().map_or(0, |number| number - 1);
    let client = hosted.cluster.client()?;
    let started = Instant::now();
    hosted.cluster.start(name).await?;
    loop {
        let request = v1::GetStatusRequest::default();
        let asked = client.once(at, request, |mut control, request| async move { control.get_status(request).await });
        match asked.await {
            Ok(_) => break,
            Err(status) if is_passing(&status) && started.elapsed() < PATIENCE => tokio::time::sleep(POLL).await,
            Err(status) => return Err(Error::failed(format!("{name} does not get ready: {}", status.message()))),
        }
    }
    let took = started.elapsed().as_secs_f64();
    let log = std::fs::read_to_string(hosted.cluster.layout().log_path(name)).unwrap_or_default();
    let read = log.lines().rfind(|line| line.contains("the data directory was read")).unwrap_or_default();
    eprintln!("{name} ready after {took:.2} s: {read}");
    Ok(took)
}
