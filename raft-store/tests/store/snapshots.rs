//! Snapshots: made while applying goes on, sent, received, installed, and refused when they are not whole.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Store, log_id, put, reopen, try_open};
use goat_raft_store::{EntryId, Error, SnapshotFile};
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine};
use tempfile::TempDir;

fn files(dir: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(dir.join("snapshots")).unwrap();
    let mut files: Vec<PathBuf> = read.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

async fn bytes_of(snapshot: &SnapshotFile) -> Vec<u8> {
    let mut reader = snapshot.open().await.unwrap();
    let mut bytes = Vec::new();
    loop {
        let chunk = reader.read_chunk(1_000).await.unwrap();
        if chunk.is_empty() {
            return bytes;
        }
        bytes.extend_from_slice(&chunk);
    }
}

async fn receive(store: &Store, bytes: &[u8]) -> Result<SnapshotFile, Error> {
    let mut incoming = store.log.receive_snapshot().await?;
    for piece in bytes.chunks(777) {
        incoming.append(piece).await?;
    }
    incoming.finish().await
}

#[tokio::test]
async fn a_snapshot_is_of_the_moment_it_was_asked_for() {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    store.fill(0..50).await;
    let before = store.toy.rows();
    let mut builder = store.machine.try_create_snapshot_builder(true).await.unwrap();
    store.fill(50..500).await;
    let building = tokio::spawn(async move { builder.build_snapshot().await.unwrap() });
    store.fill(500..3_000).await;
    let snapshot = building.await.unwrap();
    assert_eq!(snapshot.meta.last_log_id, Some(log_id(1, 49)));

    let other = TempDir::new().unwrap();
    let mut receiver = try_open(other.path()).unwrap();
    let received = receive(&receiver, &bytes_of(&snapshot.snapshot).await).await.unwrap();
    receiver.machine.install_snapshot(&snapshot.meta, received).await.unwrap();
    assert_eq!(receiver.toy.rows(), before);
}

#[tokio::test]
async fn an_installed_snapshot_replaces_what_was_there_and_survives_a_restart() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut sender = try_open(from.path()).unwrap();
    sender.append(vec![crate::common::membership(1, 0)]).await;
    sender.apply(vec![crate::common::membership(1, 0)]).await;
    sender.fill(1..2_000).await;
    let snapshot = sender.snapshot().await;

    let mut receiver = try_open(to.path()).unwrap();
    let stale: Vec<_> = (0..20).map(|index| put(1, index, format!("stale-{index}=1"))).collect();
    receiver.append(stale.clone()).await;
    receiver.apply(stale).await;
    let received = receive(&receiver, &bytes_of(&snapshot.snapshot).await).await.unwrap();
    receiver.machine.install_snapshot(&snapshot.meta, received).await.unwrap();
    assert_eq!(receiver.toy.rows(), sender.toy.rows());
    assert_eq!(receiver.toy.0.lock().published, Some(EntryId { term: 1, index: 1_999 }));
    let current = receiver.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta, snapshot.meta);
    drop((current, receiver));

    // Killed before the log in front of it was purged: openraft's start puts that right.
    let mut receiver = reopen(to.path());
    assert_eq!(receiver.toy.rows(), sender.toy.rows());
    let mut helper =
        openraft::StorageHelper::<goat_raft_store::TypeConfig, _, _>::new(&mut receiver.log, &mut receiver.machine)
            .with_id(1);
    helper.get_initial_state().await.unwrap();
    let state = receiver.log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 1_999)));
    assert!(receiver.log.try_get_log_entries(0..).await.unwrap().is_empty());
    assert_eq!(receiver.machine.applied_state().await.unwrap().0, Some(log_id(1, 1_999)));
    assert_eq!(receiver.machine.get_current_snapshot().await.unwrap().unwrap().meta, snapshot.meta);
    receiver.fill(2_000..2_010).await;
}

#[tokio::test]
async fn a_cut_off_or_changed_snapshot_is_refused_and_leaves_nothing() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut sender = try_open(from.path()).unwrap();
    sender.fill(0..30).await;
    let snapshot = sender.snapshot().await;
    let whole = bytes_of(&snapshot.snapshot).await;
    assert_eq!(whole.len() as u64, snapshot.snapshot.len_bytes());

    let mut receiver = try_open(to.path()).unwrap();
    receiver.fill(0..3).await;
    let before = receiver.toy.rows();
    for len in [0, 1, 4, 11, 40, whole.len() - 13, whole.len() - 4, whole.len() - 1] {
        let error = receive(&receiver, &whole[..len]).await.expect_err("cut off");
        assert!(matches!(error, Error::Snapshot { .. }), "{len}: {error}");
    }
    for at in (0..whole.len()).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        let error = receive(&receiver, &changed).await.expect_err("changed");
        assert!(matches!(error, Error::Snapshot { .. }), "{at}: {error}");
    }
    assert!(files(to.path()).is_empty());
    assert_eq!(receiver.toy.rows(), before);
}

#[tokio::test]
async fn a_damaged_snapshot_in_the_directory_is_not_offered_and_can_be_made_again() {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    store.fill(0..300).await;
    let snapshot = store.snapshot().await;
    let path = snapshot.snapshot.path();
    drop((snapshot, store));
    let whole = fs::read(&path).unwrap();
    for damaged in [whole[..whole.len() / 2].to_vec(), {
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        flipped
    }] {
        fs::write(&path, damaged).unwrap();
        let mut store = reopen(dir.path());
        assert!(store.machine.get_current_snapshot().await.unwrap().is_none());
        assert_eq!(store.toy.rows().len(), 100, "the rows are in the database too");
        assert_eq!(store.snapshot().await.meta.last_log_id, Some(log_id(1, 299)));
    }
    let mut store = reopen(dir.path());
    assert!(store.machine.get_current_snapshot().await.unwrap().is_some());
}

#[tokio::test]
async fn only_the_newest_snapshot_is_kept_and_a_sender_of_the_older_one_can_finish() {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    store.fill(0..10).await;
    let older = store.snapshot().await;
    let mut reader = older.snapshot.open().await.unwrap();
    assert_eq!(reader.read_chunk(16).await.unwrap().len(), 16);
    store.fill(10..20).await;
    let newer = store.snapshot().await;
    assert_eq!(files(dir.path()), [newer.snapshot.path()]);
    assert_eq!(store.machine.get_current_snapshot().await.unwrap().unwrap().meta, newer.meta);
    let rest = reader.read_chunk(usize::MAX).await.unwrap();
    assert_eq!(rest.len() as u64 + 16, older.snapshot.len_bytes());
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_removed() {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    store.fill(0..10).await;
    let kept = store.snapshot().await.snapshot.path();
    drop(store);
    for name in ["building-3", "incoming-0"] {
        fs::write(dir.path().join("snapshots").join(name), "GOATSN").unwrap();
    }
    let _store = reopen(dir.path());
    assert_eq!(files(dir.path()), [kept]);
}

#[tokio::test]
async fn a_snapshot_of_another_cluster_is_refused() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut sender = try_open(from.path()).unwrap();
    sender.log.set_cluster_id("c1").unwrap();
    sender.fill(0..10).await;
    let snapshot = sender.snapshot().await;
    assert_eq!(snapshot.snapshot.cluster_id(), Some("c1"));
    let mut receiver = try_open(to.path()).unwrap();
    receiver.log.set_cluster_id("c2").unwrap();
    let bytes = bytes_of(&snapshot.snapshot).await;
    let error = receive(&receiver, &bytes).await.expect_err("another cluster");
    assert!(matches!(error, Error::OtherCluster { .. }), "{error}");
    assert!(receiver.machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.is_err());
    assert!(receiver.toy.rows().is_empty() && files(to.path()).is_empty());
}

#[tokio::test]
async fn a_snapshot_that_is_not_installed_goes_with_its_last_handle() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut sender = try_open(from.path()).unwrap();
    sender.fill(0..10).await;
    let bytes = bytes_of(&sender.snapshot().await.snapshot).await;
    let receiver = try_open(to.path()).unwrap();
    let received = receive(&receiver, &bytes).await.unwrap();
    assert_eq!(files(to.path()).len(), 1);
    drop(received);
    assert!(files(to.path()).is_empty());
    let mut incoming = receiver.log.receive_snapshot().await.unwrap();
    incoming.append(&bytes[..10]).await.unwrap();
    drop(incoming);
    assert!(files(to.path()).is_empty());
}

#[tokio::test]
async fn rows_that_make_no_state_stop_the_opening() {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    store.apply(vec![put(1, 0, "poison=1")]).await;
    drop(store);
    let error = loop {
        match try_open(dir.path()) {
            Err(Error::Locked { .. }) => tokio::task::yield_now().await,
            opened => break opened.err().expect("refused"),
        }
    };
    assert!(matches!(error, Error::Restore { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_seen_in_order_and_as_of_one_moment() {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    store.fill(0..100).await;
    let log = store.log.clone();
    let keys = log.with_rows(|view| {
        let next = put(1, 100, "key-000a=later");
        futures::executor::block_on(store.apply(vec![next]));
        assert_eq!(view.applied().unwrap(), Some(EntryId { term: 1, index: 99 }));
        view.rows().take(3).map(|row| row.unwrap().0.to_vec()).collect::<Vec<_>>()
    });
    assert_eq!(keys, [b"key-000".to_vec(), b"key-001".to_vec(), b"key-002".to_vec()]);
}
