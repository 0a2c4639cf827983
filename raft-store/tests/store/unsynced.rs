//! On a disk that forgets what was not synced, and that syncs when it is told: nothing is acknowledged before it is kept.

use std::sync::Arc;

use crate::common::disk::{Disk, Tables, base};
use crate::common::{Toy, options, put};
use futures::FutureExt;
use goat_raft_store::{LogStore, TypeConfig};
use openraft::alias::VoteOf;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;
use tokio::sync::Semaphore;

fn open(disk: &Arc<Disk>) -> (LogStore, TempDir) {
    let dir = TempDir::new().unwrap();
    let (log, _) = goat_raft_store::open_base(options(dir.path()), Toy::default(), base(disk)).unwrap();
    (log, dir)
}

/// The log as it is found after a loss of power.
fn after_the_power_was_lost(disk: &Disk) -> (LogStore, TempDir) {
    let tables = disk.kept.lock().clone();
    open(&Disk::of(tables, Semaphore::MAX_PERMITS))
}

#[tokio::test]
async fn what_is_acknowledged_is_kept_when_the_power_goes() {
    let disk = Disk::of(Tables::default(), Semaphore::MAX_PERMITS);
    let (mut log, _dir) = open(&disk);
    for term in 1..20 {
        let vote = VoteOf::<TypeConfig>::new(term, 1);
        log.save_vote(&vote).await.unwrap();
        let (mut found, _dir) = after_the_power_was_lost(&disk);
        assert_eq!(found.read_vote().await.unwrap(), Some(vote), "an acknowledged vote");

        let entry = put(term, term - 1, "key=value");
        log.blocking_append(vec![entry.clone()]).await.unwrap();
        let (mut found, _dir) = after_the_power_was_lost(&disk);
        let last = found.try_get_log_entries(term - 1..).await.unwrap();
        assert_eq!(last, [entry], "an acknowledged entry");
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_written() {
    let disk = Disk::of(Tables::default(), 0);
    let (mut log, _dir) = open(&disk);
    let (done, mut flushed) = TypeConfig::oneshot();
    log.append(vec![put(1, 0, "key=value")], IOFlushed::signal(done)).await.unwrap();
    disk.begun.acquire().await.unwrap().forget();
    assert!(flushed.try_recv().is_err(), "an entry that is being written is acknowledged");
    disk.gate.add_permits(1);
    flushed.await.unwrap().unwrap();

    let vote = VoteOf::<TypeConfig>::new(1, 1);
    let mut saving = std::pin::pin!(log.save_vote(&vote));
    assert!(saving.as_mut().now_or_never().is_none());
    disk.begun.acquire().await.unwrap().forget();
    assert!(saving.as_mut().now_or_never().is_none(), "a vote that is being written is acknowledged");
    disk.gate.add_permits(1);
    saving.await.unwrap();
}
