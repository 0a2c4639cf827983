//! One writer of a recorder: creates and removes services of its own, and keeps the recorder's book of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goat_proto::v1;
use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Code;

use crate::client::{Client, is_passing, request_id};

/// Of a request with all its attempts: as long as goatctl's.
pub const REQUEST: Duration = Duration::from_secs(10);
pub const RETRY: Duration = Duration::from_millis(5);
/// Longer ones count as this long.
const LATENCY_MOST_US: u64 = 60_000_000;
/// A writer's services at one time.
const WINDOW: usize = 40;

/// What was written, by all writers of a recorder.
#[derive(Debug)]
pub struct Book {
    pub present: BTreeSet<String>,
    pub removed: BTreeSet<String>,
    pub acknowledged: u64,
    pub failed: u64,
    pub repeated_attempts: u64,
    /// Start of the attempt that was acknowledged, and when.
    pub acks: Vec<(Instant, Instant)>,
    pub latency_us: Histogram<u64>,
    pub violations: Vec<String>,
    pub failures: Vec<String>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            present: BTreeSet::new(),
            removed: BTreeSet::new(),
            acknowledged: 0,
            failed: 0,
            repeated_attempts: 0,
            acks: Vec::new(),
            latency_us: Histogram::new_with_max(LATENCY_MOST_US, 3).expect("three digits are allowed"),
            violations: Vec::new(),
            failures: Vec::new(),
        }
    }
}

/// One of them.
#[derive(Debug)]
pub struct Writer {
    pub client: Client,
    pub at: usize,
    /// Its place among the writers, from 0 to 1.
    pub turn: f64,
    pub prefix: String,
    pub pause: Option<Duration>,
    pub book: Arc<Mutex<Book>>,
    pub count: Arc<watch::Sender<u64>>,
    pub stop: watch::Receiver<bool>,
}

impl Writer {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().expect("no panic holds it")
    }

    /// Writes until it is told to stop.
    pub async fn run(self) {
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
