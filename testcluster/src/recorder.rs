//! Writes to a cluster without pause, remembers what was acknowledged, and checks that all of it is there.
//!
//! Each writer creates services without replicas (`rec-RUN-WRITER-N`) and removes the oldest of its own, so that the
//! state stays small. Writers begin at different managers. A request is repeated under its id until it is answered or its
//! time is up, as goatctl does; what was never answered may be there or not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goat_proto::v1;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Code;

use crate::client::{Client, is_passing, request_id};
use crate::error::Error;
use crate::taskset::TaskSet;

/// Of one attempt; a follower that forwards waits for a new leader meanwhile.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Of a request with all its attempts: as long as goatctl's.
const REQUEST: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(5);
const STOP_GRACE: Duration = Duration::from_secs(15);
/// A writer's services at one time.
const WINDOW: usize = 40;

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

#[derive(Debug)]
struct Book {
    present: BTreeSet<String>,
    removed: BTreeSet<String>,
    acknowledged: u64,
    failed: u64,
    repeated_attempts: u64,
    /// Start of the attempt that was acknowledged, and when.
    acks: Vec<(Instant, Instant)>,
    latency_us: Histogram<u64>,
    violations: Vec<String>,
    failures: Vec<String>,
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
        let book = Book {
            present: BTreeSet::new(),
            removed: BTreeSet::new(),
            acknowledged: 0,
            failed: 0,
            repeated_attempts: 0,
            acks: Vec::new(),
            latency_us: Histogram::new(3).expect("three digits are allowed"),
            violations: Vec::new(),
            failures: Vec::new(),
        };
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
        for name in &present {
            self.client.remove_service(name).await?;
        }
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

#[derive(Debug)]
struct Writer {
    client: Client,
    at: usize,
    /// Its place among the writers, from 0 to 1.
    turn: f64,
    prefix: String,
    pause: Option<Duration>,
    book: Arc<Mutex<Book>>,
    count: Arc<watch::Sender<u64>>,
    stop: watch::Receiver<bool>,
}

impl Writer {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().expect("no panic holds it")
    }

    async fn run(self) {
        let mut own = std::collections::VecDeque::new();
        let (mut next, mut index) = (0_u64, 0);
        // Writers take turns instead of writing all at one moment.
        let mut due = Instant::now() + self.pause.unwrap_or_default().mul_f64(self.turn);
        while !*self.stop.borrow() {
            tokio::time::sleep_until(due).await;
            let name = format!("{}-{next}", self.prefix);
            next += 1;
            if let Some(acknowledged) = self.create(&name).await {
                self.check_order(&name, &mut index, acknowledged);
                own.push_back(name.clone());
                self.book().present.insert(name);
            }
            if own.len() > WINDOW
                && let Some(oldest) = own.pop_front()
            {
                // While it is unknown whether it is removed, nothing can be said of it.
                self.book().present.remove(&oldest);
                if let Some(acknowledged) = self.remove(&oldest).await {
                    self.check_order(&oldest, &mut index, acknowledged);
                    self.book().removed.insert(oldest);
                }
            }
            // What was late is not made up for: that would be a burst, and no rate.
            due = (due + self.pause.unwrap_or_default()).max(Instant::now());
        }
    }

    /// What is acknowledged later took effect later.
    fn check_order(&self, name: &str, last: &mut u64, index: u64) {
        if index <= *last {
            self.book().violations.push(format!("{name} took effect at {index}, after one that took effect at {last}"));
        }
        *last = index;
    }

    async fn create(&self, name: &str) -> Option<u64> {
        let spec = v1::ServiceSpec {
            name: name.to_owned(),
            driver: "process".into(),
            command: vec!["/bin/true".into()],
            replicas: 0,
            ..Default::default()
        };
        let request = v1::CreateServiceRequest { request_id: request_id(), spec: Some(spec) };
        self.repeat(name, request, |mut control, request| async move { control.create_service(request).await }).await
    }

    async fn remove(&self, name: &str) -> Option<u64> {
        let request = v1::RemoveServiceRequest { request_id: request_id(), reference: name.to_owned() };
        self.repeat(name, request, |mut control, request| async move { control.remove_service(request).await }).await
    }

    /// The log index at which it took effect; None where it failed.
    async fn repeat<R, F, Fut>(&self, name: &str, request: R, call: F) -> Option<u64>
    where
        R: Clone,
        F: Fn(crate::client::Control, tonic::Request<R>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<v1::ServiceReply>, tonic::Status>>,
    {
        let started = Instant::now();
        let mut at = self.at;
        loop {
            let attempt = Instant::now();
            let status = match self.client.once(at, request.clone(), &call).await {
                Ok(reply) => {
                    let now = Instant::now();
                    let mut book = self.book();
                    book.acknowledged += 1;
                    book.acks.push((attempt, now));
                    let us = (now - started).as_micros().min(u128::from(u64::MAX)) as u64;
                    book.latency_us.saturating_record(us);
                    self.count.send_replace(book.acknowledged);
                    return Some(reply.index);
                }
                Err(status) => status,
            };
            if !is_passing(&status) || started.elapsed() >= REQUEST {
                self.give_up(name, &status);
                return None;
            }
            self.book().repeated_attempts += 1;
            at += 1;
            tokio::time::sleep(RETRY).await;
        }
    }

    fn give_up(&self, name: &str, status: &tonic::Status) {
        let mut book = self.book();
        book.failed += 1;
        if status.code() == Code::NotFound {
            book.violations.push(format!("{name} was acknowledged, and cannot be removed since it is not there"));
        }
        if book.failures.len() < 5 {
            book.failures.push(format!("{name}: {} ({:?})", status.message(), status.code()));
        }
    }
}
