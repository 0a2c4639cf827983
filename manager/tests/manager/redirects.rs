//! Workers that ask a manager that does not lead are told who does, however many ask at once.

use std::time::Duration;

use goat_proto::v1::dispatcher_client::DispatcherClient;
use goat_proto::v1::{WorkerMessage, manager_message, worker_message};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use crate::cluster::{Cluster, DEADLINE, request_id};
use crate::worker::hello;

/// Connections of workers that ask at once, and how often each asks.
const CONNECTIONS: usize = 16;
const TIMES: usize = 2_000;
/// Clients that write meanwhile.
const WRITERS: usize = 8;

/// Asks again and again for the leader, which is at `leads`.
async fn ask_often(mut client: DispatcherClient<Channel>, leads: String) {
    for _ in 0..TIMES {
        let message = Some(worker_message::Message::Hello(hello("aaaaaaaaaaaa", "w1")));
        // It stays open, as a worker's does, until the manager has answered.
        let messages = tokio_stream::iter([WorkerMessage { message }]).chain(tokio_stream::pending());
        let asked = async {
            let mut answers = client.session(messages).await.expect("it answers").into_inner();
            answers.message().await.expect("it answers").and_then(|answer| answer.message)
        };
        let answer = tokio::time::timeout(DEADLINE, asked).await.expect("the manager hangs");
        let Some(manager_message::Message::Redirect(redirect)) = answer else {
            panic!("no redirect: {answer:?}");
        };
        assert_eq!((&redirect.leader_address, redirect.managers.len()), (&leads, 3));
    }
}

/// A redirect reads Raft's metrics, which change with each entry. Read twice under one guard, with a change in between, they
/// hang the manager for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_redirects_many_workers_while_its_log_grows_goes_on_answering() {
    let cluster = Cluster::new(31);
    cluster.settled().await;
    cluster.create_anywhere("first", &request_id(0)).await;
    let leader = cluster.leader(0).await.expect("it has just accepted a write");
    let asked = (leader + 1) % 3;

    let mut askers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = cluster.managers[asked].dispatcher().await.expect("it runs");
        askers.spawn(ask_often(client, cluster.managers[leader].address.clone()));
    }
    let mut number = 0;
    while !askers.is_empty() {
        let numbers = number + 1..=number + WRITERS;
        let writes = numbers.map(async |number| {
            cluster.create(leader, &format!("s{number}"), &request_id(number)).await.expect("a quorum is there");
        });
        futures::future::join_all(writes).await;
        number += WRITERS;
        while let Some(done) = askers.try_join_next() {
            done.expect("each is redirected every time");
        }
    }
    assert!(number > WRITERS, "the log grew meanwhile");
    let answers = cluster.names(asked);
    let names = tokio::time::timeout(Duration::from_secs(10), answers).await.expect("the manager hangs");
    assert_eq!(names.expect("a quorum is there").len(), number + 1);
}
