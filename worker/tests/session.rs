//! A worker's session with a leader that is played here: what it makes of a grant that comes late, of the word of a leader
//! of an older term, and of increments of which one is missing; and what it claims to run.

mod played;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use goat_core::model::{Driver, Inventory, OnDisconnect, ServiceId, TaskId, TaskState};
use goat_proto::v1::{self, manager_message};
use goat_tls::Transport;
use goat_worker::fence::FenceList;
use goat_worker::identity::Identity;
use goat_worker::inventory::Health;
use goat_worker::journal::Journal;
use goat_worker::lease::Lease;
use goat_worker::metrics::Meters;
use goat_worker::outbox::Outbox;
use goat_worker::reconciler::{self, adopt};
use goat_worker::runtime::{Event, Runtimes};
use goat_worker::session;
use goat_worker::task::{Record, TaskMeta};
use goat_worker::taskset::TaskSet;
use played::{Arrivals, HEARTBEAT_MS, Session, WITHIN, played};
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc, watch};

/// A worker without a runtime, which knows one manager.
struct Worker {
    lease: Arc<Lease>,
    arrivals: Arrivals,
    tasks: TaskSet,
    _events: mpsc::Sender<(Driver, Event)>,
    _inventory: watch::Sender<Inventory>,
    _watched: watch::Sender<bool>,
    _dir: TempDir,
}

impl Worker {
    async fn start() -> Self {
        Self::with(Vec::new()).await
    }

    /// With what its journal says; nobody can be asked whether that runs.
    async fn with(journal: Vec<Record>) -> Self {
        let dir = TempDir::new().expect("a directory");
        let tasks = TaskSet::new("agent");
        let (manager, arrivals) = played(&tasks).await;
        let identity = Arc::new(Identity::open(dir.path()).expect("an empty directory"));
        let lease = Arc::new(Lease::open(identity.root()).expect("opened"));
        let (outbox, meters) = (Arc::new(Outbox::default()), Arc::new(Meters::default()));
        let (watched, is_watched) = watch::channel(true);
        let parts = reconciler_parts(dir.path(), &identity, &lease, &outbox, is_watched, &tasks);
        let (service, reconciler) = reconciler::Service::new(parts, adopt::adopt(journal, None), Vec::new());
        let (events, to_reconciler) = mpsc::channel(16);
        tasks.spawn("reconciler", service.run(to_reconciler));
        let (inventory_told, inventory) = watch::channel(Inventory::default());
        let parts = session::Parts {
            name: "w".into(),
            address: IpAddr::from(Ipv4Addr::LOCALHOST),
            labels: BTreeMap::new(),
            managers: vec![manager],
            bind_source: None,
            transport: Transport::plaintext(),
            wanted_stance: Arc::new(watch::channel(String::new()).0),
            identity,
            reconciler,
            outbox,
            lease: lease.clone(),
            meters,
            inventory,
            runtimes: Runtimes::new([]),
            tasks: tasks.clone(),
            removed: Arc::new(Notify::new()),
            standing: watch::Sender::default(),
        };
        tasks.spawn("session", session::run(parts));
        let kept = lease.clone();
        tasks.spawn("lease", async move { kept.keep().await });
        Self { lease, arrivals, tasks, _events: events, _inventory: inventory_told, _watched: watched, _dir: dir }
    }

    async fn session(&mut self) -> Session {
        let session = tokio::time::timeout(WITHIN, self.arrivals.sessions.recv()).await.expect("it dials in time");
        session.expect("the leader is there")
    }

    async fn stop(self) {
        self.tasks.stop(Duration::from_secs(1)).await;
    }
}

fn reconciler_parts(
    root: &Path,
    identity: &Arc<Identity>,
    lease: &Arc<Lease>,
    outbox: &Arc<Outbox>,
    is_watched: watch::Receiver<bool>,
    tasks: &TaskSet,
) -> reconciler::Parts {
    reconciler::Parts {
        node: "w".into(),
        address: IpAddr::from(Ipv4Addr::LOCALHOST),
        identity: identity.clone(),
        runtimes: Runtimes::new([]),
        journal: Journal::inline(root),
        outbox: outbox.clone(),
        max_concurrent_starts: 1,
        runtime_down_after: Duration::from_secs(60),
        lease: lease.clone(),
        is_watched,
        fence: FenceList::open(root).expect("opened"),
        health: watch::channel(Health::default()).0,
        tasks: tasks.child("tasks"),
        meters: Arc::default(),
    }
}

#[tokio::test]
async fn a_lease_counts_from_when_its_heartbeat_was_sent_however_late_the_grant_comes() {
    let mut worker = Worker::start().await;
    let mut session = worker.session().await;
    session.welcome(1).await;
    let first = session.heartbeat().await;
    let mut last = first;
    while last < first + 5 {
        // Of something else, so that the leader does not seem silent.
        session.say(1, manager_message::Message::Ack(v1::ReportsAck { sequence: 0 })).await;
        last = session.heartbeat().await;
    }
    session.grant(1, first).await;
    let mut validity = worker.lease.validity();
    let leased = tokio::time::timeout(WITHIN, validity.wait_for(|validity| validity.is_leased)).await;
    leased.expect("in time").expect("the lease is kept");
    let age_ms = worker.lease.grant_age_ms().expect("it was granted");
    // Sent so many intervals before the last; a timer may be early by its grain.
    assert!(age_ms >= 5 * HEARTBEAT_MS - 20, "{age_ms} ms after it was sent");
    worker.stop().await;
}

#[tokio::test]
async fn the_word_of_an_older_term_ends_the_session_and_grants_nothing() {
    let mut worker = Worker::start().await;
    let mut session = worker.session().await;
    session.welcome(5).await;
    let heartbeat = session.heartbeat().await;
    session.grant(4, heartbeat).await;
    session.left(5).await;
    assert_eq!(worker.lease.grant_age_ms(), None);
    // Nor is one welcome any more that has led before.
    let session = worker.session().await;
    session.welcome(4).await;
    session.left(4).await;
    assert_eq!(worker.lease.grant_age_ms(), None);
    worker.stop().await;
}

#[tokio::test]
async fn a_gap_in_the_assignments_ends_the_session() {
    let mut worker = Worker::start().await;
    let changes =
        |sequence| manager_message::Message::Changes(v1::AssignmentChanges { sequence, ..Default::default() });
    let mut session = worker.session().await;
    session.welcome(1).await;
    session.say(1, manager_message::Message::Assignments(v1::Assignments { sequence: 1, ..Default::default() })).await;
    session.say(1, changes(2)).await;
    session.say(1, changes(3)).await;
    session.heartbeat().await;
    session.say(1, changes(5)).await;
    session.left(1).await;
    worker.session().await;
    worker.stop().await;
}

#[tokio::test]
async fn what_was_not_found_running_is_not_claimed_by_a_worker_that_may_have_been_given_up() {
    let meta = TaskMeta {
        task: TaskId::from_random(1),
        service_id: ServiceId::from_random(1),
        service: "web".into(),
        slot: 1,
        attempt: 1,
        fencing_token: 1,
        spec_version: 1,
        driver: Driver::Docker,
        on_disconnect: OnDisconnect::Keep,
        stop_grace_ms: 0,
        health: None,
    };
    let mut record = Record::new(meta, 1);
    record.started("container".into(), 2);
    record.state = TaskState::Running;
    let task = record.meta.task.to_string();
    let mut worker = Worker::with(vec![record]).await;
    let mut session = worker.session().await;
    let hello = session.hello().await;
    assert_eq!((hello.tasks.len(), hello.stopping), (1, vec![task]), "its machine may have died meanwhile");
    session.welcome(1).await;
    let heartbeat = session.heartbeat().await;
    session.grant(1, heartbeat).await;
    let mut validity = worker.lease.validity();
    let leased = tokio::time::timeout(WITHIN, validity.wait_for(|validity| validity.is_leased)).await;
    leased.expect("in time").expect("the lease is kept");
    drop(session);
    // Within its lease nobody has given it up: nothing has to be asked.
    let hello = worker.session().await.hello().await;
    assert_eq!((hello.tasks.len(), hello.stopping.len()), (1, 0));
    worker.stop().await;
}

#[tokio::test]
async fn each_log_stream_has_a_connection_of_its_own() {
    let mut worker = Worker::start().await;
    let session = worker.session().await;
    session.welcome(1).await;
    let mut connections = vec![session.from];
    for number in 0..3 {
        let wanted = v1::LogsWanted {
            stream_id: format!("stream{number}"),
            task_id: TaskId::from_random(7).to_string(),
            ..v1::LogsWanted::default()
        };
        session.say(1, manager_message::Message::Logs(wanted)).await;
        let opened = tokio::time::timeout(WITHIN, worker.arrivals.log_streams.recv()).await;
        connections.push(opened.expect("in time").expect("the leader lives"));
    }
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), 4, "a stream that nobody reads stops none of the others: {connections:?}");
    worker.stop().await;
}
