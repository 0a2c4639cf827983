//! A worker's metrics: what is counted while it works ([`Meters`]), and what is looked at when somebody asks.

pub mod names;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goat_core::model::{Driver, Inventory, TaskState};
use goat_observe::Sheet;
use goat_observe::metric::{Show, Tally, long_durations, register};
use goat_observe::process::ThisProcess;
use goat_proto::convert::Word as _;
use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::inventory::{CONDITIONS, Health};
use crate::lease::Lease;
use crate::outbox::Outbox;

/// What is counted. Whoever does the work moves it.
#[derive(Debug)]
pub struct Meters {
    sessions: AtomicU64,
    /// The leader's address while there is a session.
    leader: Mutex<Option<String>>,
    lease_expiries: AtomicU64,
    tasks: Mutex<BTreeMap<TaskState, usize>>,
    starts: Tally<3>,
    start: Histogram,
    pulls: Tally<2>,
    pull: Histogram,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            sessions: AtomicU64::new(0),
            leader: Mutex::default(),
            lease_expiries: AtomicU64::new(0),
            tasks: Mutex::default(),
            starts: Tally::new(["started", "failed", "stopped"]),
            start: long_durations(),
            pulls: Tally::new(["done", "failed"]),
            pull: long_durations(),
        }
    }
}

impl Meters {
    /// A leader has welcomed this worker.
    pub fn session_began(&self, leader: &str) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        *self.leader.lock() = Some(leader.to_owned());
    }

    pub fn session_ended(&self) {
        *self.leader.lock() = None;
    }

    /// The leader's address while there is a session.
    pub fn leader(&self) -> Option<String> {
        self.leader.lock().clone()
    }

    pub fn lease_expired(&self) {
        self.lease_expiries.fetch_add(1, Ordering::Relaxed);
    }

    /// All that are known, each by its state.
    pub fn tasks(&self, states: impl Iterator<Item = TaskState>) {
        let mut tasks = BTreeMap::new();
        states.for_each(|state| *tasks.entry(state).or_default() += 1);
        *self.tasks.lock() = tasks;
    }

    /// A task was brought up, or has ended instead; `state` is then its last.
    pub fn brought_up(&self, state: TaskState, took: Duration) {
        match state {
            TaskState::Stopped => self.starts.add("stopped", 1),
            TaskState::Failed | TaskState::Rejected => self.starts.add("failed", 1),
            _ => {
                self.starts.add("started", 1);
                self.start.observe(took.as_secs_f64());
            }
        }
    }

    pub fn pulled(&self, is_done: bool, took: Duration) {
        self.pulls.add(if is_done { "done" } else { "failed" }, 1);
        self.pull.observe(took.as_secs_f64());
    }
}

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Shown {
    pub meters: Arc<Meters>,
    pub lease: Arc<Lease>,
    pub outbox: Arc<Outbox>,
    pub health: watch::Receiver<Health>,
    pub inventory: watch::Receiver<Inventory>,
    /// That this worker was started with.
    pub runtimes: Vec<Driver>,
}

/// All that a worker shows.
pub fn registry(shown: Shown) -> Registry {
    let mut registry = Registry::default();
    register(&mut registry, shown);
    register(&mut registry, ThisProcess);
    registry
}

impl Show for Shown {
    fn show(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let meters = &self.meters;
        sheet.each(&names::BUILD, [(["goat-worker", env!("CARGO_PKG_VERSION")], true)])?;
        sheet.one(&names::SESSION_UP, meters.leader.lock().is_some())?;
        sheet.one(&names::SESSIONS, meters.sessions.load(Ordering::Relaxed))?;
        sheet.one(&names::LEASE_REMAINING, self.lease.remaining_ms() as f64 / 1_000.0)?;
        sheet.one(&names::LEASE_EXPIRIES, meters.lease_expiries.load(Ordering::Relaxed))?;
        sheet.one(&names::UNACKED_REPORTS, self.outbox.unacked())?;
        let tasks = meters.tasks.lock().clone();
        let of_state = |state: &TaskState| ([state.word()], tasks.get(state).copied().unwrap_or(0));
        sheet.each(&names::TASKS, TaskState::ALL.iter().map(of_state))?;
        sheet.each(&names::STARTS, meters.starts.rows())?;
        sheet.spread(&names::START_SECONDS, &meters.start)?;
        sheet.each(&names::PULLS, meters.pulls.rows())?;
        sheet.spread(&names::PULL_SECONDS, &meters.pull)?;

        let health = self.health.borrow().clone();
        let up = self.runtimes.iter().map(|driver| ([driver.word()], !health.down.contains(driver)));
        sheet.each(&names::RUNTIME_UP, up)?;
        sheet.one(&names::WATCHDOG_UP, !health.is_unwatched)?;
        let inventory = self.inventory.borrow().clone();
        let stands = |word: &str| inventory.conditions.contains(word);
        sheet.each(&names::CONDITION, CONDITIONS.map(|condition| ([condition], stands(condition))))?;
        sheet.one(&names::DISK_FREE, inventory.disk_free_bytes)?;
        sheet.one(&names::IMAGES, inventory.images.len())
    }
}
