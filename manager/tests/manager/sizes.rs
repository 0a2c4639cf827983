//! Sizes at and beyond their limits: whatever a user or a worker sends, the log stays replicable and workers get their tasks.

use std::time::Duration;

use goat_proto::v1::{
    Constraint, GetNodeRequest, GetStatusRequest, Hello, ImageInfo, Inventory, ListTasksRequest, ScaleServiceRequest,
    ServiceSpec, worker_message,
};
use tonic::Code;

use crate::cluster::{Cluster, request_id, until};
use crate::sessions::{A, session};
use crate::worker::{self, hello, welcomed};

/// The reason for which each of 500 tasks is pending repeats the constraint. As one command that was 10 MB, which no peer
/// accepted, and nothing behind it in the log was replicated.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_constraint_of_many_pending_tasks_does_not_stop_replication() {
    let cluster = Cluster::new(40);
    cluster.settled().await;
    let (_worker, leader) = session(&cluster, A, "w1").await;
    let constraint = Constraint { label: "x".into(), equal: true, value: "a".repeat(20_000) };
    let poison = ServiceSpec { constraints: vec![constraint], ..big("poison", 500) };
    cluster.create_spec(leader, poison, &request_id(1)).await.expect("a quorum is there");
    // The planner's commands come between these.
    for number in 2..20 {
        let name = format!("after-{number}");
        cluster.create(leader, &name, &request_id(number)).await.expect("writes go on");
    }
    until("each task says why it is pending", async || {
        let mut client = cluster.managers[leader].client().await.ok()?;
        let request = ListTasksRequest { service: "poison".into(), ..Default::default() };
        let tasks = client.list_tasks(request).await.ok()?.into_inner().tasks;
        assert!(tasks.iter().all(|task| task.error.len() <= 2_048), "a reason is short");
        (tasks.len() == 500 && tasks.iter().all(|task| task.error.contains("constraint x=="))).then_some(())
    })
    .await;
    cluster.create(leader, "last", &request_id(100)).await.expect("writes go on");
}

/// 200 tasks whose spec has 60 KB each: 12 MB, which is more than one message may have.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_gets_more_than_fits_into_one_message() {
    let cluster = Cluster::new(41);
    cluster.settled().await;
    let (mut worker, leader) = session(&cluster, A, "w1").await;
    worker.keep_beating(Duration::from_millis(200));
    let spec = ServiceSpec { env: [("A".to_owned(), "a".repeat(60_000))].into(), ..big("big", 200) };
    cluster.create_spec(leader, spec, &request_id(1)).await.expect("a quorum is there");
    worker.told_all(200).await;

    // A new session gets the full set: in parts if the worker puts them together, else in one message, if that is enough.
    let chunked = Hello { chunked_assignments: true, ..hello(A, "w1") };
    let (mut worker, answer) = worker::open(&cluster.managers[leader], chunked).await.expect("it answers");
    welcomed(answer);
    worker.told_all(200).await;
    let (mut older, answer) = worker::open(&cluster.managers[leader], hello(A, "w1")).await.expect("it answers");
    welcomed(answer);
    let refused = loop {
        match older.next().await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert!(refused.message().contains("upgrade goat-worker"), "{refused}");
}

/// With the number of tasks that there would be, and what the nodes can hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_makes_more_tasks_than_the_nodes_can_hold_is_refused_with_the_figures() {
    let cluster = Cluster::new(44);
    cluster.settled().await;
    let first = cluster.create_spec(0, big("first", 100), &request_id(1)).await.expect("there may be no worker yet");
    let (_worker, leader) = session(&cluster, A, "w1").await;
    let mut client = cluster.managers[leader].client().await.expect("it runs");
    // The worker has 8 CPUs and 8 GiB: 512 tasks by its memory.
    let scale =
        |number, replicas| ScaleServiceRequest { request_id: request_id(number), reference: "first".into(), replicas };
    let refused = client.scale_service(scale(2, 100_000)).await.expect_err("far too many");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let expected = "replicas: 100000 would make 100000 tasks, more than the 512 that the only node of this cluster can hold; \
                    add workers, raise max_tasks on them, or ask for at most 512";
    assert_eq!(refused.message(), expected);
    let refused = cluster.create_spec(leader, big("second", 413), &request_id(3)).await.expect_err("one too many");
    assert!(refused.message().contains("513 tasks") && refused.message().ends_with("at most 412"), "{refused}");
    cluster.create_spec(leader, big("second", 412), &request_id(4)).await.expect("it fits");
    // A retry gets its first answer though nothing has room by now, and so does one that asks for no more than before.
    let again = cluster.create_spec(leader, big("first", 100), &request_id(1)).await.expect("a retry");
    assert_eq!(again.id, first.id);
    client.scale_service(scale(5, 100)).await.expect("as many as before");
}

/// An older worker tells all its images, and tells again whenever its free disk changes.
#[tokio::test(flavor = "multi_thread")]
async fn inventories_are_cut_to_the_largest_images_and_their_newest_is_written_once() {
    let cluster = Cluster::new(45);
    cluster.settled().await;
    let (worker, leader) = session(&cluster, A, "w1").await;
    let image = |number| ImageInfo { reference: format!("image:{number}"), size_bytes: number };
    let full = |disk_free_bytes, conditions| Inventory {
        images: (0..500).map(image).collect(),
        disk_free_bytes,
        conditions,
        ..hello(A, "w1").inventory.expect("it has one")
    };
    let mut client = cluster.managers[leader].client().await.expect("it runs");
    let before = client.get_status(GetStatusRequest::default()).await.expect("it answers").into_inner();
    for number in 0..100 {
        worker.send(worker_message::Message::Inventory(full(number << 30, Vec::new()))).await;
    }
    worker.send(worker_message::Message::Inventory(full(7 << 30, vec!["disk-pressure".into()]))).await;
    let node = until("the newest inventory is there", async || {
        let request = GetNodeRequest { reference: "w1".into(), read: None };
        let mut client = cluster.managers[leader].client().await.ok()?;
        let inventory = client.get_node(request).await.ok()?.into_inner().inventory?;
        (inventory.conditions == ["disk-pressure"]).then_some(inventory)
    })
    .await;
    assert_eq!((node.images.len(), node.disk_free_bytes), (50, 7 << 30));
    assert!(node.images.iter().all(|image| image.size_bytes >= 450));
    let after = client.get_status(GetStatusRequest::default()).await.expect("it answers").into_inner();
    let written = after.read.expect("read").index - before.read.expect("read").index;
    assert!(written <= 5, "{written} entries for 101 inventories");
}

fn big(name: &str, replicas: u32) -> ServiceSpec {
    ServiceSpec { name: name.into(), image: "none:1".into(), replicas, ..ServiceSpec::default() }
}
