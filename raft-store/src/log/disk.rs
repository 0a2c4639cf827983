//! Log entries as they are in RocksDB. Blocks; called from blocking threads only.

use std::ops::Range;

use super::tail::{ReadLimit, size_bytes};
use crate::db::Db;
use crate::engine::{Family, Pair};
use crate::error::Error;
use crate::record;
use crate::types::{Entry, EntryId};

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

/// The last entry, of a log that begins at `first` and has no hole. A database that has lost its middle has both of its ends.
pub(super) fn last_of_whole(db: &Db, first: u64) -> Result<Option<Entry>, Error> {
    let (mut next, mut last) = (first, None);
    for pair in db.engine().scan(Family::Log, &[], None) {
        let pair = pair?;
        if *pair.0 != key(next) {
            let found = EntryId::of(&decode(db, &pair.0, &pair.1)?.log_id);
            let reason = format!("the log has nothing from {next} to {found}");
            return Err(Error::Corrupt { path: db.path().to_path_buf(), reason });
        }
        (next, last) = (next + 1, Some(pair));
    }
    read_pair(db, last)
}

pub(crate) fn last(db: &Db) -> Result<Option<Entry>, Error> {
    read_pair(db, db.engine().last(Family::Log)?)
}

fn read_pair(db: &Db, pair: Option<Pair>) -> Result<Option<Entry>, Error> {
    pair.map(|(key, value)| decode(db, &key, &value)).transpose()
}

/// The entries of `range`, up to the first that would exceed `limit`. Leading ones may be missing; a hole after that is
/// an error.
pub(super) fn read(db: &Db, range: Range<u64>, limit: ReadLimit) -> Result<Vec<Entry>, Error> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    for pair in db.engine().scan(Family::Log, &key(range.start), Some(&key(range.end))) {
        let (key, value) = pair?;
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
