//! Making a group of one manager out of saved rows, in a data directory that was claimed and holds nothing else yet: as if
//! it had received a snapshot, and then the commands.
//!
//! ```text
//! rows ─► snapshot file, whole and synced ─► one synced batch: vote, where the log begins, commands, what to install
//!                                             └─► the next open puts the rows in place (see `machine`)
//! ```
//! Cut off before the batch, it is repeated; after it, everything has happened.

use std::path::Path;

use bytes::Bytes;
use openraft::EntryPayload;

use crate::SNAPSHOTS_DIR;
use crate::db::{self, Db, DirLock};
use crate::engine::{Batch, Family};
use crate::error::Error;
use crate::offline::identity_of;
use crate::recovery::{append, log_id, only};
use crate::snapshot::{SnapshotDir, write};
use crate::types::{EntryId, Member, Payload, SnapshotMeta, StoredMembership, Vote};

/// What is made.
#[derive(Debug, Clone)]
pub struct Restoring {
    /// The last entry that is in the rows.
    pub last: EntryId,
    /// The term of what comes after it; above any that the lost managers can have reached.
    pub term: u64,
    /// This manager.
    pub member: Member,
    /// What else has to be true from then on.
    pub commands: Vec<Bytes>,
}

/// Whether [`restore`] has been done in that directory, or a manager has run in it. Blocks.
///
/// # Errors
/// As when a store is opened.
pub fn has_log(dir: &Path) -> Result<bool, Error> {
    let lock = DirLock::take(dir)?;
    if !dir.join(crate::DB_DIR).join("CURRENT").exists() {
        return Ok(false);
    }
    let db = Db::open(dir.join(crate::DB_DIR), lock)?;
    Ok(db.meta::<Vote>(db::VOTE)?.is_some())
}

/// Writes rows (in the order of their keys) and what follows them. Returns the last entry. Blocks.
///
/// # Errors
/// As when a store is opened; [`Error::Moved`] where the directory has a log already.
pub fn restore<'a>(
    dir: &Path,
    rows: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    restoring: Restoring,
) -> Result<EntryId, Error> {
    let Restoring { last, term, member, commands } = restoring;
    let identity = identity_of(dir)?;
    let own = identity.node_id;
    let lock = DirLock::take(dir)?;
    let db = Db::open(dir.join(crate::DB_DIR), lock)?;
    if db.meta::<Vote>(db::VOTE)?.is_some() {
        return Err(Error::Moved { dir: dir.to_path_buf() });
    }
    let id = log_id(last, own);
    let meta =
        SnapshotMeta { last_log_id: Some(id), last_membership: StoredMembership::new(Some(id), only(own, member)?) };
    let snapshots = SnapshotDir::open(dir.join(SNAPSHOTS_DIR), db.workshop().clone())?;
    write(&snapshots, identity.cluster_id, meta.clone(), rows)?;
    let mut batch = Batch::default();
    let payloads = commands.into_iter().map(|command| EntryPayload::Normal(Payload(command)));
    let end = append(&mut batch, (term, own), payloads.zip(last.index + 1..))?;
    db::put_meta(&mut batch, db::PURGED, &id);
    batch.put(Family::Meta, db::INSTALLING, SnapshotDir::name_of(&meta));
    db.engine().write(batch, true)?;
    Ok(end)
}
