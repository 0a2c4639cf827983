//! The machines of workers: what runs on them, whatever becomes of their agents. As a runtime for agents, and with an eye on
//! what must never be: two live instances of a slot that may have one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goat_core::model::{Driver, ImageInfo, OnDisconnect, ServiceId, ServiceSpec, TaskId};
use goat_worker::clock;
use goat_worker::runtime::{
    Access, Created, Error, Event, Found, FoundState, LogOptions, LogStream, Ran, Runtime, Started,
};
use goat_worker::task::{Exit, Order, TaskMeta};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::sync::mpsc;

use crate::kernel::HostId;
use crate::trace::Trace;
use crate::witness::Witness;

/// 128 and SIGTERM, and SIGKILL.
const TERMINATED: i32 = 143;
const KILLED: i32 = 137;
/// From asking to running, at most (ms).
const WORK_MS: u64 = 40;

#[derive(Debug, Clone)]
struct Container {
    meta: TaskMeta,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Created,
    Running { started_at_ms: u64 },
    Ended(Exit),
}

impl Container {
    const fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    fn found(&self) -> Found {
        let state = match &self.state {
            State::Created => FoundState::Created,
            State::Running { started_at_ms } => FoundState::Running { started_at_ms: *started_at_ms, is_paused: false },
            State::Ended(exit) => FoundState::Ended(Some(exit.clone())),
        };
        Found { meta: self.meta.clone(), container_id: id_of(&self.meta), state }
    }
}

fn id_of(meta: &TaskMeta) -> String {
    format!("sim-{}", meta.task)
}

#[derive(Debug, Default)]
struct Yard {
    containers: BTreeMap<(HostId, TaskId), Container>,
    listeners: BTreeMap<HostId, mpsc::Sender<(Driver, Event)>>,
    /// How many were started so far.
    started: u64,
}

/// All machines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Machines {
    yard: Arc<Mutex<Yard>>,
    witness: Witness,
    trace: Trace,
}

impl Machines {
    pub fn new(witness: Witness, trace: Trace) -> Self {
        Self { yard: Arc::default(), witness, trace }
    }

    /// As an agent's runtime.
    pub fn runtime(&self, host: HostId) -> Arc<dyn Runtime> {
        Arc::new(Local { machines: self.clone(), host })
    }

    /// What runs: service, slot, where.
    pub fn running(&self) -> Vec<(ServiceId, u32, HostId)> {
        let yard = self.yard.lock();
        let running = yard.containers.iter().filter(|(_, container)| container.is_running());
        running.map(|((host, _), container)| (container.meta.service_id, container.meta.slot, *host)).collect()
    }

    pub fn started(&self) -> u64 {
        self.yard.lock().started
    }

    /// The machine has lost its power: nothing runs there any more, and nothing is left of what ran.
    pub fn lose_power(&self, host: HostId) {
        let mut yard = self.yard.lock();
        yard.containers.retain(|(at, _), _| *at != host);
        yard.listeners.remove(&host);
    }

    /// Kills what runs of a task: the watchdog does.
    pub fn kill(&self, host: HostId, task: TaskId) -> bool {
        self.end(host, task, KILLED)
    }

    /// One of those that run on a machine ends by itself.
    pub fn crash_one(&self, host: HostId, choice: usize) {
        let running: Vec<TaskId> = {
            let yard = self.yard.lock();
            let here = yard.containers.iter().filter(|((at, _), container)| *at == host && container.is_running());
            here.map(|((_, task), _)| *task).collect()
        };
        if let Some(task) = running.get(choice % running.len().max(1)) {
            self.end(host, *task, 1);
        }
    }

    fn end(&self, host: HostId, task: TaskId, code: i32) -> bool {
        let now = self.trace.now();
        let mut yard = self.yard.lock();
        let Some(container) = yard.containers.get_mut(&(host, task)).filter(|container| container.is_running()) else {
            return false;
        };
        self.trace.event(now, format_args!("host {host} task {task} ends with {code}"));
        let exit = Exit { code: Some(code), at_ms: clock::now_ms(), ..Exit::default() };
        container.state = State::Ended(exit.clone());
        if let Some(listener) = yard.listeners.get(&host) {
            // One that is full is told by the next listing.
            let _ = listener.try_send((Driver::Process, Event::Exited { task, container_id: None, exit }));
        }
        true
    }

    fn start(&self, host: HostId, order: &Order) -> Result<Started, Error> {
        let mut yard = self.yard.lock();
        let meta = &order.meta;
        let others = yard.containers.iter().filter(|((_, task), other)| {
            other.is_running()
                && *task != meta.task
                && other.meta.service_id == meta.service_id
                && other.meta.slot == meta.slot
        });
        let twice: Vec<HostId> = others
            .filter(|(_, other)| {
                meta.on_disconnect == OnDisconnect::Stop && other.meta.on_disconnect == OnDisconnect::Stop
            })
            .map(|((at, _), _)| *at)
            .collect();
        if !twice.is_empty() {
            self.witness.violation(format!(
                "task {} of {}.{} starts on host {host} while another instance lives on {twice:?}",
                meta.task, meta.service, meta.slot
            ));
        }
        let Some(container) = yard.containers.get_mut(&(host, meta.task)) else {
            return Err(Error::failed("gone", "it was removed before it was started"));
        };
        let started_at_ms = match &container.state {
            State::Running { started_at_ms } => *started_at_ms,
            _ => clock::now_ms(),
        };
        container.state = State::Running { started_at_ms };
        yard.started += 1;
        let now = self.trace.now();
        self.trace.event(
            now,
            format_args!(
                "host {host} task {} of {}.{} runs, {:?}",
                meta.task, meta.service, meta.slot, meta.on_disconnect
            ),
        );
        Ok(Started { container_id: id_of(meta), started_at_ms })
    }
}

/// One machine, as its agent sees it.
#[derive(Debug)]
struct Local {
    machines: Machines,
    host: HostId,
}

impl Local {
    async fn work(&self) {
        let takes_ms = rand::rng().random_range(1..=WORK_MS);
        tokio::time::sleep(Duration::from_millis(takes_ms)).await;
    }

    fn get(&self, task: TaskId) -> Option<Container> {
        self.machines.yard.lock().containers.get(&(self.host, task)).cloned()
    }
}

#[async_trait::async_trait]
impl Access for Local {
    async fn address_of(&self, _: &TaskMeta) -> Result<IpAddr, Error> {
        Err(Error::Unsupported { problem: "simulated tasks have no ports".into() })
    }

    async fn exec(&self, _: &TaskMeta, _: &[String], _: Duration) -> Result<Ran, Error> {
        Err(Error::Unsupported { problem: "simulated tasks run no commands".into() })
    }
}

#[async_trait::async_trait]
impl Runtime for Local {
    fn driver(&self) -> Driver {
        Driver::Process
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn prepare(&self, _: &ServiceSpec) -> Result<(), Error> {
        Ok(())
    }

    async fn create(&self, order: &Order) -> Result<Created, Error> {
        self.work().await;
        let mut yard = self.machines.yard.lock();
        let container = yard
            .containers
            .entry((self.host, order.meta.task))
            .or_insert_with(|| Container { meta: order.meta.clone(), state: State::Created });
        Ok(match &container.state {
            State::Created => Created::Fresh { handle: id_of(&order.meta) },
            State::Running { started_at_ms } => {
                Created::Running(Started { container_id: id_of(&order.meta), started_at_ms: *started_at_ms })
            }
            State::Ended(exit) => Created::Ended { container_id: id_of(&order.meta), exit: exit.clone() },
        })
    }

    async fn start(&self, order: &Order, _: &str) -> Result<Started, Error> {
        self.machines.start(self.host, order)
    }

    async fn stop(&self, meta: &TaskMeta, grace: Duration) -> Result<Option<Exit>, Error> {
        let Some(container) = self.get(meta.task) else { return Ok(None) };
        if container.is_running() {
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
            // Some end at once, some have to be killed.
            let takes_ms = rand::rng().random_range(0..=grace_ms.min(2_000));
            tokio::time::sleep(Duration::from_millis(takes_ms)).await;
            self.machines.end(self.host, meta.task, if takes_ms == grace_ms { KILLED } else { TERMINATED });
        }
        Ok(self.get(meta.task).map(|container| match container.state {
            State::Ended(exit) => exit,
            State::Created | State::Running { .. } => Exit::unseen(),
        }))
    }

    async fn remove(&self, meta: &TaskMeta) -> Result<(), Error> {
        self.machines.end(self.host, meta.task, KILLED);
        self.machines.yard.lock().containers.remove(&(self.host, meta.task));
        Ok(())
    }

    async fn inspect(&self, meta: &TaskMeta) -> Result<Option<Found>, Error> {
        Ok(self.get(meta.task).map(|container| container.found()))
    }

    async fn list(&self) -> Result<Vec<Found>, Error> {
        let yard = self.machines.yard.lock();
        let here = yard.containers.iter().filter(|((at, _), _)| *at == self.host);
        Ok(here.map(|(_, container)| container.found()).collect())
    }

    async fn logs(&self, _: &TaskMeta, _: LogOptions) -> Result<LogStream, Error> {
        Err(Error::Unsupported { problem: "simulated tasks say nothing".into() })
    }

    async fn watch(&self, events: mpsc::Sender<(Driver, Event)>) {
        self.machines.yard.lock().listeners.insert(self.host, events.clone());
        let asked = Instant::now();
        let found = self.list().await.unwrap_or_default();
        for event in [Event::Up, Event::Resync { asked, found }] {
            if events.send((Driver::Process, event)).await.is_err() {
                return;
            }
        }
        events.closed().await;
    }

    async fn images(&self) -> Result<Vec<ImageInfo>, Error> {
        Ok(Vec::new())
    }

    async fn disk_root(&self) -> Result<PathBuf, Error> {
        Ok(PathBuf::from("/"))
    }
}
