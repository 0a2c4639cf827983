//! Writes to a cluster without pause, remembers what was acknowledged, and checks that all of it is there.
//!
//! Each writer creates services without replicas (`rec-RUN-WRITER-N`) and removes the oldest of its own, so that the
//! state stays small. Writers begin at different managers. A request is repeated under its id until it is answered or its
//! time is up, as goatctl does; what was never answered may be there or not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::{Client, request_id};
use crate::error::Error;
use crate::taskset::TaskSet;
use crate::writer::{Book, REQUEST, RETRY, Writer};

/// Of one attempt; a follower that forwards waits for a new leader meanwhile.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Services of the recorder that are removed at a time in the end.
const REMOVALS: usize = 16;
const STOP_GRACE: Duration = Duration::from_secs(15);

/// What a recorder has seen.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub acknowledged: u64,
    /// Requests that ended in an error in spite of all attempts.
    pub failed: u64,
    /// Attempts that had to be repeated.
    pub repeated_attempts: u64,
    pub longest_gap_ms: f64,
    pub latency_p50_ms: f64,
    pub latency_p99_ms: f64,
    pub latency_max_ms: f64,
    /// Acknowledged writes that are not there, and acknowledgements out of order. Empty, or the cluster is broken.
    pub violations: Vec<String>,
    /// Why requests failed, the first few.
    pub failures: Vec<String>,
}

/// Running writers.
#[derive(Debug)]
pub struct Recorder {
    book: Arc<Mutex<Book>>,
    /// Acknowledgements so far.
    count: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    tasks: TaskSet,
    client: Client,
}

impl Recorder {
    /// Starts `writers` that make `rate_per_s` writes a second together; zero: as fast as they can.
    pub fn start(client: &Client, writers: usize, rate_per_s: f64) -> Self {
        let book = Book::default();
        let (counter, count) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let counter = Arc::new(counter);
        let book = Arc::new(Mutex::new(book));
        let tasks = TaskSet::new("recorder");
        let run = &request_id()[..6];
        for at in 0..writers {
            let writer = Writer {
                client: client.with_limits(ATTEMPT, REQUEST),
                at,
                turn: at as f64 / writers as f64,
                prefix: format!("rec-{run}-{at}"),
                pause: (rate_per_s > 0.0).then(|| Duration::from_secs_f64(writers as f64 / rate_per_s)),
                book: book.clone(),
                count: counter.clone(),
                stop: stopped.clone(),
            };
            tasks.spawn(writer.run());
        }
        Self { book, count, stop, tasks, client: client.clone() }
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().expect("no panic holds it")
    }

    /// When the first write was acknowledged whose attempt began after `since`; waits for it.
    pub async fn first_after(&self, since: Instant, within: Duration) -> Result<Instant, Error> {
        let mut count = self.count.clone();
        let found = async {
            loop {
                let found = self
                    .book()
                    .acks
                    .iter()
                    .rev()
                    .take_while(|(_, at)| *at >= since)
                    .filter(|(start, _)| *start >= since)
                    .map(|(_, at)| *at)
                    .min();
                if let Some(at) = found {
                    return Some(at);
                }
                if count.changed().await.is_err() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(within, found).await {
            Ok(Some(at)) => Ok(at),
            _ => Err(Error::failed(format!("no write was accepted within {} s", within.as_secs()))),
        }
    }

    /// How many writes were acknowledged since then.
    pub fn accepted_since(&self, since: Instant) -> usize {
        self.book().acks.iter().rev().take_while(|(_, at)| *at >= since).count()
    }

    /// The longest time without an acknowledgement that began after `since`, up to now.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let book = self.book();
        let mut times: Vec<_> = book.acks.iter().map(|(_, at)| *at).filter(|at| *at >= since).collect();
        times.extend([since, Instant::now()]);
        times.sort();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Ends the writers (each finishes its request), reads everything back, and cleans up what they wrote.
    pub async fn finish(self) -> Result<Report, Error> {
        let started = self.book().acks.first().map(|(_, at)| *at);
        let gap = started.map(|since| self.longest_gap(since)).unwrap_or_default();
        self.stop.send_replace(true);
        let deadline = Instant::now() + STOP_GRACE;
        while self.tasks.running() > 0 && Instant::now() < deadline {
            tokio::time::sleep(RETRY).await;
        }
        self.tasks.stop(Duration::from_secs(1)).await;
        self.read_back().await?;
        let present: Vec<_> = self.book().present.iter().cloned().collect();
        let removals = present.iter().map(|name| self.client.remove_service(name));
        futures::stream::iter(removals).buffer_unordered(REMOVALS).try_for_each(|_| async { Ok(()) }).await?;
        let book = self.book();
        let ms = |us: u64| us as f64 / 1e3;
        Ok(Report {
            acknowledged: book.acknowledged,
            failed: book.failed,
            repeated_attempts: book.repeated_attempts,
            longest_gap_ms: gap.as_secs_f64() * 1e3,
            latency_p50_ms: ms(book.latency_us.value_at_quantile(0.5)),
            latency_p99_ms: ms(book.latency_us.value_at_quantile(0.99)),
            latency_max_ms: ms(book.latency_us.max()),
            violations: book.violations.clone(),
            failures: book.failures.clone(),
        })
    }

    /// Ends the writers where they are; nothing is read back.
    pub async fn abandon(self) {
        self.tasks.stop(Duration::from_secs(1)).await;
    }

    async fn read_back(&self) -> Result<(), Error> {
        let services = self.client.services().await?;
        let there: BTreeSet<_> = services.into_iter().filter_map(|service| Some(service.spec?.name)).collect();
        let mut book = self.book();
        let missing: Vec<_> = book.present.difference(&there).cloned().collect();
        let undead: Vec<_> = book.removed.intersection(&there).cloned().collect();
        book.violations.extend(missing.iter().map(|name| format!("{name} was acknowledged and is not there")));
        book.violations
            .extend(undead.iter().map(|name| format!("the removal of {name} was acknowledged and it is there")));
        for name in missing {
            book.present.remove(&name);
        }
        Ok(())
    }
}
