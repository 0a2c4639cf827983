//! Workers' sessions: what workers call, on any manager. Only the leader keeps sessions; the others say who leads, or
//! pass a session on for a worker that cannot reach the leader itself.
//!
//! ```text
//! worker ─► Session ─► desk ─ not leading ─► redirect, or relay
//!                       └ leading ─► session ─┬ hello, reports, inventory ─► propose
//!                                             ├ heartbeats ─► leases ─ quorum confirmed ─► grant
//!                                             └◄ assignments ◄─ router ◄─ change sets
//! ```
//! The desk is opened when this manager begins to lead and closed, with every session on it, before it is told that it
//! no longer does. Must not decide anything about tasks: that is the planner's.

mod book;
mod clones;
mod freezing;
mod heartbeats;
mod hello;
mod introduce;
mod inventory;
mod lease_account;
mod leases;
pub mod limits;
mod logs;
mod node_states;
mod opinions;
mod ordered;
mod propose;
mod relay;
mod router;
mod servers;
mod session;
mod settle;
mod stance;

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::PollNext;
use futures::{Stream, StreamExt, stream};
use goat_core::lease::LeasePolicy;
use goat_core::model::{NodeId, TaskId};
use goat_proto::v1::dispatcher_server::Dispatcher as DispatcherService;
use goat_proto::v1::{self, manager_message, worker_message};
use goat_tls::{Caller, Role};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::duty::Duty;
use crate::metrics::meters::DispatcherMeters;
use crate::quota::{Exceeded, Permit, Quota};
use crate::raft::Group;
use crate::raft::seat::Seat;
use crate::taskset::TaskSet;

pub use logs::LogChunks;
pub use servers::DispatcherServers;

use heartbeats::Heartbeats;
use node_states::Orders;

/// For a worker's first message.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that wait for a slow worker; then its session waits.
const QUEUE: usize = 64;
/// Messages with assignments that wait for a slow worker.
const ASSIGNMENTS: usize = 2;
type ToWorker = mpsc::Sender<Result<v1::ManagerMessage, Status>>;

/// What a session has to look at again.
#[derive(Debug, Default)]
struct Dirty {
    tasks: HashSet<TaskId>,
    /// Changes were missed: all of them.
    all: bool,
}

/// One worker's session, as the others see it.
#[derive(Debug)]
struct Entry {
    /// Grows with each session; the newest of a node counts.
    number: u64,
    node: NodeId,
    to_worker: ToWorker,
    /// Assignments alone, which may be many: everything else is sent before them.
    assignments: ToWorker,
    dirty: Mutex<Dirty>,
    is_dirty: Notify,
    end: CancellationToken,
    /// What its certificate rests on, as it last said.
    stance: Mutex<String>,
    /// The agent's process, and where it is.
    instance: String,
    address: String,
    /// Received in this session.
    heartbeats: watch::Sender<u64>,
}

/// Which agent a session is with, as it says itself.
#[derive(Debug, Clone)]
struct Agent {
    node: NodeId,
    instance: String,
    address: String,
}

impl Entry {
    fn new(number: u64, agent: Agent, to_worker: ToWorker, assignments: ToWorker) -> Self {
        let Agent { node, instance, address } = agent;
        Self {
            number,
            node,
            instance,
            address,
            heartbeats: watch::Sender::new(0),
            to_worker,
            assignments,
            dirty: Mutex::default(),
            is_dirty: Notify::new(),
            end: CancellationToken::new(),
            stance: Mutex::default(),
        }
    }

    fn mark(&self, tasks: impl IntoIterator<Item = TaskId>) {
        self.dirty.lock().tasks.extend(tasks);
        self.is_dirty.notify_one();
    }

    fn mark_all(&self) {
        self.dirty.lock().all = true;
        self.is_dirty.notify_one();
    }
}

/// What there is only while this manager leads.
#[derive(Debug)]
pub struct Active {
    group: Group,
    term: u64,
    policy: LeasePolicy,
    sessions: Mutex<Sessions>,
    /// Counts workers that came.
    arrivals: watch::Sender<u64>,
    heartbeats: Heartbeats,
    /// What the leases' account has decided.
    orders: Orders,
    logs: logs::Broker,
    tasks: TaskSet,
    meters: Arc<DispatcherMeters>,
}

#[derive(Debug, Default)]
struct Sessions {
    last_number: u64,
    by_node: HashMap<NodeId, Arc<Entry>>,
    /// Held by a node's session for as long as it lives, so that two never overlap.
    turns: HashMap<NodeId, Arc<tokio::sync::Mutex<()>>>,
}

impl Active {
    fn message(&self, message: manager_message::Message) -> v1::ManagerMessage {
        v1::ManagerMessage { term: self.term, message: Some(message) }
    }

    fn session_of(&self, node: NodeId) -> Option<Arc<Entry>> {
        self.sessions.lock().by_node.get(&node).cloned()
    }

    fn sessions(&self) -> Vec<Arc<Entry>> {
        self.sessions.lock().by_node.values().cloned().collect()
    }

    fn leads(&self) -> bool {
        self.group.leader().is_some_and(|leader| leader.is_here && leader.term == self.term)
    }
}

/// Where the service finds what the leader has, if this manager leads. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Desk {
    active: Arc<RwLock<Option<Arc<Active>>>>,
    meters: Arc<DispatcherMeters>,
}

impl Desk {
    /// This manager leads `term`: sessions are taken from now on. Everything it starts belongs to `duties`.
    pub fn open(&self, group: Group, term: u64, policy: LeasePolicy, duties: &TaskSet) {
        let active = Arc::new(Active {
            group,
            term,
            policy,
            sessions: Mutex::default(),
            arrivals: watch::Sender::new(0),
            heartbeats: Heartbeats::default(),
            orders: Orders::default(),
            logs: logs::Broker::default(),
            tasks: duties.child("sessions"),
            meters: self.meters.clone(),
        });
        let ((asking, opinions), (decisions, decided)) = (opinions::channel(), node_states::channel());
        duties.spawn_duty(Duty::Opinions, opinions::run(active.clone(), asking));
        duties.spawn_duty(Duty::NodeStates, node_states::run(active.clone(), decisions));
        duties.spawn_duty(Duty::Leases, leases::run(active.clone(), opinions, decided));
        duties.spawn_duty(Duty::Router, router::run(active.clone()));
        *self.active.write() = Some(active);
    }

    /// No session is taken any more; those that are there end, and their workers are told who leads.
    pub async fn close(&self, grace: Duration) {
        let active = self.active.write().take();
        if let Some(active) = active {
            active.tasks.stop(grace).await;
        }
    }

    /// What is counted here.
    pub fn meters(&self) -> &DispatcherMeters {
        &self.meters
    }

    /// How many workers have a session with this manager as leader.
    pub fn sessions(&self) -> usize {
        self.active().map_or(0, |active| active.sessions.lock().by_node.len())
    }

    fn active(&self) -> Option<Arc<Active>> {
        self.active.read().clone()
    }

    /// A task's output, from its worker; this manager has to lead.
    pub async fn logs(&self, node: NodeId, wanted: v1::LogsWanted) -> Result<LogChunks, Status> {
        let active = self.active().ok_or_else(|| Status::unavailable("this manager does not lead any more"))?;
        active.open_logs(node, wanted).await
    }
}

/// Sessions of one worker whose hello has not come yet.
const MAX_UNOPENED: usize = 2;

/// The service.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    seat: Seat,
    desk: Desk,
    /// Relayed sessions end with it.
    stopping: CancellationToken,
    /// Counted by the worker that has the connection; relays are counted where they begin.
    unopened: Quota,
    log_streams: Quota,
}

/// Room for one more request of the worker that has the connection. Managers, and callers in plaintext, are not counted.
fn permit<T>(quota: &Quota, request: &Request<T>, what: &str) -> Result<Option<Permit>, Status> {
    let subject = request.extensions().get::<Caller>().and_then(|caller| caller.subject.clone());
    let Some(subject) = subject.filter(|subject| subject.role == Role::Worker) else { return Ok(None) };
    quota.take(&subject.id).map(Some).map_err(|exceeded| {
        let (Exceeded::Each(limit) | Exceeded::Total(limit)) = exceeded;
        Status::unavailable(format!("{limit} {what} at the same time are open, and more are not allowed"))
    })
}

impl Dispatcher {
    pub fn new(seat: Seat, desk: Desk, stopping: CancellationToken) -> Self {
        let unopened = Quota::new(usize::MAX, MAX_UNOPENED);
        let log_streams = Quota::new(usize::MAX, logs::MAX_STREAMS_PER_NODE);
        Self { seat, desk, stopping, unopened, log_streams }
    }

    fn group(&self) -> Result<Group, Status> {
        self.seat
            .group()
            .filter(Group::has_members)
            .ok_or_else(|| Status::unavailable("this manager has not joined its group yet"))
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<v1::ManagerMessage, Status>> + Send>>;

#[async_trait]
impl DispatcherService for Dispatcher {
    type SessionStream = Messages;

    async fn session(&self, request: Request<Streaming<v1::WorkerMessage>>) -> Result<Response<Messages>, Status> {
        let group = self.group()?;
        let unopened = permit(&self.unopened, &request, "sessions without a hello")?;
        let caller = request.extensions().get::<Caller>().cloned();
        let mut from_worker = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, from_worker.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let Some(worker_message::Message::Hello(hello)) = first.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("a session begins with a hello"));
        };
        drop(unopened);
        hello::check_certificate(caller, &hello)?;
        limits::check_hello(&hello)?;
        let Some(active) = self.desk.active() else {
            return match group.leader().filter(|leader| hello.relay && !leader.is_here) {
                Some(leader) => relay::session(&group, &leader.address, hello, from_worker, &self.stopping).await,
                None => Ok(Response::new(stream::iter([Ok(introduce::redirect(&group))]).boxed())),
            };
        };
        let hello = hello::Hello::read(hello)?;
        active.admit(&hello)?;
        active.refuse_clone(&hello).await?;
        let (to_worker, messages) = mpsc::channel(QUEUE);
        let (assignments, to_assign) = mpsc::channel(ASSIGNMENTS);
        let tasks = active.tasks.clone();
        tasks.spawn("session", session::run(active, hello, from_worker, (to_worker, assignments)));
        // Grants of leases do not wait for assignments.
        let (messages, to_assign) = (ReceiverStream::new(messages), ReceiverStream::new(to_assign));
        let messages = stream::select_with_strategy(messages, to_assign, |(): &mut ()| PollNext::Left);
        // What ends the session has been sent by then, or leadership is what ended it.
        let last = stream::once(async move { Ok(introduce::redirect(&group)) });
        Ok(Response::new(messages.chain(last).boxed()))
    }

    async fn push_logs(
        &self,
        request: Request<Streaming<v1::PushLogsMessage>>,
    ) -> Result<Response<v1::PushLogsReply>, Status> {
        let _permit = permit(&self.log_streams, &request, "log streams")?;
        let Some(active) = self.desk.active() else {
            let group = self.group()?;
            let leader = group.leader().filter(|leader| !leader.is_here);
            let leader = leader.ok_or_else(|| Status::unavailable("this manager does not lead any more"))?;
            return relay::logs(&group, &leader.address, request.into_inner()).await;
        };
        active.receive_logs(request.into_inner()).await?;
        Ok(Response::new(v1::PushLogsReply {}))
    }
}
