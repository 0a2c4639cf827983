//! RocksDB takes a `MANIFEST` without its end for one that a crash has cut, and goes on without what stood there: with a
//! database that has lost its middle. Such a one is not opened.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{put, reopen, try_open};
use goat_raft_store::{EntryId, Error};
use openraft::storage::RaftLogReader;
use tempfile::TempDir;

/// Between two places where it is cut.
const STEP: usize = 41;

/// A store that was opened often: each time moves what its write-ahead log holds into tables.
async fn used(dir: &Path) {
    for life in 0..4_u64 {
        let mut store = reopen(dir);
        store.fill(life * 10..life * 10 + 10).await;
    }
    drop(reopen(dir));
    let mut store = reopen(dir);
    store.append(vec![put(1, 40, "key-late=value")]).await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn manifest(dir: &Path) -> PathBuf {
    let name = fs::read_to_string(dir.join("db/CURRENT")).unwrap();
    dir.join("db").join(name.trim())
}

#[tokio::test]
async fn one_that_was_cut_anywhere_is_refused_or_nothing_was_lost_with_it() {
    let dir = TempDir::new().unwrap();
    used(dir.path()).await;
    let mut store = reopen(dir.path());
    let rows = store.toy.rows();
    assert_eq!(rows.len(), 40);
    let entries = store.log.try_get_log_entries(0..).await.unwrap();
    drop(store);
    drop(reopen(dir.path()));
    let whole = fs::read(manifest(dir.path())).unwrap();
    let (mut refused, mut unharmed) = (0, 0);
    for length in (1..whole.len()).step_by(STEP) {
        let damaged = TempDir::new().unwrap();
        copy(dir.path(), damaged.path());
        fs::write(manifest(damaged.path()), &whole[..length]).unwrap();
        match try_open(damaged.path()) {
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. } | Error::Forgotten { .. }), "{length}: {error}");
                assert!(error.to_string().contains(&damaged.path().display().to_string()), "{error}");
                refused += 1;
            }
            Ok(mut store) => {
                assert_eq!(store.toy.rows(), rows, "cut to {length} of {} bytes", whole.len());
                assert_eq!(store.log.try_get_log_entries(0..).await.unwrap(), entries);
                assert_eq!(store.log.ends().last, Some(EntryId { term: 1, index: 40 }));
                unharmed += 1;
            }
        }
    }
    println!("{refused} refused, {unharmed} unharmed");
    assert!(refused > 0);
}
