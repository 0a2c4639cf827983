//! RocksDB takes a `MANIFEST` without its end for one that a crash has cut, and goes on without what stood there: with a
//! database that has lost its middle, or a whole family. Such a one is not opened.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Entry, Rows, Toy, options, put};
use goat_raft_store::{EntryId, Error, LogStore, MachineStore, Reply, Restored, RowChanges, StateMachine, TypeConfig};
use openraft::alias::VoteOf;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use tempfile::TempDir;

/// Between two places where it is cut.
const STEP: usize = 17;
const LAST: &[u8] = b"last";

/// A toy whose rows say which command was the last, as a manager's do.
#[derive(Default, Clone)]
struct Known(Toy);

impl StateMachine for Known {
    fn restore(&mut self, rows: &mut dyn Iterator<Item = (Box<[u8]>, Box<[u8]>)>) -> Restored {
        self.0.restore(rows)?;
        let last = self.0.rows().get(LAST).map(|index| String::from_utf8_lossy(index).parse());
        Ok(Some(last.transpose()?.unwrap_or(0)))
    }

    fn apply(&mut self, at: EntryId, command: &[u8], rows: &mut RowChanges) -> Reply {
        rows.put(LAST, at.index.to_string());
        self.0.apply(at, command, rows)
    }

    fn published(&mut self, at: EntryId) {
        self.0.published(at);
    }
}

fn try_open(dir: &Path) -> Result<(LogStore, MachineStore<Known>, Toy), Error> {
    let known = Known::default();
    let toy = known.0.clone();
    goat_raft_store::open(options(dir), known).map(|(log, machine)| (log, machine, toy))
}

/// Background work on it may still be ending.
fn open(dir: &Path) -> (LogStore, MachineStore<Known>, Toy) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match try_open(dir) {
            Err(Error::Locked { .. }) if Instant::now() < deadline => std::thread::yield_now(),
            opened => return opened.expect("it opens"),
        }
    }
}

/// Each life moves what the one before has left in the write-ahead log into tables.
async fn live(dir: &Path, life: u64) {
    let (mut log, mut machine, _) = open(dir);
    log.save_vote(&VoteOf::<TypeConfig>::new(1, 1)).await.unwrap();
    let entries: Vec<Entry> = (life * 10..life * 10 + 10).map(command).collect();
    log.blocking_append(entries.clone()).await.unwrap();
    let ready = futures::stream::iter(entries.into_iter().map(|entry| Ok((entry, None))));
    machine.apply(ready).await.unwrap();
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

fn command(index: u64) -> Entry {
    put(1, index, format!("key-{index}=value"))
}

/// What rows are after the first `applied` entries.
fn rows(applied: u64) -> Rows {
    let rows = (0..applied).map(|index| (format!("key-{index}").into_bytes(), b"value".to_vec()));
    let last = applied.checked_sub(1).map(|last| (LAST.to_vec(), last.to_string().into_bytes()));
    rows.chain(last).collect()
}

/// Nothing that was acknowledged is missing. Rows may be older, and are brought up from the log then, if they know it.
async fn assert_whole((mut log, machine, toy): (LogStore, MachineStore<Known>, Toy), entries: u64, context: &str) {
    let found = log.try_get_log_entries(0..).await.unwrap();
    assert_eq!(found, (0..entries).map(command).collect::<Vec<_>>(), "{context}");
    assert_eq!(log.read_vote().await.unwrap(), Some(VoteOf::<TypeConfig>::new(1, 1)), "{context}");
    let applied = machine.applied().map_or(0, |applied| applied.index + 1);
    assert_eq!(toy.rows(), rows(applied), "{context}");
}

/// Whether it was refused; else nothing is missing.
async fn is_refused(whole: &Path, length: usize, entries: u64, has_witness: bool) -> bool {
    let damaged = TempDir::new().unwrap();
    copy(whole, damaged.path());
    if !has_witness {
        fs::remove_file(damaged.path().join("PROMISED")).unwrap();
    }
    let bytes = fs::read(manifest(whole)).unwrap();
    fs::write(manifest(damaged.path()), &bytes[..length]).unwrap();
    match try_open(damaged.path()) {
        Err(error) => {
            let is_of_it = error.to_string().contains(&damaged.path().display().to_string());
            assert!(is_of_it && !matches!(error, Error::Locked { .. }), "cut to {length}: {error}");
            true
        }
        Ok(store) => {
            assert_whole(store, entries, &format!("cut to {length} of {} bytes", bytes.len())).await;
            false
        }
    }
}

/// Cuts it everywhere; in how many places that was refused, and in how many nothing was missing.
async fn cut(lives: u64, has_witness: bool) -> (usize, usize) {
    let dir = TempDir::new().unwrap();
    for life in 0..lives {
        live(dir.path(), life).await;
    }
    let length = fs::metadata(manifest(dir.path())).unwrap().len() as usize;
    let (mut refused, mut unharmed) = (0, 0);
    for length in (1..length).step_by(STEP) {
        if is_refused(dir.path(), length, lives * 10, has_witness).await { refused += 1 } else { unharmed += 1 }
    }
    println!("{lives} lives, witness {has_witness}: {refused} refused, {unharmed} unharmed");
    (refused, unharmed)
}

#[tokio::test]
async fn one_that_was_cut_anywhere_is_refused() {
    for lives in 1..4 {
        assert_eq!(cut(lives, true).await.1, 0);
    }
}

/// What is left is looked at too: a log with a hole, rows that are older than what was applied to them.
#[tokio::test]
async fn without_a_witness_it_is_refused_or_nothing_was_lost_with_it() {
    assert!(cut(1, false).await.0 > 0);
}
