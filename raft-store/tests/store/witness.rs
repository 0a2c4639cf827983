//! A database that has lost what was acknowledged is noticed, and what was taken back in order is none.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::{Store, log_id, put, reopen, try_open};
use goat_raft_store::{EntryId, Error, Offline, Promised, TypeConfig};
use openraft::alias::VoteOf;
use openraft::storage::RaftLogStorage;
use tempfile::TempDir;

/// Entries 0 to 19 were acknowledged, and the store is closed.
async fn used() -> TempDir {
    let dir = TempDir::new().unwrap();
    let mut store = try_open(dir.path()).unwrap();
    store.fill(0..10).await;
    store.fill(10..20).await;
    close(store, dir.path());
    dir
}

/// Background work on it may still be ending.
fn close(store: Store, dir: &Path) {
    drop(store);
    let deadline = Instant::now() + Duration::from_secs(10);
    while matches!(Offline::open(dir), Err(Error::Locked { .. })) {
        assert!(Instant::now() < deadline, "it does not close");
        std::thread::yield_now();
    }
}

fn write_ahead_log(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|end| end == "log"));
    logs.max_by_key(|path| path.metadata().unwrap().len()).expect("there is one")
}

fn refusal(dir: &Path) -> String {
    let error = try_open(dir).err().expect("refused");
    assert!(matches!(error, Error::Forgotten { .. }), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_write_ahead_log_that_lost_its_middle_or_its_end_is_noticed() {
    let dir = used().await;
    let path = write_ahead_log(dir.path());
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    for damaged in [&flipped[..], &whole[..whole.len() / 2], &[]] {
        let dir = used().await;
        let path = write_ahead_log(dir.path());
        fs::write(&path, damaged).unwrap();
        let said = refusal(dir.path());
        assert!(said.contains("had acknowledged everything up to T1.19"), "{said}");
        assert!(said.contains("db is damaged: it holds") && said.contains("join the cluster anew"), "{said}");
        let (promised, held) = Offline::open(dir.path()).unwrap().promised().unwrap();
        assert!(held.is_less_than(&promised.expect("it is whole")));
    }
}

#[tokio::test]
async fn an_older_database_is_noticed() {
    let dir = used().await;
    let other = TempDir::new().unwrap();
    let mut store = try_open(other.path()).unwrap();
    store.fill(0..10).await;
    close(store, other.path());
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    fs::rename(other.path().join("db"), dir.path().join("db")).unwrap();
    assert!(refusal(dir.path()).contains("it holds everything up to T1.9"));
}

#[tokio::test]
async fn entries_that_were_taken_back_were_not_lost() {
    let dir = used().await;
    let mut store = reopen(dir.path());
    store.log.truncate_after(Some(log_id(1, 4))).await.unwrap();
    close(store, dir.path());
    let last = |index, term| Some(EntryId { term, index });
    let promised = || Offline::open(dir.path()).unwrap().promised().unwrap().0;
    assert_eq!(promised(), Some(Promised { term: 0, last: last(4, 1) }));
    let mut store = reopen(dir.path());
    store.append(vec![put(2, 5, "a=b")]).await;
    store.log.save_vote(&VoteOf::<TypeConfig>::new(3, 1)).await.unwrap();
    close(store, dir.path());
    assert_eq!(promised(), Some(Promised { term: 3, last: last(5, 2) }));
    drop(reopen(dir.path()));
}

#[tokio::test]
async fn a_directory_without_a_whole_witness_gets_one() {
    let dir = used().await;
    for damaged in [None, Some("GOATPROM")] {
        match damaged {
            None => fs::remove_file(dir.path().join("PROMISED")).unwrap(),
            Some(text) => fs::write(dir.path().join("PROMISED"), text).unwrap(),
        }
        close(reopen(dir.path()), dir.path());
        let (promised, held) = Offline::open(dir.path()).unwrap().promised().unwrap();
        assert_eq!(promised, Some(held));
    }
}
