//! One worker's session at the leader.
//!
//! ```text
//! hello ─► turn (the older session has ended) ─► RegisterNode, ReportTasks ─► Welcome, Assignments ─► serve
//! serve: read ─ heartbeats ─► leases              until the worker, a newer session, the node's going down or the end
//!         └──── reports, inventory ─► propose ─► ack                                        of leadership ends it
//!        dirty tasks ─► AssignmentChanges
//! ```
//! Nothing read from an older session of a node takes effect after a newer one has begun: the newer waits for the
//! older's end, and what the older had proposed by then is before it in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use goat_core::state::command::{Action, Answer, Outcome, Reported, TaskReport, divided};
use goat_proto::v1::{self, manager_message, worker_message};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::book::Book;
use super::heartbeats::Heartbeat;
use super::hello::{Hello, refused};
use super::{Active, Agent, Dirty, Entry, ToWorker, inventory, limits, settle};
use crate::raft::proposer::Error as ProposeError;

/// Batches of reports that wait to be proposed; then the reading waits, and with it the heartbeats. Four are usual at most.
const WRITES: usize = 8;

impl Active {
    fn begin(
        &self,
        agent: Agent,
        to_worker: ToWorker,
        assignments: ToWorker,
    ) -> (Arc<Entry>, Arc<tokio::sync::Mutex<()>>) {
        let node = agent.node;
        let mut sessions = self.sessions.lock();
        sessions.last_number += 1;
        let entry = Arc::new(Entry::new(sessions.last_number, agent, to_worker, assignments));
        if let Some(older) = sessions.by_node.insert(node, entry.clone()) {
            older.end.cancel();
        }
        (entry, sessions.turns.entry(node).or_default().clone())
    }

    fn ended(&self, entry: &Entry) {
        let mut sessions = self.sessions.lock();
        if sessions.by_node.get(&entry.node).is_some_and(|now| now.number == entry.number) {
            sessions.by_node.remove(&entry.node);
            sessions.turns.remove(&entry.node);
        }
    }
}

/// The session's whole life. Ends early when the agent's connection, a newer session or the end of leadership ends it.
pub(super) async fn run(
    active: Arc<Active>,
    hello: Hello,
    from_worker: Streaming<v1::WorkerMessage>,
    (to_worker, assignments): (ToWorker, ToWorker),
) {
    let agent = Agent { node: hello.node, instance: hello.instance.clone(), address: hello.address.clone() };
    let (entry, turn) = active.begin(agent, to_worker, assignments);
    let name = hello.name.clone();
    let session = Session {
        active: &active,
        entry: &entry,
        has_warned: AtomicBool::new(false),
        is_chunked: hello.is_chunked,
        inventory: inventory::Newest::new(hello.inventory.clone()),
    };
    let end = tokio::select! {
        end = session.live(hello, from_worker, turn) => end,
        () = entry.end.cancelled() => End::Replaced,
    };
    active.ended(&entry);
    match end {
        End::Refused(status) => {
            warn!(node_id = %entry.node, name, error = status.message(), "a worker was refused");
            let _ = entry.to_worker.try_send(Err(status));
        }
        End::Lost(problem) => info!(node_id = %entry.node, name, error = problem, "a worker's session ended"),
        End::Replaced => {
            info!(node_id = %entry.node, name, "a worker's session was ended for a newer one, or with its node")
        }
    }
}

pub(super) enum End {
    Refused(Status),
    Lost(String),
    Replaced,
}

impl From<ProposeError> for End {
    fn from(error: ProposeError) -> Self {
        Self::Lost(error.to_string())
    }
}

/// Reports to propose, in the order in which they came.
struct Write {
    sequence: u64,
    reports: Vec<TaskReport>,
}

pub(super) struct Session<'a> {
    pub(super) active: &'a Arc<Active>,
    pub(super) entry: &'a Arc<Entry>,
    has_warned: AtomicBool,
    /// The worker puts full sets of assignments together from several messages.
    is_chunked: bool,
    pub(super) inventory: inventory::Newest,
}

impl Session<'_> {
    async fn live(
        &self,
        hello: Hello,
        from_worker: Streaming<v1::WorkerMessage>,
        turn: Arc<tokio::sync::Mutex<()>>,
    ) -> End {
        let _turn = turn.lock().await;
        let name = hello.name.clone();
        if hello.awaits_registration
            && let Err(end) = self.announce_registration().await
        {
            return end;
        }
        if let Err(end) = self.register(hello).await {
            return end;
        }
        info!(node_id = %self.entry.node, name, "a worker's session began");
        self.active.arrivals.send_modify(|count| *count += 1);
        self.active.meters.sessions_begun.add(1);
        let (writes, to_write) = mpsc::channel(WRITES);
        tokio::select! {
            end = self.read(from_worker, writes) => end,
            end = self.write(to_write) => end,
            end = self.update_inventory() => end,
            end = self.assign() => end,
            end = self.introduce() => end,
            end = self.tell_managers() => end,
            end = self.tell_stance() => end,
        }
    }

    /// Tells the worker that it has found the leader, once a majority has confirmed that. Else it looks for another one.
    async fn announce_registration(&self) -> Result<(), End> {
        self.active.group.confirm_leadership().await?;
        self.send(manager_message::Message::Registering(v1::Registering {})).await
    }

    pub(super) async fn send(&self, message: manager_message::Message) -> Result<(), End> {
        let message = self.active.message(message);
        self.entry.to_worker.send(Ok(message)).await.map_err(|_| End::Lost("the worker closed it".into()))
    }

    async fn register(&self, hello: Hello) -> Result<(), End> {
        let node = hello.node;
        let known = settle::known(&hello);
        let register = Action::RegisterNode {
            node,
            running: hello.running(),
            name: hello.name,
            address: hello.address,
            labels: hello.labels,
            inventory: hello.inventory,
        };
        if let Outcome::Refused(refusal) = self.active.propose_to_the_end(register).await?.outcome {
            return Err(End::Refused(refused(&refusal)));
        }
        if !hello.tasks.is_empty() {
            // It cannot know what was forgotten while it was away.
            self.report(hello.tasks, |counts| counts.untrue()).await?;
        }
        self.active.take_stock(node, known).await?;
        let cluster = self.active.group.cluster().to_string();
        let policy = &self.active.policy;
        self.send(manager_message::Message::Welcome(v1::Welcome {
            cluster_id: cluster,
            heartbeat_interval_ms: policy.heartbeat_ms as u32,
            lease_ttl_ms: policy.lease_ttl_ms as u32,
            managers: self.active.group.addresses(),
        }))
        .await
    }

    /// Proposes what the worker says of its tasks. That some of it is strange is told once in a session.
    async fn report(&self, reports: Vec<TaskReport>, strange: fn(&Reported) -> u32) -> Result<(), End> {
        self.active.meters.reports.add(reports.len());
        for reports in divided(reports) {
            let accepted =
                self.active.propose_to_the_end(Action::ReportTasks { node: self.entry.node, reports }).await?;
            if let Outcome::Done(Answer::Reported(counts)) = accepted.outcome
                && strange(&counts) > 0
                && !self.has_warned.swap(true, Ordering::Relaxed)
            {
                let Reported { foreign, backwards, absurd, unknown, .. } = counts;
                warn!(node_id = %self.entry.node, foreign, backwards, absurd, unknown, "reports of a worker cannot be true and were left out");
            }
        }
        Ok(())
    }

    /// One too many is lost as on a bad network: the next one renews.
    fn take_heartbeat(&self, v1::Heartbeat { sequence, stance, lease_sequence }: v1::Heartbeat) {
        let entry = self.entry.clone();
        *entry.stance.lock() = stance;
        entry.heartbeats.send_modify(|count| *count += 1);
        // A heartbeat that still waits for its grant is of no use next to a newer one.
        if self.active.heartbeats.put(Heartbeat { entry, sequence, lease_sequence }) {
            self.active.meters.heartbeats_dropped.add(1);
        }
    }

    async fn read(&self, mut from_worker: Streaming<v1::WorkerMessage>, writes: mpsc::Sender<Write>) -> End {
        loop {
            let message = match from_worker.message().await {
                Ok(Some(message)) => message.message,
                Ok(None) => return End::Lost("the worker ended it".into()),
                Err(status) => return End::Lost(status.message().to_owned()),
            };
            if let Some(status) = message.as_ref().and_then(|message| limits::check_message(message).err()) {
                return End::Refused(status);
            }
            let write = match message {
                Some(worker_message::Message::Heartbeat(heartbeat)) => {
                    self.take_heartbeat(heartbeat);
                    continue;
                }
                Some(worker_message::Message::Reports(batch)) => {
                    let reports = batch.reports.into_iter().map(TaskReport::try_from).collect::<Result<_, _>>();
                    match reports {
                        Ok(reports) => Write { sequence: batch.sequence, reports },
                        Err(error) => return End::Refused(error.into()),
                    }
                }
                Some(worker_message::Message::Inventory(wire)) => match limits::inventory(wire) {
                    Ok(inventory) => {
                        self.inventory.set(inventory);
                        continue;
                    }
                    Err(status) => return End::Refused(status),
                },
                Some(worker_message::Message::Hello(_)) => {
                    return End::Refused(Status::invalid_argument("a second hello in one session"));
                }
                // Of a newer worker.
                None => continue,
            };
            if writes.send(write).await.is_err() {
                return End::Lost("nothing is written any more".into());
            }
        }
    }

    /// Proposes what the worker reports. Reports that came while a proposal was under way are proposed together.
    async fn write(&self, mut writes: mpsc::Receiver<Write>) -> End {
        while let Some(first) = writes.recv().await {
            let (mut all, mut sequence) = (first.reports, first.sequence);
            while let Ok(write) = writes.try_recv() {
                all.extend(write.reports);
                sequence = write.sequence;
            }
            let written = async {
                self.report(all, |counts| counts.untrue() + counts.unknown).await?;
                self.send(manager_message::Message::Ack(v1::ReportsAck { sequence })).await
            };
            if let Err(end) = written.await {
                return end;
            }
        }
        End::Lost("the worker ended it".into())
    }

    /// The full set, and then what changes of it.
    async fn assign(&self) -> End {
        let mut book = Book::new(self.entry.node, self.is_chunked);
        self.entry.mark_all();
        loop {
            self.entry.is_dirty.notified().await;
            let Dirty { tasks, all } = std::mem::take(&mut *self.entry.dirty.lock());
            let mut batch = {
                let state = self.active.group.view().read();
                let traced = self.active.group.traced();
                if all { book.full(&state, traced) } else { book.changes(&state, tasks, traced) }
            };
            loop {
                let message = match book.next_message(&mut batch) {
                    Ok(Some(message)) => self.active.message(message),
                    Ok(None) => break,
                    Err(error) => return End::Refused(Status::resource_exhausted(error.to_string())),
                };
                if self.entry.assignments.send(Ok(message)).await.is_err() {
                    return End::Lost("the worker closed it".into());
                }
            }
        }
    }
}
