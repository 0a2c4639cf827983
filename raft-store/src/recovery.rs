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
    let membership = EntryPayload::Membership(only(own, alone.member)?);
    let commands = alone.commands.into_iter().map(|command| EntryPayload::Normal(Payload(command)));
    let mut batch = Batch::default();
    let payloads = std::iter::once(membership).chain(commands);
    let end = append(&mut batch, (alone.term, own), payloads.zip(next..))?;
    db.engine().write(batch, true)?;
    Ok(end)
}

/// A group of one.
pub(crate) fn only(id: u64, member: Member) -> Result<Membership<u64, Member>, Error> {
    let members = BTreeMap::from([(id, member)]);
    Membership::new(vec![[id].into()], members).map_err(|error| Error::Background(error.to_string()))
}

/// Puts entries into the batch as that leader's, and as committed. Returns the last.
pub(crate) fn append(
    batch: &mut Batch,
    (term, leader): (u64, u64),
    payloads: impl Iterator<Item = (EntryPayload<Payload, u64, Member>, u64)>,
) -> Result<EntryId, Error> {
    let mut end = None;
    for (payload, index) in payloads {
        let id = log_id(EntryId { term, index }, leader);
        let entry = Entry::new(id, payload);
        batch.put(Family::Log, disk::key(index), record::encode(&entry));
        end = Some(id);
    }
    let end = end.ok_or_else(|| Error::Background("nothing was appended".into()))?;
    db::put_meta(batch, db::VOTE, &Vote::new(term, leader));
    // Applied before Raft speaks to anybody, so that the lost ones are strangers from the first moment.
    db::put_meta(batch, db::COMMITTED, &end);
    Ok(EntryId::of(&end))
}

pub(crate) fn log_id(id: EntryId, leader: u64) -> LogId {
    LogIdOf::<TypeConfig>::new(LeaderId::new(id.term, leader).to_committed(), id.index)
}
