//! One manager asked: from the first packet to its welcome, its redirect or its refusal.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use goat_core::model::TaskId;
use goat_proto::v1::dispatcher_client::DispatcherClient;
use goat_proto::v1::{self, manager_message, worker_message};
use goat_proto::{MAX_MESSAGE_BYTES, convert};
use goat_tls::connect::cause;
use goat_tls::{Connector, Role};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tracing::info;

use super::{Opened, Parts};
use crate::identity;
use crate::reconciler::{Gone, Seen};
use crate::runtime::{FoundState, Runtimes};

/// From the first packet to the leader's welcome: with connecting, confirming and two commits, about ten round trips of up to
/// 300 ms and eight fsyncs of up to 200 ms.
const OPEN: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(3);
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// For a runtime to say what runs. Longer than a listing takes on a busy machine.
const LOOK: Duration = Duration::from_secs(2);
/// Error texts of all tasks in one hello.
const MAX_ERRORS_BYTES: usize = 2 << 20;
/// Of which each task keeps so much.
const MIN_ERROR_BYTES: usize = 32;
/// Messages that wait to be sent.
const QUEUE: usize = 64;

/// This process, as managers know it.
static INSTANCE: LazyLock<String> = LazyLock::new(|| format!("{:016x}", rand::random::<u64>()));

/// A manager did not welcome this worker.
pub(super) enum Refusal {
    Redirect(v1::Redirect),
    /// It answers, and knows no leader.
    NoLeader,
    Unreachable(String),
    /// This node was removed from the cluster.
    Removed,
    /// It will not have this worker.
    Refused(String),
    Stopping,
}

/// Who answered, and what.
pub(super) struct Answer {
    pub from: String,
    pub result: Result<Opened, Refusal>,
}

/// Opens a session with one manager, or through it with the leader, up to the first answer. `registering` counts the
/// leaders that are registering this worker.
pub(super) async fn ask(address: String, is_relayed: bool, registering: &AtomicU32, parts: &Parts) -> Answer {
    let opening = open(address.clone(), is_relayed, registering, parts);
    let result = match tokio::time::timeout(OPEN, opening).await {
        Ok(answer) => answer,
        Err(_) => Err(Refusal::Unreachable(format!("{address}: no answer within {} s", OPEN.as_secs()))),
    };
    Answer { from: address, result }
}

/// While it lives, a leader is registering this worker.
struct Registering<'a>(&'a AtomicU32);

impl<'a> Registering<'a> {
    fn begin(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Registering<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection with a manager.
pub(super) async fn connect(address: &str, parts: &Parts) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("{address}: {error}"))?
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let connector = Connector::new(parts.transport.clone(), Role::Manager, parts.bind_source, CONNECT);
    endpoint.connect_with_connector(connector).await.map_err(|error| cause(address, &error))
}

async fn open(address: String, is_relayed: bool, registering: &AtomicU32, parts: &Parts) -> Result<Opened, Refusal> {
    let unreachable = |problem: String| Refusal::Unreachable(format!("{address}: {problem}"));
    let channel = connect(&address, parts).await.map_err(Refusal::Unreachable)?;
    let (to_leader, messages) = mpsc::channel(QUEUE);
    let hello = v1::WorkerMessage { message: Some(worker_message::Message::Hello(hello(is_relayed, parts).await?)) };
    let _ = to_leader.try_send(hello);
    let mut client = DispatcherClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let response = client.session(ReceiverStream::new(messages)).await.map_err(|status| refusal(&address, &status))?;
    let mut from_leader = response.into_inner();
    let mut registration = None;
    let first = loop {
        let message = from_leader.message().await.map_err(|status| refusal(&address, &status))?;
        let message = message.ok_or_else(|| unreachable("it ended the session at once".into()))?;
        match message.message {
            Some(manager_message::Message::Registering(_)) => registration = Some(Registering::begin(registering)),
            _ => break message,
        }
    };
    drop(registration);
    let term = first.term;
    match first.message {
        Some(manager_message::Message::Redirect(redirect)) => Err(Refusal::Redirect(redirect)),
        Some(manager_message::Message::Welcome(welcome)) => {
            accept(&address, parts, term, &welcome)?;
            if is_relayed {
                info!(address, "the leader is reached through another manager");
            }
            Ok(Opened {
                address,
                to_leader,
                from_leader,
                term,
                heartbeat_interval: Duration::from_millis(u64::from(welcome.heartbeat_interval_ms.max(1))),
                lease_ttl_ms: u64::from(welcome.lease_ttl_ms),
            })
        }
        _ => Err(unreachable("its first message is neither a welcome nor a redirect".into())),
    }
}

/// Whether this worker may work for it: the right cluster, and no leader of the past.
fn accept(address: &str, parts: &Parts, term: u64, welcome: &v1::Welcome) -> Result<(), Refusal> {
    let identity = &parts.identity;
    let refused = |problem: String| Refusal::Refused(format!("{address}: {problem}"));
    let cluster = convert::parse("cluster_id", &welcome.cluster_id).map_err(|error| refused(error.to_string()))?;
    identity.join(cluster).map_err(|error| refused(error.to_string()))?;
    match identity.accept_term(term) {
        Ok(true) => {}
        Ok(false) => return Err(Refusal::NoLeader),
        Err(error @ identity::Error::File(_)) => return Err(refused(error.to_string())),
        Err(error) => return Err(refused(error.to_string())),
    }
    parts.learn_managers(welcome.managers.clone());
    Ok(())
}

async fn hello(is_relayed: bool, parts: &Parts) -> Result<v1::Hello, Refusal> {
    let known = parts.reconciler.seen().await.map_err(|Gone| Refusal::Stopping)?;
    // Without a lease it may have been given up, and what it then claims may be taken back for what has begun elsewhere.
    let may_be_given_up = !parts.lease.validity().borrow().is_leased;
    let running = if may_be_given_up { Some(found_running(&parts.runtimes).await) } else { None };
    let runs_on = |seen: &Seen| {
        let is_found = running.as_ref().is_none_or(|running| running.contains(&seen.record.meta.task));
        !seen.is_stopping && is_found
    };
    let stopping = known.iter().filter(|seen| !runs_on(seen)).map(|seen| seen.record.meta.task.to_string());
    let inventory = (&*parts.inventory.borrow()).into();
    let mut tasks: Vec<v1::TaskReport> = known.iter().map(|seen| seen.record.report()).collect();
    shorten(&mut tasks);
    Ok(v1::Hello {
        node_id: parts.identity.node_id().to_string(),
        name: parts.name.clone(),
        address: parts.address.to_string(),
        labels: parts.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        inventory: Some(inventory),
        stopping: stopping.collect(),
        tasks,
        origins: known.iter().map(|seen| seen.record.origin()).collect(),
        cluster_id: parts.identity.cluster_id().map(|id| id.to_string()).unwrap_or_default(),
        term: parts.identity.term(),
        relay: is_relayed,
        awaits_registration: true,
        chunked_assignments: true,
        instance_id: INSTANCE.clone(),
    })
}

/// Cuts error texts if all of them together would make the hello too large for one message. The whole texts of what managers
/// do not know yet follow with the reports.
fn shorten(tasks: &mut [v1::TaskReport]) {
    let bytes: usize = tasks.iter().map(|task| task.error.len()).sum();
    if bytes > MAX_ERRORS_BYTES {
        let most = (MAX_ERRORS_BYTES / tasks.len()).max(MIN_ERROR_BYTES);
        for task in tasks {
            task.error = convert::cut(std::mem::take(&mut task.error), most);
        }
    }
}

/// What runs by the word of its runtime. One that does not answer in time has none: an agent that was just started, or stood
/// still, may know only what was.
async fn found_running(runtimes: &Runtimes) -> BTreeSet<TaskId> {
    let listings = runtimes.iter().map(|runtime| tokio::time::timeout(LOOK, runtime.list()));
    let found = futures::future::join_all(listings).await.into_iter().flatten().flatten().flatten();
    let running = found.filter(|found| matches!(found.state, FoundState::Running { .. }));
    running.map(|found| found.meta.task).collect()
}

fn refusal(address: &str, status: &tonic::Status) -> Refusal {
    let problem = format!("{address}: {}", status.message());
    if status.metadata().contains_key(goat_proto::REMOVED) {
        return Refusal::Removed;
    }
    match status.code() {
        Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::AlreadyExists
        | Code::OutOfRange
        // Something that this worker says of itself is over a limit.
        | Code::ResourceExhausted
        | Code::Unimplemented => Refusal::Refused(problem),
        // Told by the manager, as opposed to by the transport, which has a source.
        Code::Unavailable if std::error::Error::source(status).is_none() => Refusal::NoLeader,
        _ => Refusal::Unreachable(problem),
    }
}
