//! The log and the database in numbers, for metrics: where the log ends, and what RocksDB says of itself. Cheap: nothing is
//! read from disk, and sizes are RocksDB's estimates.

use std::ffi::CStr;

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

impl LogStore {
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
