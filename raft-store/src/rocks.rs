//! The database as RocksDB: one column family for each of ours, and its options.

use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Direction,
    ErrorKind, IteratorMode, LogLevel, ReadOptions, WriteBatch, WriteOptions,
};

use crate::db::DirLock;
use crate::engine::{Batch, Change, Engine, Family, Manifest, Pair, Pairs, Read};
use crate::error::Error;

const MIB: usize = 1 << 20;
const BLOCK_CACHE_BYTES: usize = 4 * MIB;
/// What may have to be replayed at a start, roughly.
const MAX_WAL_BYTES: u64 = 64 << 20;

/// An open RocksDB.
pub(crate) struct Rocks {
    db: DB,
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

    fn open_with(options: &rocksdb::Options, path: &Path, lock: DirLock) -> Result<Self, Error> {
        let db = DB::open_cf_descriptors(options, path, families(path)?);
        let db = db.map_err(|error| classify(path, error))?;
        Ok(Self { db, path: path.to_path_buf(), _lock: Some(lock) })
    }

    /// To look at; see [`crate::db::Db::open_read_only`].
    pub(crate) fn open_read_only(path: &Path, lock: Option<DirLock>) -> Result<Self, Error> {
        let mut options = db_options();
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        let db = DB::open_cf_descriptors_read_only(&options, path, families(path)?, false);
        let db = db.map_err(|error| classify(path, error))?;
        Ok(Self { db, path: path.to_path_buf(), _lock: lock })
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("all column families are opened with the database")
    }

    fn error(&self, error: rocksdb::Error) -> Error {
        classify(&self.path, error)
    }
}

impl Read for Rocks {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.db.get_cf(self.family(family), key).map_err(|error| self.error(error))
    }

    fn scan<'a>(&'a self, family: Family, from: &[u8], until: Option<&[u8]>) -> Pairs<'a> {
        let mode = IteratorMode::From(from, Direction::Forward);
        let pairs = self.db.iterator_cf_opt(self.family(family), bounded(until), mode);
        Box::new(pairs.map(|pair| pair.map_err(|error| self.error(error))))
    }

    fn last(&self, family: Family) -> Result<Option<Pair>, Error> {
        let last = self.db.iterator_cf(self.family(family), IteratorMode::End).next();
        last.transpose().map_err(|error| self.error(error))
    }
}

impl Engine for Rocks {
    fn write(&self, batch: Batch, is_synced: bool) -> Result<(), Error> {
        let mut all = WriteBatch::default();
        for change in batch.changes() {
            match change {
                Change::Put(family, key, value) => all.put_cf(self.family(*family), key, value),
                Change::Delete(family, key) => all.delete_cf(self.family(*family), key),
                Change::DeleteRange(family, from, until) => all.delete_range_cf(self.family(*family), from, until),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(is_synced);
        self.db.write_opt(all, &options).map_err(|error| self.error(error))
    }

    fn property(&self, family: Family, name: &CStr) -> Option<u64> {
        self.db.property_int_value_cf(self.family(family), name).ok().flatten()
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
    view: rocksdb::Snapshot<'a>,
}

impl Read for RocksView<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.view.get_cf(self.rocks.family(family), key).map_err(|error| self.rocks.error(error))
    }

    fn scan<'a>(&'a self, family: Family, from: &[u8], until: Option<&[u8]>) -> Pairs<'a> {
        let mode = IteratorMode::From(from, Direction::Forward);
        let pairs = self.view.iterator_cf_opt(self.rocks.family(family), bounded(until), mode);
        Box::new(pairs.map(|pair| pair.map_err(|error| self.rocks.error(error))))
    }

    fn last(&self, family: Family) -> Result<Option<Pair>, Error> {
        let last = self.view.iterator_cf(self.rocks.family(family), IteratorMode::End).next();
        last.transpose().map_err(|error| self.rocks.error(error))
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

fn bounded(until: Option<&[u8]>) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(until) = until {
        options.set_iterate_upper_bound(until.to_vec());
    }
    options
}

fn families(path: &Path) -> Result<[ColumnFamilyDescriptor; 3], Error> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES).map_err(|error| classify(path, error))?;
    Ok(Family::ALL.map(|family| {
        let write_buffer_bytes = match family {
            // The log is written once, read back rarely and soon removed.
            Family::Log => 8 * MIB,
            Family::Meta => MIB,
            Family::Rows => 4 * MIB,
        };
        ColumnFamilyDescriptor::new(family.name(), family_options(&cache, write_buffer_bytes))
    }))
}

fn db_options() -> rocksdb::Options {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A torn end of the log is what a crash leaves: keep everything before it. What was acknowledged was synced, and is.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    options.set_max_background_jobs(2);
    options.set_max_open_files(128);
    options.set_bytes_per_sync(MIB as u64);
    // RocksDB's own diary is for debugging RocksDB.
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(MIB);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn family_options(cache: &Cache, write_buffer_bytes: usize) -> rocksdb::Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_format_version(5);
    let mut options = rocksdb::Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(write_buffer_bytes);
    options.set_max_write_buffer_number(3);
    options.set_target_file_size_base(8 << 20);
    // Every build of the library reads it; the data is small.
    options.set_compression_type(DBCompressionType::None);
    options
}

fn classify(path: &Path, error: rocksdb::Error) -> Error {
    let path = path.to_path_buf();
    match error.kind() {
        // "Invalid argument" is what a missing or unknown column family gives.
        ErrorKind::Corruption | ErrorKind::InvalidArgument => Error::Corrupt { path, reason: error.into_string() },
        ErrorKind::IOError if error.as_ref().contains("No space left") => Error::Io {
            action: "write the database in",
            path,
            source: io::Error::new(io::ErrorKind::StorageFull, error.into_string()),
        },
        _ => Error::Database { path, source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the write-ahead log was synced, by RocksDB's own count.
    fn syncs(options: &rocksdb::Options) -> u64 {
        let told = options.get_statistics().expect("they are on");
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
