//! Log entries as they are in RocksDB. Blocks; called from blocking threads only.

use std::ops::Range;

use rocksdb::{Direction, IteratorMode, ReadOptions};

use super::tail::{ReadLimit, size_bytes};
use crate::db::{self, Db};
use crate::error::Error;
use crate::record;
use crate::types::Entry;

pub(crate) fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// The entry in one row of the log.
pub(crate) fn decode(db: &Db, key: &[u8], value: &[u8]) -> Result<Entry, Error> {
    let corrupt = |reason: String| Error::Corrupt { path: db.path().to_path_buf(), reason };
    let index = <[u8; 8]>::try_from(key)
        .map(u64::from_be_bytes)
        .map_err(|_| corrupt(format!("a log key of {} bytes", key.len())))?;
    let entry: Entry = record::decode("log entry", db.path(), value)?;
    if entry.log_id.index() != index {
        return Err(corrupt(format!("log entry {} is kept at index {index}", entry.log_id)));
    }
    Ok(entry)
}

/// The entry at one end of the log.
pub(crate) fn entry_at(db: &Db, end: IteratorMode<'_>) -> Result<Option<Entry>, Error> {
    let Some(item) = db.raw().iterator_cf(db.family(db::LOG), end).next() else {
        return Ok(None);
    };
    let (key, value) = item.map_err(|error| db.error(error))?;
    decode(db, &key, &value).map(Some)
}

/// The entries of `range`, up to the first that would exceed `limit`. Leading ones may be missing; a hole after that is
/// an error.
pub(super) fn read(db: &Db, range: Range<u64>, limit: ReadLimit) -> Result<Vec<Entry>, Error> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(key(range.end).to_vec());
    let start = key(range.start);
    let mode = IteratorMode::From(&start, Direction::Forward);
    let mut entries: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    for item in db.raw().iterator_cf_opt(db.family(db::LOG), options, mode) {
        let (key, value) = item.map_err(|error| db.error(error))?;
        let entry = decode(db, &key, &value)?;
        bytes += size_bytes(&entry);
        if !entries.is_empty() && (entries.len() >= limit.entries || bytes > limit.bytes) {
            break;
        }
        if let Some(before) = entries.last().filter(|before| before.log_id.index() + 1 != entry.log_id.index()) {
            return Err(Error::Corrupt {
                path: db.path().to_path_buf(),
                reason: format!("the log has nothing between {} and {}", before.log_id, entry.log_id),
            });
        }
        entries.push(entry);
    }
    Ok(entries)
}
