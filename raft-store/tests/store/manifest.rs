//! RocksDB takes a `MANIFEST` without its end for one that a crash has cut, and goes on without what stood there: with a
//! database that has lost its middle, or a whole family. Such a one is not opened.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{reopen, try_open};
use goat_raft_store::{Error, Offline, TypeConfig};
use openraft::alias::VoteOf;
use openraft::storage::RaftLogStorage;
use tempfile::TempDir;

/// Between two places where it is cut.
const STEP: usize = 17;

/// Each life moves what the one before has left in the write-ahead log into tables.
async fn live(dir: &Path, life: u64) {
    let mut store = reopen(dir);
    store.log.save_vote(&VoteOf::<TypeConfig>::new(1, 1)).await.unwrap();
    store.fill(life * 10..life * 10 + 10).await;
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
async fn one_that_was_cut_anywhere_is_refused() {
    let dir = TempDir::new().unwrap();
    for life in 0..3 {
        live(dir.path(), life).await;
        drop(reopen(dir.path()));
        let whole = fs::read(manifest(dir.path())).unwrap();
        for length in (1..whole.len()).step_by(STEP) {
            let damaged = TempDir::new().unwrap();
            copy(dir.path(), damaged.path());
            fs::write(manifest(damaged.path()), &whole[..length]).unwrap();
            let looked_at = Offline::open(damaged.path()).err();
            let opened = try_open(damaged.path()).err();
            for error in [looked_at, opened] {
                let error = error.unwrap_or_else(|| panic!("cut to {length} of {} bytes", whole.len()));
                assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                assert!(error.to_string().contains(&damaged.path().display().to_string()), "{error}");
            }
        }
    }
}
