//! Clients that write as fast as they are answered; each changes the labels of a service of its own, one change after the
//! other, over a connection of its own. Counts; judges nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goat_proto::v1;
use tokio::time::Instant;

use crate::client::{Client, Control, is_passing, request_id};
use crate::error::Error;
use crate::supervisor::Hosted;
use crate::taskset::TaskSet;

const STOP_GRACE: Duration = Duration::from_secs(5);

/// What all of them have seen.
#[derive(Debug)]
pub(super) struct Tally {
    zero: Instant,
    accepted: AtomicU64,
    failed: AtomicU64,
    /// When the last write was accepted, since `zero`.
    last_us: AtomicU64,
    gap_us: AtomicU64,
}

impl Tally {
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The longest time without an accepted write since the last call.
    pub(super) fn take_gap(&self) -> Duration {
        Duration::from_micros(self.gap_us.swap(0, Ordering::Relaxed))
    }

    fn accept(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let now_us = self.zero.elapsed().as_micros() as u64;
        let before_us = self.last_us.fetch_max(now_us, Ordering::Relaxed);
        self.gap_us.fetch_max(now_us.saturating_sub(before_us), Ordering::Relaxed);
    }
}

/// Running clients.
#[derive(Debug)]
pub(super) struct Flood {
    pub(super) tally: Arc<Tally>,
    ids: Vec<String>,
    tasks: TaskSet,
}

impl Flood {
    /// Spread over the managers.
    pub(super) async fn start(hosted: &Hosted, clients: usize, prefix: &str) -> Result<Self, Error> {
        let tally = Arc::new(Tally {
            zero: Instant::now(),
            accepted: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_us: AtomicU64::new(0),
            gap_us: AtomicU64::new(0),
        });
        let mut writers = Vec::new();
        for number in 0..clients {
            let client = hosted.cluster.client()?;
            let spec =
                v1::ServiceSpec { name: format!("{prefix}-{number}"), image: "none:1".into(), ..Default::default() };
            let id = client.create_service(spec.clone()).await?.id;
            writers.push(Writer { client, at: number, id, spec, tally: tally.clone() });
        }
        let ids = writers.iter().map(|writer| writer.id.clone()).collect();
        let tasks = TaskSet::new("writers");
        for writer in writers {
            tasks.spawn(writer.run());
        }
        Ok(Self { tally, ids, tasks })
    }

    /// Ends them and removes what they made; how many writes failed.
    pub(super) async fn stop(self, client: &Client) -> Result<u64, Error> {
        self.tasks.stop(STOP_GRACE).await;
        for id in self.ids {
            client.remove_service(&id).await?;
        }
        Ok(self.tally.failed.load(Ordering::Relaxed))
    }
}

struct Writer {
    client: Client,
    at: usize,
    id: String,
    spec: v1::ServiceSpec,
    tally: Arc<Tally>,
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
            let call = |mut control: Control, request| async move { control.update_service(request).await };
            match self.client.once(self.at, request, call).await {
                Ok(_) => self.tally.accept(),
                Err(status) => {
                    self.tally.failed.fetch_add(1, Ordering::Relaxed);
                    if !is_passing(&status) {
                        eprintln!("a write was refused: {}", status.message());
                        return;
                    }
                }
            }
        }
    }
}
