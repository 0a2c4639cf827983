//! The reconciler's loop: owns the table of known tasks, plans after each change, and has the plan carried out.

mod containers;
mod gone;
mod known;
mod outage;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goat_core::lease::STOP_GRACE_MS;
use goat_core::model::{Driver, TaskId, TaskState};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{info, warn};

use super::actor::Actor;
use super::adopt::{Adoption, after_reboot};
use super::goal::Goal;
use super::plan::{self, Action, RejectReason, View};
use super::{Command, Handle};
use crate::clock;
use crate::fence::FenceList;
use crate::identity::Identity;
use crate::inventory::Health;
use crate::journal::Journal;
use crate::lease::{Lease, Validity};
use crate::metrics::Meters;
use crate::outbox::Outbox;
use crate::runtime::{DISK_FULL, Event, Found, Runtime, Runtimes};
use crate::task::{Assignment, Exit, Order, Record, TaskMeta};
use crate::taskset::TaskSet;
use gone::Gone;
use known::{ActorHandle, Known, wanted};

const FIRST_RETRY_MS: u64 = 500;
const MAX_RETRY_MS: u64 = 30_000;

/// What the service works with.
#[derive(Debug)]
pub struct Parts {
    /// This worker's name.
    pub node: String,
    /// Where published ports bind.
    pub address: IpAddr,
    pub identity: Arc<Identity>,
    pub runtimes: Runtimes,
    pub journal: Journal,
    pub outbox: Arc<Outbox>,
    pub max_concurrent_starts: usize,
    /// What has certainly ended is not waited for any longer.
    pub runtime_down_after: Duration,
    pub lease: Arc<Lease>,
    /// Whether a watchdog lives.
    pub is_watched: watch::Receiver<bool>,
    pub fence: FenceList,
    pub health: watch::Sender<Health>,
    pub meters: Arc<Meters>,
    pub tasks: TaskSet,
}

/// The reconciler's loop.
#[derive(Debug)]
pub struct Service {
    parts: Parts,
    drivers: BTreeSet<Driver>,
    starts: Arc<Semaphore>,
    known: BTreeMap<TaskId, Known>,
    assigned: Option<BTreeMap<TaskId, Assignment>>,
    gone: Gone,
    outages: outage::Outages,
    commands: mpsc::Receiver<Command>,
    updates: mpsc::Receiver<Record>,
    tell_updates: mpsc::Sender<Record>,
    forgotten: mpsc::Receiver<TaskId>,
    tell_forgotten: mpsc::Sender<TaskId>,
}

impl Service {
    /// With what was left by an earlier agent, and what it had forgotten. `events` of the runtimes go to [`Service::run`].
    pub fn new(parts: Parts, adoptions: Vec<Adoption>, gone: Vec<TaskId>) -> (Self, Handle) {
        let (commands, to_service) = mpsc::channel(64);
        let (tell_updates, updates) = mpsc::channel(1_024);
        let (tell_forgotten, forgotten) = mpsc::channel(1_024);
        let mut service = Self {
            drivers: parts.runtimes.iter().map(|runtime| runtime.driver()).collect(),
            starts: Arc::new(Semaphore::new(parts.max_concurrent_starts)),
            gone: Gone::new(gone, &parts),
            parts,
            known: BTreeMap::new(),
            assigned: None,
            outages: outage::Outages::default(),
            commands: to_service,
            updates,
            tell_updates,
            forgotten,
            tell_forgotten,
        };
        for adoption in adoptions {
            service.take_over(adoption);
        }
        (service, Handle { commands })
    }

    /// Never ends by itself; dropping it at any await is fine.
    pub async fn run(mut self, mut events: mpsc::Receiver<(Driver, Event)>) {
        let mut lease = self.parts.lease.validity();
        let mut watched = self.parts.is_watched.clone();
        loop {
            let (lease_now, is_watched) = (*lease.borrow_and_update(), *watched.borrow_and_update());
            self.parts
                .health
                .send_if_modified(|health| std::mem::replace(&mut health.is_unwatched, !is_watched) == is_watched);
            self.act(lease_now, is_watched);
            self.parts.meters.tasks(self.known.values().map(|known| known.record.state));
            tokio::select! {
                // What actors tell comes before what runtimes tell: a task's container is known before it is started.
                biased;
                Some(record) = self.updates.recv() => self.update(record),
                Some(task) = self.forgotten.recv() => {
                    self.known.remove(&task);
                    self.gone.add(task);
                }
                Ok(()) = lease.changed() => {
                    let Validity { is_leased, is_sheltered } = *lease.borrow();
                    info!(is_leased, is_sheltered, "the lease changed");
                    if !is_leased {
                        self.parts.meters.lease_expired();
                    }
                }
                Ok(()) = watched.changed() => {}
                Some(command) = self.commands.recv() => self.command(command),
                Some((driver, event)) = events.recv() => self.event(driver, event),
                else => return,
            }
        }
    }

    fn take_over(&mut self, adoption: Adoption) {
        match adoption {
            Adoption::Ended(record) => self.keep(record),
            Adoption::Watch(record) => {
                info!(task_id = %record.meta.task, service = record.meta.service, container_id = record.container_id, "adopted a running task");
                self.spawn_actor(record, None);
            }
            Adoption::End(record, exit) => {
                let task = record.meta.task;
                self.spawn_actor(record, None);
                if let Some(known) = self.known.get(&task) {
                    known.tell_exit(after_reboot(&known.record, exit.unwrap_or_else(Exit::unseen)));
                }
            }
            Adoption::Vanished(record) => {
                let task = record.meta.task;
                self.spawn_actor(record, None);
                if let Some(known) = self.known.get(&task) {
                    known.tell_exit(vanished());
                }
            }
            Adoption::Remove(found) => self.remove_stray(found),
            Adoption::StartedAgain(record, found) => {
                self.keep(record);
                self.end_again(found.meta, found.container_id);
            }
            Adoption::Copy(found) => self.end_copy(found.meta, found.container_id),
        }
    }

    fn keep(&mut self, record: Record) {
        self.known.insert(record.meta.task, Known::new(record, None));
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::All(assignments) => {
                let all = assignments.into_iter().map(|assignment| (assignment.meta.task, assignment)).collect();
                self.assigned = Some(all);
            }
            Command::Change { set, removed } => {
                let assigned = self.assigned.get_or_insert_default();
                for task in removed {
                    assigned.remove(&task);
                }
                assigned.extend(set.into_iter().map(|assignment| (assignment.meta.task, assignment)));
            }
            Command::Snapshot(answer) => {
                let _ = answer.send(self.known.values().map(Known::seen).collect());
            }
            Command::Find(task, answer) => {
                let _ = answer.send(self.known.get(&task).map(|known| known.record.meta.clone()));
            }
        }
    }

    /// An actor's task has come into a new state.
    fn update(&mut self, record: Record) {
        let Some(known) = self.known.get_mut(&record.meta.task) else {
            return;
        };
        info!(
            task_id = %record.meta.task,
            service = record.meta.service,
            state_from = known.record.state.as_str(),
            state_to = record.state.as_str(),
            exit_code = record.exit_code,
            reason = record.reason,
            error = record.error,
            "a task changed its state"
        );
        if record.was_started()
            && let Some(actor) = &mut known.actor
        {
            actor.running_since.get_or_insert_with(Instant::now);
        }
        if record.state.is_terminal() {
            known.actor = None;
            known.ended.get_or_insert_with(Instant::now);
        }
        if record.reason.as_deref() == Some(DISK_FULL) {
            self.parts.health.send_modify(|health| health.disk_full += 1);
        }
        known.record = record;
        self.parts.outbox.push(&known.record);
    }

    fn event(&mut self, driver: Driver, event: Event) {
        match event {
            Event::Up => self.runtime_up(driver),
            Event::Down { problem } => self.runtime_down(driver, &problem),
            Event::ImagesChanged => self.parts.health.send_modify(|health| health.images_version += 1),
            Event::Exited { task, container_id, exit } => self.exited(task, container_id.as_deref(), exit),
            Event::Started { task, container_id } => self.container_started(task, container_id),
            Event::Resync { asked, found } => self.resync(driver, asked, found),
        }
    }

    fn is_wanted(&self, task: TaskId) -> bool {
        self.assigned.as_ref().is_some_and(|assigned| assigned.contains_key(&task))
    }

    fn act(&mut self, lease: Validity, is_watched: bool) {
        let wanted = self.assigned.as_ref().map(|assigned| {
            assigned.iter().map(|(task, assignment)| (*task, wanted(assignment))).collect::<BTreeMap<_, _>>()
        });
        let known = self.known.iter().map(|(task, known)| (*task, known.view())).collect();
        let actions = plan::plan(&View {
            wanted: wanted.as_ref(),
            known: &known,
            drivers: &self.drivers,
            lease,
            is_watched,
            lease_stop_grace_ms: STOP_GRACE_MS,
        });
        for action in actions {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start { task } if self.gone.contains(task) => {
                self.end_unbegun(task, TaskState::Rejected, "ended-here-before", None);
            }
            Action::Start { task } => {
                let Some(assignment) = self.assigned.as_ref().and_then(|assigned| assigned.get(&task)) else {
                    return;
                };
                let Ok(spec) = &assignment.spec else { return };
                let order = Order {
                    meta: assignment.meta.clone(),
                    spec: spec.clone(),
                    cluster: self.parts.identity.cluster_id(),
                    node: self.parts.node.clone(),
                    address: self.parts.address,
                    traceparent: assignment.traceparent.clone(),
                };
                self.spawn_actor(Record::new(order.meta.clone(), clock::now_ms()), Some(order));
            }
            Action::Stop { task, reason, grace_ms } => {
                if let Some(actor) = self.known.get(&task).and_then(|known| known.actor.as_ref()) {
                    actor.goal.send_replace(Goal::Stop { reason, grace_ms });
                }
            }
            Action::Reject { task, reason } => {
                let (reason, error) = match reason {
                    RejectReason::NoRuntime(driver) => {
                        ("no-runtime", format!("the runtime {driver:?} is not enabled on this worker").to_lowercase())
                    }
                    RejectReason::BadSpec(problem) => ("bad-spec", problem),
                };
                self.end_unbegun(task, TaskState::Rejected, reason, Some(error));
            }
            Action::Decline { task } => self.end_unbegun(task, TaskState::Stopped, "stop-requested", None),
            Action::Forget { task } => self.forget(task),
        }
    }

    /// Not journaled: it was never begun, and would be answered in the same way again.
    fn end_unbegun(&mut self, task: TaskId, state: TaskState, reason: &str, error: Option<String>) {
        let Some(assignment) = self.assigned.as_ref().and_then(|assigned| assigned.get(&task)) else {
            return;
        };
        let mut record = Record::new(assignment.meta.clone(), clock::now_ms());
        record.state = state;
        record.reason = Some(reason.to_owned());
        record.error = error;
        self.keep(record.clone());
        self.update(record);
    }

    fn spawn_actor(&mut self, record: Record, order: Option<Order>) {
        let Some(runtime) = self.parts.runtimes.get(record.meta.driver).cloned() else {
            // The agent does not start in this case, and a plan rejects it.
            warn!(task_id = %record.meta.task, "a task's runtime is not enabled");
            return self.keep(record);
        };
        let (goal, exit) = (watch::Sender::new(Goal::Run), watch::Sender::new(None));
        let is_running = record.was_started();
        let actor = Actor {
            record: record.clone(),
            may_run_out_of_memory: order.as_ref().is_none_or(|order| order.spec.limits.memory_bytes > 0),
            order,
            runtime,
            starts: self.starts.clone(),
            journal: self.parts.journal.clone(),
            lease: self.parts.lease.clone(),
            fence: self.parts.fence.clone(),
            meters: self.parts.meters.clone(),
            goal: goal.subscribe(),
            exit: exit.subscribe(),
            updates: self.tell_updates.clone(),
            may_run: false,
        };
        self.parts.tasks.spawn("task", actor.run());
        let running_since = is_running.then(Instant::now);
        let actor = ActorHandle { goal, exit, running_since, paused_since: None };
        self.known.insert(record.meta.task, Known::new(record, Some(actor)));
    }

    fn forget(&mut self, task: TaskId) {
        let Some(known) = self.known.get_mut(&task) else { return };
        known.is_forgetting = true;
        let (meta, journal, forgotten) =
            (known.record.meta.clone(), self.parts.journal.clone(), self.tell_forgotten.clone());
        let Some(runtime) = self.parts.runtimes.get(meta.driver).cloned() else {
            // What it left, if anything, cannot be reached; the journal says so to nobody else.
            self.parts.tasks.spawn("forget", async move {
                let _ = journal.forget(meta.task).await;
                let _ = forgotten.send(meta.task).await;
            });
            return;
        };
        self.parts.tasks.spawn("forget", async move {
            remove(&*runtime, &meta).await;
            // Last: as long as anything is left, it is known that the task has ended.
            if let Err(error) = journal.forget(meta.task).await {
                warn!(task_id = %meta.task, %error, "a task could not be forgotten");
            }
            let _ = forgotten.send(meta.task).await;
        });
    }

    /// A container that is not to run, and in most cases never did.
    fn remove_stray(&self, found: Found) {
        let Some(runtime) = self.parts.runtimes.get(found.meta.driver).cloned() else {
            return;
        };
        info!(task_id = %found.meta.task, container_id = found.container_id, "removing a container that is not to run");
        self.parts.tasks.spawn("remove-stray", async move {
            if let Err(error) = runtime.remove(&found.meta).await {
                warn!(task_id = %found.meta.task, %error, "a container that is not to run could not be removed yet");
            }
        });
    }
}

fn vanished() -> Exit {
    let problem = "its container or process is gone, and was not removed by this worker";
    Exit { failure: Some(("container-lost".into(), problem.into())), ..Exit::unseen() }
}

/// Until it is done: a runtime that does not answer will.
async fn remove(runtime: &dyn Runtime, meta: &TaskMeta) {
    let mut retry_ms = FIRST_RETRY_MS;
    while let Err(error) = runtime.remove(meta).await {
        warn!(task_id = %meta.task, %error, "what is left of a task could not be removed yet");
        tokio::time::sleep(Duration::from_millis(clock::jittered_ms(retry_ms / 2))).await;
        retry_ms = (retry_ms * 2).min(MAX_RETRY_MS);
    }
}
