//! The store under a real Raft group: replication, a snapshot to a newcomer, and all of them restarted.

use std::time::Duration;

use crate::common::cluster::{Net, leader, members, start, stop, write};
use tempfile::TempDir;

const LONG: Option<Duration> = Some(Duration::from_secs(20));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_replicates_brings_a_newcomer_up_and_comes_back_from_disk() {
    let dir = TempDir::new().unwrap();
    let net = Net::default();
    let mut managers = Vec::new();
    for id in 1..=3 {
        managers.push(start(&net, dir.path(), id).await);
    }
    managers[0].raft.initialize(members(1..=3)).await.unwrap();
    let at = usize::try_from(leader(&managers[0]).await).unwrap() - 1;
    let written = write(&managers[at].raft, 16, 50, 200).await;

    // The log is gone from the leader, so the newcomer needs the snapshot.
    let leading = managers[at].raft.clone();
    leading.trigger().snapshot().await.unwrap();
    let snapshot_at =
        leading.wait(LONG).metrics(|metrics| metrics.snapshot.is_some(), "a snapshot").await.unwrap().snapshot.unwrap();
    leading.trigger().purge_log(snapshot_at.index()).await.unwrap();
    leading.wait(LONG).metrics(|metrics| metrics.purged.is_some(), "a purge").await.unwrap();
    let newcomer = start(&net, dir.path(), 4).await;
    leading.add_learner(4, members(4..=4).remove(&4).unwrap(), true).await.unwrap();
    let written = write(&leading, 16, 10, 200).await.max(written);
    managers.push(newcomer);
    for manager in &managers {
        manager.raft.wait(LONG).applied_index_at_least(Some(written), "all of it").await.unwrap();
        assert_eq!(manager.toy.rows(), managers[0].toy.rows());
    }
    let newcomer = managers[3].raft.wait(LONG).metrics(|metrics| metrics.snapshot.is_some(), "its snapshot").await;
    assert_eq!(newcomer.unwrap().snapshot, Some(snapshot_at), "it cannot have come by the log");

    let rows = managers[0].toy.rows();
    for (id, manager) in (1..).zip(managers) {
        stop(&net, id, manager).await;
    }
    let mut managers = Vec::new();
    for id in 1..=4 {
        managers.push(start(&net, dir.path(), id).await);
    }
    leader(&managers[0]).await;
    for manager in &managers {
        manager.raft.wait(LONG).applied_index_at_least(Some(written), "all of it").await.unwrap();
        assert_eq!(manager.toy.rows(), rows);
        assert_eq!(manager.toy.0.lock().restored, 1);
    }
    for (id, manager) in (1..).zip(managers) {
        stop(&net, id, manager).await;
    }
}
