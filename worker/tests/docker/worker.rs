//! The worker's reconciler and inventory on a daemon, told directly what managers would tell it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use goat_core::model::{Inventory, TaskId};
use goat_proto::v1;
use goat_worker::config::Offer;
use goat_worker::disk::Gauge;
use goat_worker::fence::FenceList;
use goat_worker::identity::Identity;
use goat_worker::inventory::{Collector, Health};
use goat_worker::journal::Journal;
use goat_worker::lease::Lease;
use goat_worker::outbox::Outbox;
use goat_worker::reconciler::{self, adopt};
use goat_worker::runtime::docker::DockerRuntime;
use goat_worker::runtime::{Found, LogOptions, Runtime, Runtimes};
use goat_worker::task::Assignment;
use goat_worker::taskset::TaskSet;
use tokio::sync::{mpsc, watch};

use crate::daemon::Daemon;

const SOON: Duration = Duration::from_secs(90);
/// Short, so that tests need not wait for it.
const RUNTIME_DOWN_AFTER: Duration = Duration::from_secs(2);
const NEVER: Duration = Duration::from_secs(3_600);

pub struct Worker {
    pub runtime: Arc<DockerRuntime>,
    pub inventory: watch::Receiver<Inventory>,
    lease: Arc<Lease>,
    reconciler: reconciler::Handle,
    assigned: Vec<v1::Assignment>,
    next: u32,
    tasks: TaskSet,
}

/// What a task is to run.
#[derive(Debug, Clone, Default)]
pub struct Job {
    pub image: String,
    pub args: Vec<String>,
    pub memory_bytes: u64,
    /// `stop` instead of `keep`.
    pub is_leased: bool,
    /// 1 s if `None`.
    pub stop_grace_ms: Option<u64>,
}

impl Job {
    pub fn new(image: &str, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { image: image.into(), args, ..Self::default() }
    }

    /// The same, with a lease.
    pub fn leased(self) -> Self {
        Self { is_leased: true, ..self }
    }

    /// One that runs until it is stopped, and ends at once when it is asked to.
    pub fn endless(image: &str) -> Self {
        Self::new(image, &["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"])
    }
}

impl Worker {
    /// An agent with the data directory `root`, which takes over what an earlier one left there.
    pub async fn start(daemon: &Daemon, root: &Path, pressure_below: u64) -> Self {
        Self::start_with(&daemon.socket(), root, pressure_below, RUNTIME_DOWN_AFTER).await
    }

    /// One that gives nothing up for its daemon's absence.
    pub async fn start_patient(daemon: &Daemon, root: &Path) -> Self {
        Self::start_with(&daemon.socket(), root, 0, NEVER).await
    }

    /// One whose daemon listens there.
    pub async fn start_at(socket: &str, root: &Path) -> Self {
        Self::start_with(socket, root, 0, NEVER).await
    }

    async fn start_with(socket: &str, root: &Path, pressure_below: u64, runtime_down_after: Duration) -> Self {
        let identity = Arc::new(Identity::open(root).expect("a data directory"));
        let runtime = Arc::new(DockerRuntime::new(identity.node_id(), socket, identity.root()));
        let runtimes = Runtimes::new([runtime.clone() as Arc<dyn Runtime>]);
        let (health, health_seen) = watch::channel(Health::default());
        let tasks = TaskSet::new("test");
        let journal = Journal::new(identity.root());
        let (left, forgotten) = (journal.load().expect("a journal"), journal.forgotten().expect("a journal"));
        let found: Option<Vec<Found>> = runtime.list().await.ok();
        let lease = Arc::new(Lease::open(root).expect("opened"));
        let parts = reconciler::Parts {
            node: "w1".into(),
            address: [127, 0, 0, 1].into(),
            identity,
            runtimes: runtimes.clone(),
            journal,
            outbox: Arc::new(Outbox::default()),
            max_concurrent_starts: 4,
            runtime_down_after,
            lease: lease.clone(),
            is_watched: watch::channel(true).1,
            fence: FenceList::open(root).expect("opened"),
            health,
            meters: Arc::default(),
            tasks: tasks.child("tasks"),
        };
        keep(&lease, &tasks);
        let (service, reconciler) = reconciler::Service::new(parts, adopt::adopt(left, found), forgotten);
        let (events, to_reconciler) = mpsc::channel(1_024);
        tasks.spawn("reconciler", service.run(to_reconciler));
        tasks.spawn("watch", {
            let runtime = runtime.clone();
            async move { runtime.watch(events).await }
        });
        let gauge = Gauge::new(Some(pressure_below));
        let mut collector = Collector::new(runtimes, Offer::default(), String::new(), gauge, health_seen, root);
        let (inventory, inventory_seen) = watch::channel(collector.collect().await);
        tasks.spawn("inventory", collector.run(inventory));
        Self { runtime, inventory: inventory_seen, lease, reconciler, assigned: Vec::new(), next: 1, tasks }
    }

    /// Ends as an agent does that is told to stop: containers run on.
    pub async fn stop(self) -> Vec<v1::Assignment> {
        self.tasks.stop(Duration::from_secs(5)).await;
        self.assigned
    }

    /// What an earlier agent was told.
    pub async fn assign_again(&mut self, assigned: Vec<v1::Assignment>) {
        self.next += assigned.len() as u32;
        self.assigned = assigned;
        self.tell().await;
    }

    /// A task of a service of its own; its id.
    pub async fn run(&mut self, job: Job) -> String {
        if job.is_leased {
            // Lasts longer than any test.
            self.lease.granted(goat_worker::clock::boot_ms(), NEVER.as_millis() as u64);
        }
        let id = TaskId::from_random(self.next.into()).to_string();
        self.next += 1;
        self.assigned.push(v1::Assignment {
            task_id: id.clone(),
            service_id: id.clone(),
            service: "web".into(),
            slot: self.next,
            attempt: 1,
            fencing_token: 1,
            spec_version: 1,
            traceparent: String::new(),
            desired: "running".into(),
            spec: Some(v1::ServiceSpec {
                name: "web".into(),
                driver: "docker".into(),
                image: job.image,
                args: job.args,
                replicas: 2,
                on_disconnect: if job.is_leased { "stop" } else { "keep" }.into(),
                stop_grace_ms: Some(job.stop_grace_ms.unwrap_or(1_000)),
                limits: Some(v1::Resources { memory_bytes: job.memory_bytes, ..Default::default() }),
                ..Default::default()
            }),
        });
        self.tell().await;
        id
    }

    /// As when a service was removed and managers have forgotten its task.
    pub async fn drop_task(&mut self, id: &str) {
        self.assigned.retain(|assignment| assignment.task_id != id);
        self.tell().await;
    }

    /// As when managers want the task stopped.
    pub async fn stop_task(&mut self, id: &str) {
        for assignment in self.assigned.iter_mut().filter(|assignment| assignment.task_id == id) {
            assignment.desired = "stopped".into();
        }
        self.tell().await;
    }

    /// Why the task's output cannot be had.
    pub async fn logs_error(&self, id: &str) -> String {
        let wire = self.assigned.iter().find(|assignment| assignment.task_id == id).expect("it was assigned");
        let meta = Assignment::read(wire.clone(), None).expect("it is right").meta;
        let mut output = match self.runtime.logs(&meta, LogOptions::default()).await {
            Ok(output) => output,
            Err(error) => return error.to_string(),
        };
        while let Some(chunk) = output.next().await {
            if let Err(error) = chunk {
                return error.to_string();
            }
        }
        panic!("there is output");
    }

    async fn tell(&self) {
        let assignments = self.assigned.iter().cloned().map(|wire| Assignment::read(wire, None).expect("it is right"));
        self.reconciler.assign_all(assignments.collect()).await.expect("the reconciler runs");
    }

    pub async fn report(&self, id: &str) -> Option<v1::TaskReport> {
        let reports = self.reconciler.snapshot().await.expect("the reconciler runs");
        reports.into_iter().find(|report| report.task_id == id)
    }

    /// Waits until the task is in this state; the report.
    pub async fn until(&self, id: &str, state: &str) -> v1::TaskReport {
        let is_so = async |report: Option<v1::TaskReport>| report.filter(|report| report.state == state);
        eventually(&format!("{id} is {state}"), async || is_so(self.report(id).await).await).await
    }

    /// Runs a task that has to fail; the reason.
    pub async fn fails(&mut self, job: Job) -> String {
        let id = self.run(job).await;
        self.until(&id, "failed").await.reason
    }

    /// Waits until the task is not known any more and its container is gone.
    pub async fn until_gone(&self, id: &str) {
        eventually(&format!("{id} is gone"), async || self.report(id).await.is_none().then_some(())).await;
    }

    /// Waits until the node shows the condition, or until it does not.
    pub async fn until_condition(&mut self, condition: &str, stands: bool) {
        let seen = self.inventory.wait_for(|inventory| inventory.conditions.contains(condition) == stands);
        let seen = tokio::time::timeout(SOON, seen).await;
        seen.unwrap_or_else(|_| panic!("{condition} did not become {stands}")).expect("the collector runs");
    }

    pub fn is_down(&self) -> bool {
        self.inventory.borrow().conditions.contains("runtime-down")
    }
}

fn keep(lease: &Arc<Lease>, tasks: &TaskSet) {
    let lease = lease.clone();
    tasks.spawn("lease", async move { lease.keep().await });
}

/// Asks until there is an answer, which has to come in time.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", SOON.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
