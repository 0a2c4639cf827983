//! Managers form a group, lose their leader, and keep what they acknowledged.

use std::time::Instant;

use goat_proto::v1::{RemoveServiceRequest, TransferLeaderRequest};
use tonic::Code;

use crate::cluster::{Cluster, DEADLINE, request_id, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_the_leader_and_is_read_from_every_manager() {
    let mut cluster = Cluster::new(1);
    cluster.settled().await;
    let mut expected = Vec::new();
    for number in 0..5 {
        let name = format!("before-{number}");
        cluster.create_anywhere(&name, &request_id(number)).await;
        expected.push(name);
    }
    let leader = cluster.leader(0).await.expect("it has just accepted a write");
    cluster.managers[leader].kill();
    cluster.create_anywhere("zafter", &request_id(5)).await;
    expected.push("zafter".into());

    for at in (0..3).filter(|at| *at != leader) {
        assert_eq!(cluster.names(at).await.expect("a quorum is there"), expected);
    }
    cluster.managers[leader].start();
    let deadline = Instant::now() + DEADLINE;
    loop {
        match cluster.names(leader).await {
            Ok(names) => break assert_eq!(names, expected),
            Err(status) => assert!(Instant::now() < deadline, "the old leader does not come back: {status}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_request_takes_effect_once_and_a_taken_name_is_refused() {
    let cluster = Cluster::new(2);
    cluster.settled().await;
    let first = cluster.create_anywhere("web", &request_id(1)).await;
    for at in 0..3 {
        let again = cluster.create(at, "web", &request_id(1)).await.expect("a quorum is there");
        assert_eq!(again.id, first.id);
        let refused = cluster.create(at, "web", &request_id(2 + at)).await.expect_err("the name is taken");
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_repeated_gets_its_first_answer_though_the_service_is_gone() {
    let cluster = Cluster::new(29);
    cluster.settled().await;
    cluster.create_anywhere("web", &request_id(1)).await;
    let request = RemoveServiceRequest { request_id: request_id(2), reference: "web".into() };
    let remove = async |at: usize| {
        let mut client = cluster.managers[at].client().await.expect("it runs");
        client.remove_service(request.clone()).await.map(tonic::Response::into_inner)
    };
    let first = remove(0).await.expect("a quorum is there");
    let is_gone = async || cluster.names(0).await.ok().filter(Vec::is_empty);
    until("a service without tasks is forgotten", is_gone).await;
    for at in 0..3 {
        let again = remove(at).await.expect("the answer is remembered");
        assert_eq!((again.id, again.version), (first.id.clone(), first.version));
        assert!(again.index > first.index);
    }
    // Another one of that name is not meant by it.
    let second = cluster.create_anywhere("web", &request_id(3)).await;
    assert_eq!(remove(1).await.expect("the answer is remembered").id, first.id);
    assert_eq!(cluster.names(1).await.expect("a quorum is there"), ["web"]);
    assert_ne!(second.id, first.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_on_request_through_any_manager() {
    let cluster = Cluster::new(3);
    cluster.settled().await;
    cluster.create_anywhere("web", &request_id(1)).await;
    for asked in 0..3 {
        let leader = cluster.leader(asked).await.expect("there is a leader");
        let to = (leader + 1) % 3;
        let request = TransferLeaderRequest { to: cluster.managers[to].name.clone() };
        let mut client = cluster.managers[asked].client().await.expect("it runs");
        let reply = client.transfer_leader(request).await.expect("it hands over").into_inner();
        assert_eq!(reply.leader, cluster.managers[to].name);
        cluster.create_anywhere(&format!("web-{asked}"), &request_id(10 + asked)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_the_answer_names_the_managers_that_are_missed() {
    let mut cluster = Cluster::new(4);
    cluster.settled().await;
    cluster.create_anywhere("web", &request_id(1)).await;
    cluster.managers[1].kill();
    cluster.managers[2].kill();
    let status = cluster.create(0, "late", &request_id(2)).await.expect_err("one of three is no majority");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let is_named = ["m1", "m2", "m3"].map(|name| status.message().contains(name));
    assert_eq!(is_named, [false, true, true], "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_asked_to_stop_hands_over_first() {
    let mut cluster = Cluster::new(5);
    cluster.settled().await;
    cluster.create_anywhere("web", &request_id(1)).await;
    let leader = cluster.leader(0).await.expect("it has just accepted a write");
    assert_eq!(cluster.managers[leader].stop(), Some(0), "{}", cluster.managers[leader].log());
    let log = cluster.managers[leader].log();
    assert!(log.contains("handed over"), "{log}");
    let other = (leader + 1) % 3;
    assert!(cluster.leader(other).await.is_some_and(|now| now != leader));
    cluster.create(other, "at-once", &request_id(2)).await.expect("nobody had to be elected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_for_long_gets_a_snapshot_and_then_the_rest() {
    let mut cluster = Cluster::with(6, &["--snapshot-entries", "100"]);
    cluster.settled().await;
    cluster.create_anywhere("first", &request_id(0)).await;
    let leader = cluster.leader(0).await.expect("it has just accepted a write");
    let away = (leader + 1) % 3;
    cluster.managers[away].kill();
    let mut expected = vec!["first".to_owned()];
    for number in 1..=450 {
        let name = format!("s{number:0>4}");
        cluster.create(leader, &name, &request_id(number)).await.expect("two of three are a majority");
        expected.push(name);
    }
    cluster.managers[away].start();
    let names = until("it catches up", async || cluster.names(away).await.ok()).await;
    assert_eq!(names, expected);
    // The log's beginning is gone everywhere, so only a snapshot can have brought it.
    let snapshots =
        std::fs::read_dir(cluster.managers[away].data_dir.join("snapshots")).expect("it has a directory for them");
    assert!(snapshots.count() > 0);
}
