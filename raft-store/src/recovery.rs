//! Making a group of one manager out of a larger one that is lost, in its data directory, while it does not run.
//!
//! One synced batch: cut off before it, nothing has happened; after it, all has. It appends to the log, and so keeps all
//! of it, also what no majority had: with the new membership in force this manager alone is the majority, and what it has
//! is committed by that.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use openraft::alias::LogIdOf;
use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership};

use crate::db::{self, Db, DirLock};
use crate::engine::{Batch, Family};
use crate::error::Error;
use crate::log::disk;
use crate::offline::identity_of;
use crate::record;
use crate::types::{Entry, EntryId, LogId, Member, Payload, TypeConfig, Vote};

type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;

/// What is appended.
#[derive(Debug, Clone)]
pub struct Alone {
    /// The last entry that the directory was seen to have; another one now is refused.
    pub last: Option<EntryId>,
    /// The term of what is appended; above any that the lost managers can have reached.
    pub term: u64,
    /// This manager.
    pub member: Member,
    /// What else has to be true from then on.
    pub commands: Vec<Bytes>,
}

/// Appends a membership of this manager alone, and the commands, as committed. Returns the last entry. Blocks.
///
/// # Errors
/// As when a store is opened; [`Error::Moved`] where the directory is not as it was seen.
pub fn make_alone(dir: &Path, alone: Alone) -> Result<EntryId, Error> {
    let identity = identity_of(dir)?;
    let lock = DirLock::take(dir)?;
    let db = Db::open(dir.join(crate::DB_DIR), lock)?;
    let purged: Option<LogId> = db.meta(db::PURGED)?;
    let last = disk::last(&db)?.map(|entry| entry.log_id).or(purged);
    if last.as_ref().map(EntryId::of) != alone.last {
        return Err(Error::Moved { dir: dir.to_path_buf() });
    }
    let next = last.map_or(0, |id| id.index() + 1);
    let own = identity.node_id;
    let leader = LeaderId::new(alone.term, own).to_committed();
    let membership = Membership::new(vec![[own].into()], BTreeMap::from([(own, alone.member)]))
        .map_err(|error| Error::Background(error.to_string()))?;
    let commands = alone.commands.into_iter().map(|command| EntryPayload::Normal(Payload(command)));
    let payloads = std::iter::once(EntryPayload::Membership(membership)).chain(commands);
    let mut batch = Batch::default();
    let mut end = None;
    for (payload, index) in payloads.zip(next..) {
        let id = LogIdOf::<TypeConfig>::new(leader, index);
        let entry = Entry::new(id, payload);
        batch.put(Family::Log, disk::key(index), record::encode(&entry));
        end = Some(id);
    }
    let end = end.ok_or_else(|| Error::Background("nothing was appended".into()))?;
    db::put_meta(&mut batch, db::VOTE, &Vote::new(alone.term, own));
    // Applied before Raft speaks to anybody, so that the lost ones are strangers from the first moment.
    db::put_meta(&mut batch, db::COMMITTED, &end);
    db.engine().write(batch, true)?;
    Ok(EntryId::of(&end))
}
