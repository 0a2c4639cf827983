//! A database of which a part is missing is not opened, though what is there can be read.

use crate::common::disk::{Disk, Tables, base};
use crate::common::{Toy, options, put};
use goat_raft_store::engine::Family;
use goat_raft_store::{EntryId, Reply, Restored, RowChanges, StateMachine};
use openraft::storage::{RaftLogStorageExt, RaftStateMachine};
use tempfile::TempDir;
use tokio::sync::Semaphore;

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

/// What a store leaves that has applied entries 0 to 19.
async fn used() -> Tables {
    let disk = Disk::of(Tables::default(), Semaphore::MAX_PERMITS);
    let dir = TempDir::new().unwrap();
    let (mut log, mut machine) =
        goat_raft_store::open_base(options(dir.path()), Known::default(), base(&disk)).unwrap();
    let entries: Vec<_> = (0..20).map(|index| put(1, index, format!("key-{index}=value"))).collect();
    log.blocking_append(entries.clone()).await.unwrap();
    machine.apply(futures::stream::iter(entries.into_iter().map(|entry| Ok((entry, None))))).await.unwrap();
    disk.now.lock().clone()
}

/// Why it is not opened; None where it is.
fn refusal(tables: Tables) -> Option<String> {
    let disk = Disk::of(tables, Semaphore::MAX_PERMITS);
    let dir = TempDir::new().unwrap();
    let opened = goat_raft_store::open_base(options(dir.path()), Known::default(), base(&disk));
    opened.err().map(|error| error.to_string())
}

#[tokio::test]
async fn a_log_with_a_hole_is_not_opened() {
    let whole = used().await;
    assert_eq!(refusal(whole.clone()), None);
    for index in 0..19_u64 {
        let mut tables = whole.clone();
        tables.0.remove(&(Family::Log, index.to_be_bytes().to_vec()));
        let said = refusal(tables).expect("a hole");
        assert!(said.contains(&format!("the log has nothing from {index} to T1.{}", index + 1)), "{said}");
    }
}

#[tokio::test]
async fn rows_that_lack_what_was_applied_are_not_opened() {
    let whole = used().await;
    let last = |tables: &mut Tables, last: &str| {
        tables.0.insert((Family::Rows, LAST.to_vec()), last.into());
    };
    for (index, is_refused) in [("19", false), ("18", true), ("3", true)] {
        let mut tables = whole.clone();
        last(&mut tables, index);
        let said = refusal(tables);
        assert_eq!(said.is_some(), is_refused, "{index}: {said:?}");
        assert!(said.is_none_or(|said| said.contains(&format!("its rows end with entry {index}"))));
    }
    let mut tables = whole;
    tables.0.retain(|(family, _), _| *family != Family::Rows);
    assert!(refusal(tables).is_some(), "a family that is gone");
}
