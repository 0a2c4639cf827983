//! Whether a database has all that belongs together. RocksDB opens one that has lost some of its tables, and what is left
//! may be older than the record of what was applied to it: to go on with that would make a manager's state differ from the
//! others' for good.

use openraft::EntryPayload;

use crate::db::Db;
use crate::engine::Family;
use crate::error::Error;
use crate::log::disk;
use crate::types::{EntryId, LogId};

/// Refuses rows of which `last` is the last command, if they tell, where the log has a later one that was applied.
///
/// # Errors
/// [`Error::Corrupt`].
pub(crate) fn check(db: &Db, last: Option<u64>, applied: Option<&LogId>) -> Result<(), Error> {
    let (Some(last), Some(applied)) = (last, applied) else { return Ok(()) };
    if last >= applied.index() {
        return Ok(());
    }
    let [after, end] = [last, applied.index()].map(|index| disk::key(index.saturating_add(1)));
    for pair in db.engine().scan(Family::Log, &after, Some(&end)) {
        let (key, value) = pair?;
        let entry = disk::decode(db, &key, &value)?;
        if matches!(entry.payload, EntryPayload::Normal(_)) {
            let lacking = EntryId::of(&entry.log_id);
            let reason = format!("its rows end with entry {last}, though {lacking} was applied to them");
            return Err(Error::Corrupt { path: db.path().to_path_buf(), reason });
        }
    }
    Ok(())
}
