//! The RocksDB of one manager: its column families, keys and options. What the records mean is the log's and the
//! machine's affair.
//!
//! | column family | key | value |
//! | --- | --- | --- |
//! | `log` | index, 8 bytes big-endian | record: entry |
//! | `meta` | `vote` | record: the last vote, synced before it counts |
//! | `meta` | `purged` | record: the id of the last entry that was removed from the front of `log` |
//! | `meta` | `committed` | record: the last id known to be committed; may be behind |
//! | `meta` | `applied` | record: the id of the last entry whose rows are in `rows` |
//! | `meta` | `membership` | record: the last membership that was applied |
//! | `meta` | `installing` | name of the snapshot file whose rows are being put in place of `rows` |
//! | `rows` | the state machine's | the state machine's |
//!
//! Records are in [`crate::record`]'s format. All column families share one write-ahead log, and recovery keeps a prefix
//! of it: nothing survives a crash that was written after something that did not. So only votes and entries are synced.
//! Rows are not: when they are lost then with everything after them, and `applied` with them, and the entries they came
//! from are in the log, synced by a majority, to be applied again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, ErrorKind,
    LogLevel, WriteBatch, WriteOptions,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::record;

pub(crate) const LOG: &str = "log";
pub(crate) const META: &str = "meta";
pub(crate) const ROWS: &str = "rows";

pub(crate) const VOTE: &str = "vote";
pub(crate) const PURGED: &str = "purged";
pub(crate) const COMMITTED: &str = "committed";
pub(crate) const APPLIED: &str = "applied";
pub(crate) const MEMBERSHIP: &str = "membership";
pub(crate) const INSTALLING: &str = "installing";

const MIB: usize = 1 << 20;
const BLOCK_CACHE_BYTES: usize = 4 * MIB;
/// What may have to be replayed at a start, roughly.
const MAX_WAL_BYTES: u64 = 64 << 20;

/// The lock on a data directory. Held as long as anything of the store is.
#[derive(Debug)]
pub(crate) struct DirLock(#[allow(dead_code, reason = "unlocks when dropped")] Flock<File>);

impl DirLock {
    pub(crate) const FILE_NAME: &str = "LOCK";

    pub(crate) fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(Self::FILE_NAME);
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io("open", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::Locked { dir: dir.to_path_buf() }),
            Err((_, errno)) => Err(Error::io("lock", &path)(io::Error::from(errno))),
        }
    }

    /// The same without making the file: where it is missing, nothing has ever used the directory.
    pub(crate) fn take_existing(dir: &Path) -> Result<Option<Self>, Error> {
        if dir.join(Self::FILE_NAME).exists() { Self::take(dir).map(Some) } else { Ok(None) }
    }
}

/// The open database. The last owner closes it, and then releases the directory.
pub(crate) struct Db {
    db: DB,
    path: PathBuf,
    // Declared last, so that it is released after the database is closed.
    _lock: Option<DirLock>,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Db {
    pub(crate) fn open(path: PathBuf, lock: DirLock) -> Result<Self, Error> {
        let db = DB::open_cf_descriptors(&db_options(), &path, families(&path)?);
        let db = db.map_err(|error| classify(&path, error))?;
        Ok(Self { db, path, _lock: Some(lock) })
    }

    /// Opens it to look at, and changes no file. Only a torn end of the write-ahead log, as a crash leaves it, is passed
    /// over in silence: damage before it is an error here, where [`Self::open`] keeps what is in front of it.
    pub(crate) fn open_read_only(path: PathBuf, lock: Option<DirLock>) -> Result<Self, Error> {
        let mut options = db_options();
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        let db = DB::open_cf_descriptors_read_only(&options, &path, families(&path)?, false);
        let db = db.map_err(|error| classify(&path, error))?;
        Ok(Self { db, path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn raw(&self) -> &DB {
        &self.db
    }

    pub(crate) fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("all column families are opened with the database")
    }

    pub(crate) fn error(&self, error: rocksdb::Error) -> Error {
        classify(&self.path, error)
    }

    pub(crate) fn write(&self, batch: WriteBatch, is_synced: bool) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.set_sync(is_synced);
        self.db.write_opt(batch, &options).map_err(|error| self.error(error))
    }

    pub(crate) fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let bytes = self.db.get_pinned_cf(self.family(META), key).map_err(|error| self.error(error))?;
        bytes.map(|bytes| record::decode(key, &self.path, &bytes)).transpose()
    }

    pub(crate) fn put_meta<T: Serialize>(&self, batch: &mut WriteBatch, key: &str, value: &T) {
        batch.put_cf(self.family(META), key, record::encode(value));
    }
}

fn families(path: &Path) -> Result<[ColumnFamilyDescriptor; 3], Error> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES).map_err(|error| classify(path, error))?;
    Ok([
        // The log is written once, read back rarely and soon removed.
        ColumnFamilyDescriptor::new(LOG, family_options(&cache, 8 * MIB)),
        ColumnFamilyDescriptor::new(META, family_options(&cache, MIB)),
        ColumnFamilyDescriptor::new(ROWS, family_options(&cache, 4 * MIB)),
    ])
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
