//! Workers' sessions: who is welcomed, what is told, what is granted, and what silence leads to.

use std::time::Duration;

use goat_proto::v1::{
    Assignment, GetStatusRequest, Hello, Inventory, ListNodesRequest, ListTasksRequest, RemoveServiceRequest,
    ServiceSpec, Task, TaskReport, WatchEventsRequest, manager_message,
};
use tonic::Code;

use crate::cluster::{Cluster, request_id, until};
use crate::worker::{self, Session, hello, welcomed};

pub const A: &str = "aaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbb";

/// A session with the leader, and where that is.
pub async fn session(cluster: &Cluster, node_id: &str, name: &str) -> (Session, usize) {
    until("a leader welcomes the worker", async || {
        let leader = cluster.leader(0).await?;
        match worker::open(&cluster.managers[leader], hello(node_id, name)).await {
            Ok((session, manager_message::Message::Welcome(_))) => Some((session, leader)),
            _ => None,
        }
    })
    .await
}

/// A worker's session with the leader, where that is, and the one task that it was told of.
pub async fn with_a_task(cluster: &Cluster, on_disconnect: &str) -> (Session, usize, Assignment) {
    cluster.settled().await;
    let (mut worker, leader) = session(cluster, A, "w1").await;
    cluster.create_spec(leader, web(1, on_disconnect), &request_id(1)).await.expect("a quorum is there");
    let task = worker.told(|_| true).await;
    (worker, leader, task)
}

/// Its worker's hello once more, with the task still running.
fn running(task: &Assignment) -> Hello {
    let report =
        TaskReport { task_id: task.task_id.clone(), state: "running".into(), at_ms: 1, ..TaskReport::default() };
    Hello { tasks: vec![report], ..hello(A, "w1") }
}

fn web(replicas: u32, on_disconnect: &str) -> ServiceSpec {
    ServiceSpec {
        name: "web".into(),
        image: "web:1".into(),
        replicas,
        on_disconnect: on_disconnect.into(),
        ..ServiceSpec::default()
    }
}

async fn tasks(cluster: &Cluster, at: usize) -> Vec<Task> {
    let mut client = cluster.managers[at].client().await.expect("it runs");
    let request = ListTasksRequest { all: true, ..ListTasksRequest::default() };
    client.list_tasks(request).await.expect("it answers").into_inner().tasks
}

async fn node_state(cluster: &Cluster, at: usize, name: &str) -> String {
    let mut client = cluster.managers[at].client().await.expect("it runs");
    let nodes = client.list_nodes(ListNodesRequest::default()).await.expect("it answers").into_inner().nodes;
    nodes.into_iter().find(|node| node.name == name).expect("it has registered").state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_told_its_tasks_and_what_it_reports_is_read_everywhere() {
    let cluster = Cluster::new(20);
    cluster.settled().await;
    let (mut worker, leader) = session(&cluster, A, "w1").await;
    worker.keep_beating(Duration::from_millis(200));
    cluster.create_spec(leader, web(1, "keep"), &request_id(1)).await.expect("a quorum is there");
    let task = worker.told(|task| task.service == "web").await;
    assert_eq!((task.slot, task.attempt, task.desired.as_str()), (1, 1, "running"));
    assert!(task.fencing_token > 0);
    assert_eq!(task.spec.expect("it says what to run").on_disconnect, "keep");

    worker.report(1, &task.task_id, "running").await;
    worker.acknowledged(1).await;
    for at in 0..3 {
        let tasks = tasks(&cluster, at).await;
        assert_eq!((tasks.len(), tasks[0].state.as_str(), tasks[0].node.as_str()), (1, "running", "w1"));
    }
    worker.report(2, &task.task_id, "failed").await;
    let next = worker.told(|next| next.attempt == 2).await;
    assert_eq!((next.slot, next.desired.as_str()), (1, "running"), "the first restart comes at once");
    assert!(next.fencing_token > task.fencing_token);

    // Of a task that it knows, what has changed.
    let request = RemoveServiceRequest { request_id: request_id(2), reference: "web".into() };
    let mut client = cluster.managers[leader].client().await.expect("it runs");
    client.remove_service(request).await.expect("a quorum is there");
    let last = worker.told(|told| told.task_id == next.task_id).await;
    assert_ne!(last.desired, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_says_who_leads_and_strangers_are_refused() {
    let cluster = Cluster::new(21);
    cluster.settled().await;
    let (_worker, leader) = session(&cluster, A, "w1").await;
    let follower = (leader + 1) % 3;
    match worker::open(&cluster.managers[follower], hello(B, "w2")).await.expect("it answers").1 {
        manager_message::Message::Redirect(redirect) => {
            assert_eq!(redirect.leader_address, cluster.managers[leader].address);
            assert_eq!(redirect.managers.len(), 3);
        }
        other => panic!("no redirect: {other:?}"),
    }
    let refused = async |hello| worker::open(&cluster.managers[leader], hello).await.err().expect("it is refused");
    let mut foreign = hello(B, "w2");
    foreign.cluster_id = "0123456789ab".into();
    assert_eq!(refused(foreign).await.code(), Code::FailedPrecondition);
    assert_eq!(refused(hello(B, "w1")).await.code(), Code::AlreadyExists, "the name is taken");
    assert_eq!(refused(hello("nonsense", "w2")).await.code(), Code::InvalidArgument);
    let mut newer = hello(B, "w2");
    newer.term = 1_000;
    assert_eq!(refused(newer).await.code(), Code::Unavailable, "it has followed a newer leader");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_ends_the_older_one_and_is_told_everything_anew() {
    let cluster = Cluster::new(22);
    let (mut older, leader, task) = with_a_task(&cluster, "keep").await;

    let (mut newer, answer) = worker::open(&cluster.managers[leader], running(&task)).await.expect("it answers");
    let welcome = welcomed(answer);
    assert!(!welcome.cluster_id.is_empty() && welcome.lease_ttl_ms > 0);
    let told: Vec<String> = newer.all_tasks().await.into_iter().map(|task| task.task_id).collect();
    assert_eq!(told, [task.task_id]);
    assert_eq!(tasks(&cluster, leader).await[0].state, "running", "the hello said so");
    loop {
        match older.next().await {
            Ok(manager_message::Message::Redirect(_)) | Err(_) => break,
            Ok(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_worker_is_given_up_after_its_lease_and_its_leased_task_goes_elsewhere() {
    let cluster = Cluster::with(23, &["--worker-heartbeat-ms", "200", "--lease-ttl-ms", "1600"]);
    let (mut silent, leader, task) = with_a_task(&cluster, "stop").await;
    silent.beat(1).await;
    loop {
        if let manager_message::Message::Lease(grant) = silent.next().await.expect("the session lives") {
            break assert_eq!(grant.heartbeat_sequence, 1);
        }
    }
    let granted = std::time::Instant::now();
    silent.report(1, &task.task_id, "running").await;
    until("it is said that nobody is heard", async || {
        let mut client = cluster.managers[leader].client().await.ok()?;
        let warnings = client.get_status(GetStatusRequest::default()).await.ok()?.into_inner().warnings;
        warnings.iter().any(|warning| warning.starts_with("no worker is heard")).then_some(())
    })
    .await;
    let (mut other, _) = session(&cluster, B, "w2").await;
    other.keep_beating(Duration::from_millis(100));

    let moved = other.told(|moved| moved.service == "web").await;
    assert_eq!((moved.slot, moved.attempt), (1, 2));
    assert!(granted.elapsed() >= Duration::from_millis(1_600), "not before the lease has run out");
    assert_eq!(node_state(&cluster, leader, "w1").await, "down");
    let lost = tasks(&cluster, leader).await.into_iter().find(|old| old.id == task.task_id).expect("it is remembered");
    assert_eq!((lost.state.as_str(), lost.reason.as_str()), ("lost", "node-lost"));

    let (mut back, answer) = worker::open(&cluster.managers[leader], hello(A, "w1")).await.expect("it answers");
    welcomed(answer);
    assert_eq!(back.all_tasks().await, [], "what it lost is not its own any more");
    assert_eq!(node_state(&cluster, leader, "w1").await, "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_takes_the_workers_over_without_losing_a_task() {
    let mut cluster = Cluster::new(24);
    cluster.settled().await;
    let (mut worker, leader) = session(&cluster, A, "w1").await;
    cluster.create_spec(leader, web(2, ""), &request_id(1)).await.expect("a quorum is there");
    let task = worker.told(|task| task.slot == 2).await;
    cluster.managers[leader].kill();
    let asked = (leader + 1) % 3;
    let (mut again, leader) = until("another leader welcomes the worker", async || {
        let leader = cluster.leader(asked).await?;
        match worker::open(&cluster.managers[leader], hello(A, "w1")).await {
            Ok((session, manager_message::Message::Welcome(_))) => Some((session, leader)),
            _ => None,
        }
    })
    .await;
    assert!(again.term > worker.term);
    let told = again.told(|told| told.slot == 2).await;
    assert_eq!((told.task_id, told.attempt), (task.task_id, 1));
    assert_eq!(tasks(&cluster, leader).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_what_happened_on_every_manager_and_follow() {
    let cluster = Cluster::new(25);
    cluster.settled().await;
    let (mut worker, leader) = session(&cluster, A, "w1").await;
    let follower = (leader + 1) % 3;
    let mut client = cluster.managers[follower].client().await.expect("it runs");
    let request = WatchEventsRequest { follow: true, service: "web".into(), ..WatchEventsRequest::default() };
    let mut events = client.watch_events(request).await.expect("it answers").into_inner();
    cluster.create_spec(leader, web(1, "keep"), &request_id(1)).await.expect("a quorum is there");
    let task = worker.told(|_| true).await;
    worker.report(1, &task.task_id, "running").await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last: &String| !last.ends_with("running")) {
        let event = events.message().await.expect("the stream lives").expect("it goes on");
        seen.push(format!("{} {} {} {}", event.kind, event.name, event.node, event.to));
    }
    assert_eq!(seen, ["service web  created", "task web.1 w1 assigned", "task web.1 w1 running"]);

    let past = WatchEventsRequest { tail: Some(1), service: "web".into(), ..WatchEventsRequest::default() };
    let mut past = client.watch_events(past).await.expect("it answers").into_inner();
    assert_eq!(past.message().await.expect("it lives").expect("one").to, "running");
    assert_eq!(past.message().await.expect("it ends well"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_that_was_given_up_still_runs_is_taken_back() {
    let cluster = Cluster::with(27, &["--worker-heartbeat-ms", "200", "--lease-ttl-ms", "1600"]);
    let (silent, leader, task) = with_a_task(&cluster, "keep").await;
    silent.report(1, &task.task_id, "running").await;
    // One that is heard, without which nobody is given up, and that has no room.
    let full = Hello { inventory: Some(Inventory::default()), ..hello(B, "w2") };
    let (full, answer) = worker::open(&cluster.managers[leader], full).await.expect("it answers");
    welcomed(answer);
    full.keep_beating(Duration::from_millis(100));
    let replaced = async || {
        let tasks = tasks(&cluster, leader).await;
        tasks.into_iter().find(|task| task.attempt == 2).filter(|task| !task.error.is_empty())
    };
    let waiting = until("a replacement waits for room", replaced).await;
    assert_eq!((waiting.state.as_str(), waiting.cause.as_str()), ("pending", "node-lost"));

    let (mut back, answer) = worker::open(&cluster.managers[leader], running(&task)).await.expect("it answers");
    welcomed(answer);
    let told = back.told(|_| true).await;
    assert_eq!((&told.task_id, told.desired.as_str(), told.attempt), (&task.task_id, "running", 3));
    let states: Vec<String> = tasks(&cluster, leader).await.into_iter().map(|task| task.state).collect();
    assert_eq!(states.iter().filter(|state| *state == "running").count(), 1, "{states:?}");
    assert!(states.iter().all(|state| state == "running" || state == "stopped"), "{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lies_changes_nothing_and_is_told_of_once() {
    let cluster = Cluster::new(28);
    let (mut honest, leader, task) = with_a_task(&cluster, "keep").await;
    honest.report(1, &task.task_id, "running").await;
    honest.acknowledged(1).await;
    let before = tasks(&cluster, leader).await;

    let (mut liar, _) = session(&cluster, B, "w2").await;
    for (sequence, task_id) in [(1, task.task_id.as_str()), (2, "0123456789ab"), (3, task.task_id.as_str())] {
        liar.report(sequence, task_id, "failed").await;
        liar.acknowledged(sequence).await;
    }
    honest.report(2, &task.task_id, "starting").await;
    honest.acknowledged(2).await;
    assert_eq!(tasks(&cluster, leader).await, before);
    let log = cluster.managers[leader].log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("cannot be true")).collect();
    assert_eq!(warnings.len(), 2, "one of each worker: {warnings:#?}");
    assert!(warnings[0].contains("foreign=1") && warnings[1].contains("backwards=1"), "{warnings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_agent_is_refused_while_the_first_is_alive_and_a_restarted_one_is_not() {
    let cluster = Cluster::new(58);
    cluster.settled().await;
    let leader = cluster.leader(0).await.expect("it is settled");
    let manager = &cluster.managers[leader];
    let of = |instance: &str| Hello { instance_id: instance.into(), ..hello("aaaaaaaaaaaa", "w1") };
    let (mut first, answer) = worker::open(manager, of("first")).await.expect("nobody else is there");
    welcomed(answer);
    first.keep_beating(Duration::from_millis(100));
    let refused = worker::open(manager, of("copy")).await.err().expect("the first is alive");
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("127.0.0.1") && refused.message().contains("is a copy"), "{refused}");
    // The first has lost nothing by it.
    first.all_tasks().await;
    // The same process dials again; and another one after it, where the last says nothing more.
    let (second, answer) = worker::open(manager, of("first")).await.expect("it is the same agent");
    welcomed(answer);
    let (_third, answer) = worker::open(manager, of("restarted")).await.expect("the one before it is silent");
    welcomed(answer);
    drop(second);
}
