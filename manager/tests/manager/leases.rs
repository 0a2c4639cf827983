//! What a leader may grant.

use std::time::Duration;

use goat_proto::v1::manager_message;

use crate::cluster::Cluster;
use crate::sessions::{A, session};

/// Else one that is cut off together with a worker would renew its lease for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_reaches_no_other_manager_grants_nothing() {
    /// So many heartbeats later it has noticed.
    const LONG: Duration = Duration::from_secs(4);
    let mut cluster = Cluster::new(30);
    cluster.settled().await;
    let (mut worker, leader) = session(&cluster, A, "w1").await;
    worker.beat(1).await;
    while !matches!(worker.next().await.expect("the session lives"), manager_message::Message::Lease(_)) {}
    for (_, other) in cluster.managers.iter_mut().enumerate().filter(|(at, _)| *at != leader) {
        other.kill();
    }
    worker.keep_beating_from(2, Duration::from_millis(100));
    let until = tokio::time::Instant::now() + LONG;
    // It ends the session when it steps down, or says nothing.
    while let Ok(Ok(message)) = tokio::time::timeout_at(until, worker.next()).await {
        assert!(!matches!(message, manager_message::Message::Lease(_)), "granted without a quorum: {message:?}");
    }
}
