//! The log beyond openraft's suite: reading across memory and disk, order, and what a restart finds.

use crate::common::{Entry, log_id, put, reopen, try_open};
use futures::StreamExt;
use goat_raft_store::{EntryId, LogEnds, TypeConfig};
use openraft::alias::VoteOf;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use tempfile::TempDir;

fn entries(range: std::ops::Range<u64>) -> Vec<Entry> {
    range.map(|index| put(1, index, format!("k{index}=v{index}"))).collect()
}

#[tokio::test]
async fn a_read_crosses_from_disk_to_memory_without_a_seam() {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    for start in (0..1_000).step_by(10) {
        store.append(entries(start..start + 10)).await;
    }
    for range in [0..1_000, 0..5, 970..1_000, 980..990, 983..985, 999..1_000, 500..5_000] {
        let read = store.log.try_get_log_entries(range.clone()).await.unwrap();
        assert_eq!(read, entries(range.start..range.end.min(1_000)), "{range:?}");
    }
    let streamed: Vec<_> = store.log.entries_stream(0..1_000).await.map(Result::unwrap).collect().await;
    assert_eq!(streamed, entries(0..1_000));
}

#[tokio::test]
async fn entries_can_be_read_before_they_are_synced() {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    for index in 0..500 {
        store.log.append(entries(index..index + 1), IOFlushed::noop()).await.unwrap();
        let read = store.log.try_get_log_entries(index..=index).await.unwrap();
        assert_eq!(read, entries(index..index + 1));
    }
}

#[tokio::test]
async fn a_log_far_larger_than_one_piece_streams_whole() {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    let large = |index| put(1, index, vec![b'x'; 100_000]);
    for index in 0..100 {
        store.append(vec![large(index)]).await;
    }
    let mut indexes = store.log.entries_stream(0..100).await.map(|entry| entry.unwrap().log_id.index());
    for index in 0..100 {
        assert_eq!(indexes.next().await, Some(index));
    }
    assert_eq!(indexes.next().await, None);
    drop(indexes);
    let limited = store.log.limited_get_log_entries(0, 100).await.unwrap();
    assert!(!limited.is_empty() && limited.len() < 100, "one answer to a follower is bounded: {}", limited.len());
}

#[tokio::test]
async fn an_append_that_leaves_a_hole_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    store.append(entries(0..3)).await;
    assert!(store.log.blocking_append(entries(4..5)).await.is_err());
    assert!(store.log.blocking_append(entries(2..3)).await.is_err());
    store.append(entries(3..5)).await;
}

#[tokio::test]
async fn what_was_truncated_stays_away_after_a_restart() {
    let dir = TempDir::new().unwrap();
    {
        let mut store = try_open(dir.path()).unwrap();
        store.append(entries(0..3_000)).await;
        store.log.truncate_after(Some(log_id(1, 99))).await.unwrap();
        store.append(vec![put(2, 100, "new=1"), put(2, 101, "new=2")]).await;
        store.log.truncate_after(Some(log_id(2, 100))).await.unwrap();
    }
    let mut store = reopen(dir.path());
    assert_eq!(store.log.ends(), LogEnds { purged: None, last: Some(EntryId { term: 2, index: 100 }) });
    let mut expected = entries(0..100);
    expected.push(put(2, 100, "new=1"));
    assert_eq!(store.log.try_get_log_entries(0..).await.unwrap(), expected);
}

#[tokio::test]
async fn a_restart_finds_vote_commit_and_both_ends_of_the_log() {
    let dir = TempDir::new().unwrap();
    let vote = VoteOf::<TypeConfig>::new_committed(7, 3);
    {
        let mut store = try_open(dir.path()).unwrap();
        store.append(entries(0..2_500)).await;
        store.log.save_vote(&vote).await.unwrap();
        store.log.purge(log_id(1, 1_999)).await.unwrap();
        store.log.save_committed(Some(log_id(1, 2_300))).await.unwrap();
    }
    let mut store = reopen(dir.path());
    assert_eq!(store.log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(store.log.read_committed().await.unwrap(), Some(log_id(1, 2_300)));
    let state = store.log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(1, 1_999)), Some(log_id(1, 2_499))));
    assert_eq!(store.log.try_get_log_entries(0..).await.unwrap(), entries(2_000..2_500));
    assert!(store.log.data_dir().ends_with(dir.path()));
}

#[tokio::test]
async fn a_log_purged_beyond_its_end_goes_on_from_there() {
    let dir = TempDir::new().unwrap();
    {
        let mut store = try_open(dir.path()).unwrap();
        store.append(entries(0..10)).await;
        store.log.purge(log_id(1, 50)).await.unwrap();
        store.append(entries(51..53)).await;
    }
    let mut store = reopen(dir.path());
    assert_eq!(store.log.try_get_log_entries(0..).await.unwrap(), entries(51..53));
}

#[tokio::test]
async fn a_restart_reads_the_rows_and_applies_only_the_tail() {
    let dir = TempDir::new().unwrap();
    {
        let mut store = try_open(dir.path()).unwrap();
        store.append(vec![crate::common::membership(1, 0)]).await;
        store.apply(vec![crate::common::membership(1, 0)]).await;
        store.fill(1..1_000).await;
        store.append((1_000..1_020).map(|index| put(1, index, format!("late-{index}=1"))).collect()).await;
        store.log.save_vote(&VoteOf::<TypeConfig>::new_committed(1, 1)).await.unwrap();
        store.log.save_committed(Some(log_id(1, 1_009))).await.unwrap();
    }
    let mut store = reopen(dir.path());
    assert_eq!(store.toy.rows().len(), 100);
    assert_eq!(store.toy.0.lock().published, Some(EntryId { term: 1, index: 999 }));
    assert!(store.toy.0.lock().applied.is_empty(), "opening applies nothing");
    let (applied, membership) = store.machine.applied_state().await.unwrap();
    assert_eq!(applied, Some(log_id(1, 999)));
    assert_eq!(membership.log_id(), &Some(log_id(1, 0)));

    // What openraft does at a start.
    let mut helper = openraft::StorageHelper::<TypeConfig, _, _>::new(&mut store.log, &mut store.machine);
    helper.get_initial_state().await.unwrap();
    let applied: Vec<u64> = store.toy.0.lock().applied.iter().map(|at| at.index).collect();
    assert_eq!(applied, (1_000..1_010).collect::<Vec<_>>());
}
