//! The log and the database in numbers, for metrics: where the log ends, and what RocksDB says of itself. Cheap: nothing is
//! read from disk, and sizes are RocksDB's estimates.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rocksdb::properties;

use crate::db::Db;
use crate::engine::Family;
use crate::types::EntryId;

use super::LogStore;

/// The two ends of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnds {
    /// The last entry that was removed because a snapshot has it.
    pub purged: Option<EntryId>,
    /// The last entry, acknowledged or not; `purged` where none is left.
    pub last: Option<EntryId>,
}

/// Of one column family; see `db` for which there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyStats {
    pub name: &'static str,
    pub files_bytes: u64,
    pub live_bytes: u64,
    pub memtables_bytes: u64,
    pub pending_compaction_bytes: u64,
}

/// Of a manager's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStats {
    pub families: Vec<FamilyStats>,
    pub block_cache_bytes: u64,
    pub running_compactions: u64,
    pub background_errors: u64,
    /// RocksDB takes no writes until it has compacted.
    pub is_write_stopped: bool,
    /// The newest snapshot's file; 0 where there is none.
    pub snapshot_bytes: u64,
}

/// The time that a synced write takes, as an average in which each new one weighs an eighth.
#[derive(Debug, Default)]
pub(super) struct SyncTime(AtomicU64);

impl SyncTime {
    /// Called by the writer alone.
    pub(super) fn record(&self, took: Duration) {
        let (average_us, took_us) = (self.0.load(Ordering::Relaxed), took.as_micros() as u64);
        let average_us = if average_us == 0 { took_us } else { (average_us * 7 + took_us) / 8 };
        self.0.store(average_us, Ordering::Relaxed);
    }
}

impl LogStore {
    /// How long it takes lately to make a write of the log durable; zero if nothing was written yet.
    pub fn sync_time(&self) -> Duration {
        Duration::from_micros(self.inner.sync_time.0.load(Ordering::Relaxed))
    }

    /// The term of the last vote; 0 if there was none yet.
    pub fn vote_term(&self) -> u64 {
        self.inner.tail.lock().vote.as_ref().map_or(0, |vote| vote.leader_id.term)
    }

    /// The two ends of the log.
    pub fn ends(&self) -> LogEnds {
        let tail = self.inner.tail.lock();
        LogEnds { purged: tail.purged.as_ref().map(EntryId::of), last: tail.last.as_ref().map(EntryId::of) }
    }

    /// As of now.
    pub fn stats(&self) -> StoreStats {
        let db = &*self.inner.db;
        let family = |family: Family| FamilyStats {
            name: family.name(),
            files_bytes: of_family(db, family, properties::TOTAL_SST_FILES_SIZE),
            live_bytes: of_family(db, family, properties::ESTIMATE_LIVE_DATA_SIZE),
            memtables_bytes: of_family(db, family, properties::CUR_SIZE_ALL_MEM_TABLES),
            pending_compaction_bytes: of_family(db, family, properties::ESTIMATE_PENDING_COMPACTION_BYTES),
        };
        StoreStats {
            families: Family::ALL.map(family).into(),
            // All families share one cache.
            block_cache_bytes: of_family(db, Family::Rows, properties::BLOCK_CACHE_USAGE),
            running_compactions: of_family(db, Family::Rows, properties::NUM_RUNNING_COMPACTIONS),
            background_errors: of_family(db, Family::Rows, properties::BACKGROUND_ERRORS),
            is_write_stopped: of_family(db, Family::Rows, properties::IS_WRITE_STOPPED) > 0,
            snapshot_bytes: self.inner.snapshots.current().map_or(0, |file| file.len_bytes()),
        }
    }
}

/// 0 where RocksDB does not say.
fn of_family(db: &Db, family: Family, property: &CStr) -> u64 {
    db.engine().property(family, property).unwrap_or(0)
}
