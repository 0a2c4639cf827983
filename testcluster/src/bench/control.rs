//! What concerns managers alone: memory at rest, and accepted writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goat_proto::v1;
use tokio::time::Instant;

use super::{Bound, Figure, Yardstick, median, raw};
use crate::client::{Client, is_passing, request_id};
use crate::error::Error;
use crate::supervisor::Hosted;
use crate::taskset::TaskSet;

const CLIENTS: usize = 64;
const WARM_UP: Duration = Duration::from_secs(2);
/// After the start, before a manager counts as idle.
const SETTLE: Duration = Duration::from_secs(5);
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The largest of the managers.
pub(super) async fn idle(hosted: &Hosted) -> Result<Figure, Error> {
    tokio::time::sleep(SETTLE).await;
    let members = hosted.cluster.status().await;
    let managers = members.iter().filter(|member| member.name.starts_with('m'));
    let samples: Vec<f64> = managers.filter_map(|manager| rss_mib(manager.pid?)).collect();
    let largest = samples.iter().copied().fold(f64::NAN, f64::max);
    let what = "idle manager, resident (largest of three)".into();
    Ok(Figure::absolute("idle", what, largest, "MiB", Bound::AtMost(40.0)).with_samples(samples))
}

fn rss_mib(pid: i32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// 64 clients, spread over the managers; each changes the labels of a service of its own, one change after the other.
pub(super) async fn writes(hosted: &Hosted, how_long: Duration) -> Result<Figure, Error> {
    let layout = hosted.cluster.layout();
    let sync_per_s = raw::syncs_per_second(&layout.dir)?;
    let tasks = TaskSet::new("writers");
    let accepted = Arc::new(AtomicU64::new(0));
    let failed = Arc::new(AtomicU64::new(0));
    let mut writers = Vec::new();
    for number in 0..CLIENTS {
        // Each with connections of its own, as clients have.
        let client = hosted.cluster.client()?;
        let spec = v1::ServiceSpec { name: format!("bench-{number}"), image: "none:1".into(), ..Default::default() };
        let id = client.create_service(spec.clone()).await?.id;
        writers.push(Writer { client, at: number, id, spec, accepted: accepted.clone(), failed: failed.clone() });
    }
    let ids: Vec<String> = writers.iter().map(|writer| writer.id.clone()).collect();
    for writer in writers {
        tasks.spawn(writer.run());
    }
    tokio::time::sleep(WARM_UP).await;
    let observer = hosted.cluster.client()?;
    let term = observer.status().await?.term;
    let mut samples = Vec::new();
    for _ in 0..how_long.as_secs().max(1) {
        let (before, since) = (accepted.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let count = accepted.load(Ordering::Relaxed) - before;
        samples.push(count as f64 / since.elapsed().as_secs_f64());
    }
    let term_after = observer.status().await?.term;
    tasks.stop(STOP_GRACE).await;
    if term_after != term {
        return Err(Error::failed(format!(
            "an election under load, from term {term} to {term_after}, without a failure"
        )));
    }
    let client = hosted.cluster.client()?;
    for id in ids {
        client.remove_service(&id).await?;
    }
    let failed = failed.load(Ordering::Relaxed);
    if failed > 0 {
        return Err(Error::failed(format!("{failed} writes failed: nothing was broken, so none should")));
    }
    let rate = median(&samples);
    let what = format!("accepted control writes, {CLIENTS} clients, {} managers", layout.managers);
    let mut figure = Figure::absolute("writes", what, rate, "/s", Bound::AtLeast(3_000.0)).with_samples(samples);
    figure.ratio = Some(rate / sync_per_s);
    figure.yardstick = Some(Yardstick { what: "512 B written and synced, one by one".into(), value: sync_per_s });
    Ok(figure)
}

struct Writer {
    client: Client,
    at: usize,
    id: String,
    spec: v1::ServiceSpec,
    accepted: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl Writer {
    async fn run(mut self) {
        for number in 0_u64.. {
            self.spec.labels.insert("number".into(), number.to_string());
            let request = v1::UpdateServiceRequest {
                request_id: request_id(),
                reference: self.id.clone(),
                seen_version: None,
                spec: Some(self.spec.clone()),
            };
            let call =
                |mut control: crate::client::Control, request| async move { control.update_service(request).await };
            match self.client.once(self.at, request, call).await {
                Ok(_) => self.accepted.fetch_add(1, Ordering::Relaxed),
                Err(status) if is_passing(&status) => self.failed.fetch_add(1, Ordering::Relaxed),
                Err(status) => {
                    eprintln!("a write was refused: {}", status.message());
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            };
        }
    }
}
