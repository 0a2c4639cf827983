//! The database as RocksDB: one column family for each of ours, and its options.

use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};

use goat_rocksdb::{Cache, Db, ErrorKind, LogLevel, Options, RecoveryMode, TableOptions};

use crate::db::DirLock;
use crate::engine::{Batch, Change, Engine, Family, Manifest, Pair, Pairs, Read};
use crate::error::Error;

const MIB: usize = 1 << 20;
const BLOCK_CACHE_BYTES: usize = 4 * MIB;
/// What may have to be replayed at a start, roughly.
const MAX_WAL_BYTES: u64 = 64 << 20;

/// An open RocksDB.
pub(crate) struct Rocks {
    db: Db,
    path: PathBuf,
    // Declared last, so that it is released after the database is closed.
    _lock: Option<DirLock>,
}

impl std::fmt::Debug for Rocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rocks").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Rocks {
    pub(crate) fn open(path: &Path, lock: DirLock) -> Result<Self, Error> {
        Self::open_with(&db_options(), path, lock)
    }

    fn open_with(options: &Options, path: &Path, lock: DirLock) -> Result<Self, Error> {
        let db = Db::open(options, path, &families()).map_err(|error| classify(path, error))?;
        Ok(Self { db, path: path.to_path_buf(), _lock: Some(lock) })
    }

    /// To look at; see [`crate::db::Db::open_read_only`].
    pub(crate) fn open_read_only(path: &Path, lock: Option<DirLock>) -> Result<Self, Error> {
        let mut options = db_options();
        options.set_create_if_missing(false);
        options.set_create_missing_families(false);
        options.set_wal_recovery_mode(RecoveryMode::TolerateCorruptedTail);
        let db = Db::open_read_only(&options, path, &families()).map_err(|error| classify(path, error))?;
        Ok(Self { db, path: path.to_path_buf(), _lock: lock })
    }

    fn error(&self, error: goat_rocksdb::Error) -> Error {
        classify(&self.path, error)
    }
}

impl Read for Rocks {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.db.get(number(family), key).map_err(|error| self.error(error))
    }

    fn scan<'a>(&'a self, family: Family, from: &[u8], until: Option<&[u8]>) -> Pairs<'a> {
        let pairs = self.db.scan(number(family), from, until);
        Box::new(pairs.map(|pair| pair.map_err(|error| self.error(error))))
    }

    fn last(&self, family: Family) -> Result<Option<Pair>, Error> {
        self.db.last(number(family)).map_err(|error| self.error(error))
    }
}

impl Engine for Rocks {
    fn write(&self, batch: Batch, is_synced: bool) -> Result<(), Error> {
        let mut all = self.db.batch();
        for change in batch.changes() {
            match change {
                Change::Put(family, key, value) => all.put(number(*family), key, value),
                Change::Delete(family, key) => all.delete(number(*family), key),
                Change::DeleteRange(family, from, until) => all.delete_range(number(*family), from, until),
            }
        }
        all.write(is_synced).map_err(|error| self.error(error))
    }

    fn property(&self, family: Family, name: &CStr) -> Option<u64> {
        self.db.property(number(family), name)
    }

    fn manifest(&self) -> Option<Manifest> {
        manifest(&self.path)
    }

    fn view(&self, show: &mut dyn FnMut(&dyn Read)) {
        show(&RocksView { rocks: self, view: self.db.snapshot() });
    }
}

/// RocksDB at one moment.
struct RocksView<'a> {
    rocks: &'a Rocks,
    view: goat_rocksdb::Snapshot<'a>,
}

impl Read for RocksView<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.view.get(number(family), key).map_err(|error| self.rocks.error(error))
    }

    fn scan<'a>(&'a self, family: Family, from: &[u8], until: Option<&[u8]>) -> Pairs<'a> {
        let pairs = self.view.scan(number(family), from, until);
        Box::new(pairs.map(|pair| pair.map_err(|error| self.rocks.error(error))))
    }

    fn last(&self, family: Family) -> Result<Option<Pair>, Error> {
        self.view.last(number(family)).map_err(|error| self.rocks.error(error))
    }
}

/// The list of files of the database in a directory; None where there is none, of which RocksDB will have its own word.
pub(crate) fn manifest(path: &Path) -> Option<Manifest> {
    let current = std::fs::read_to_string(path.join("CURRENT")).ok()?;
    let name = current.trim_end();
    let number = name.strip_prefix("MANIFEST-")?.parse().ok()?;
    let bytes = std::fs::metadata(path.join(name)).ok()?.len();
    Some(Manifest { number, bytes })
}

/// The column families in the order of [`number`].
fn families() -> [(&'static CStr, Options); 3] {
    let cache = Cache::lru(BLOCK_CACHE_BYTES);
    Family::ALL.map(|family| {
        let (name, write_buffer_bytes) = match family {
            // The log is written once, read back rarely and soon removed.
            Family::Log => (c"log", 8 * MIB),
            Family::Meta => (c"meta", MIB),
            Family::Rows => (c"rows", 4 * MIB),
        };
        (name, family_options(&cache, write_buffer_bytes))
    })
}

/// The family's number in the open database.
fn number(family: Family) -> usize {
    match family {
        Family::Log => 0,
        Family::Meta => 1,
        Family::Rows => 2,
    }
}

fn db_options() -> Options {
    let mut options = Options::default();
    options.set_create_if_missing(true);
    options.set_create_missing_families(true);
    // A torn end of the log is what a crash leaves: keep everything before it. What was acknowledged was synced, and is.
    options.set_wal_recovery_mode(RecoveryMode::PointInTime);
    options.set_max_total_wal_bytes(MAX_WAL_BYTES);
    options.set_max_background_jobs(2);
    options.set_max_open_files(128);
    options.set_bytes_per_sync(MIB as u64);
    // RocksDB's own diary is for debugging RocksDB.
    options.set_log_level(LogLevel::Warn);
    options.set_kept_log_files(2);
    options.set_max_log_file_bytes(MIB);
    options.set_stats_dump_period_s(0);
    options.set_stats_persist_period_s(0);
    options
}

fn family_options(cache: &Cache, write_buffer_bytes: usize) -> Options {
    let mut tables = TableOptions::default();
    tables.set_block_cache(cache);
    tables.set_cache_index_and_filter_blocks(true);
    // Every release from 6.6 on reads it; newer ones would write 6 by default.
    tables.set_format_version(5);
    let mut options = Options::default();
    options.set_tables(&tables);
    options.set_write_buffer_bytes(write_buffer_bytes);
    options.set_max_write_buffers(3);
    options.set_target_file_bytes(8 << 20);
    // Every build of the library reads it; the data is small.
    options.disable_compression();
    options
}

fn classify(path: &Path, error: goat_rocksdb::Error) -> Error {
    let path = path.to_path_buf();
    match error.kind() {
        // "Invalid argument" is what a missing or unknown column family gives.
        ErrorKind::Corruption | ErrorKind::InvalidArgument => Error::Corrupt { path, reason: error.into_message() },
        ErrorKind::Io if error.message().contains("No space left") => Error::Io {
            action: "write the database in",
            path,
            source: io::Error::new(io::ErrorKind::StorageFull, error.into_message()),
        },
        _ => Error::Database { path, source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the write-ahead log was synced, by RocksDB's own count.
    fn syncs(options: &Options) -> u64 {
        let told = options.statistics().expect("they are on");
        let line = told.lines().find_map(|line| line.strip_prefix("rocksdb.wal.synced COUNT : "));
        line.and_then(|count| count.trim().parse().ok()).expect("it is counted")
    }

    #[test]
    fn what_has_to_be_synced_is_and_nothing_else() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let mut options = db_options();
        options.enable_statistics();
        let lock = DirLock::take(dir.path()).expect("nobody else has it");
        let rocks = Rocks::open_with(&options, &dir.path().join("db"), lock).expect("an empty directory");
        let before = syncs(&options);
        for (count, is_synced) in [(1, true), (1, false), (2, true), (2, false)] {
            let mut batch = Batch::default();
            batch.put(Family::Log, *b"key", *b"value");
            rocks.write(batch, is_synced).expect("a healthy disk");
            assert_eq!(syncs(&options) - before, count, "is_synced: {is_synced}");
        }
    }
}
