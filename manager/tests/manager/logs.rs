//! Log lines as JSON: each line an object, with keys that are known, of a cluster that has something to tell.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, request_id, until};
use crate::worker::{hello, open};

/// Those of every line, and those of what is told. A new one is added here, and not another word for one that is there.
const KEYS: &[&str] = &[
    "timestamp",
    "level",
    "message",
    "node_id",
    "service_id",
    "task_id",
    "manager_id",
    "cluster_id",
    "name",
    "address",
    "leader",
    "listen",
    "raft_term",
    "raft_index",
    "state_from",
    "state_to",
    "step",
    "error",
    "role",
    "stood_still_ms",
    "applied_index",
    "first_log_index",
    "last_log_index",
    "tasks",
    "took_ms",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_an_object_with_known_keys() {
    let mut cluster = Cluster::with(47, &["--log-format", "json"]);
    cluster.settled().await;
    cluster.create_anywhere("web", &request_id(1)).await;
    let leader = cluster.leader(0).await.expect("it has just accepted a write");
    let (session, _) = open(&cluster.managers[leader], hello("aaaaaaaaaaaa", "w1")).await.expect("it is taken");
    drop(session);
    let says = |cluster: &Cluster, at: usize, what: &str| cluster.managers[at].log().contains(what).then_some(());
    until("the session has ended", async || says(&cluster, leader, "a worker's session ended")).await;
    cluster.managers[leader].kill();
    // By the one that leads next; the other need not have asked it anything.
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    until("its loss is noticed", async || {
        others.into_iter().find_map(|other| says(&cluster, other, "a manager cannot be reached"))
    })
    .await;
    cluster.create_anywhere("after", &request_id(2)).await;
    let mut lines = 0;
    for manager in &cluster.managers {
        for line in manager.log().lines() {
            let object: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let keys: BTreeSet<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
            let strange: Vec<_> = keys.iter().filter(|key| !KEYS.contains(key)).collect();
            assert!(strange.is_empty(), "{strange:?} in {line}");
            assert!(["timestamp", "level", "message"].iter().all(|key| keys.contains(key)), "{line}");
            lines += 1;
        }
    }
    assert!(lines > 10, "{lines} lines");
}
