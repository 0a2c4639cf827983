//! A data directory as it lies there, while no manager runs on it: read to the last byte, and nothing is written.
//!
//! RocksDB checks its blocks' checksums as they are read, so what matters is that all of them are.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::EntryPayload;

use crate::SNAPSHOTS_DIR;
use crate::db::{self, Db, DirLock};
use crate::engine::{Family, Pair, Threads};
use crate::error::Error;
use crate::identity::{self, Identity};
use crate::log::disk;
use crate::rocks;
use crate::snapshot::SnapshotFile;
use crate::types::{Entry, EntryId, LogId, Member, StoredMembership};
use crate::witness::{self, Promised};

/// Key and value.
pub type Row = Pair;
/// A file's name, and what is in it or what is wrong with it.
pub type NamedSnapshot = (String, Result<SnapshotSeen, Error>);

/// A directory that no manager runs on; none can start while this is held.
#[derive(Debug)]
pub struct Offline {
    dir: PathBuf,
    identity: Identity,
    db: Db,
}

/// A vote, or a leader that was followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    pub term: u64,
    /// Whom it was given to.
    pub to: u64,
    /// That manager was elected.
    pub is_committed: bool,
}

/// Members of the group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// The entry that made them so; None where there never was a group.
    pub since: Option<EntryId>,
    /// In more than one set while a change is half done.
    pub voters: Vec<u64>,
    /// Voters and learners, by number.
    pub all: Vec<(u64, Member)>,
}

/// What is kept beside log and rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    pub vote: Option<Vote>,
    /// The last entry that is no more in the log because a snapshot has it.
    pub purged: Option<EntryId>,
    /// May be behind.
    pub committed: Option<EntryId>,
    /// What the rows have.
    pub applied: Option<EntryId>,
    /// As of `applied`.
    pub members: Members,
    /// The snapshot whose rows are half in place; the next start finishes that.
    pub installing: Option<String>,
}

/// What a walk over the log has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSeen {
    pub first: Option<EntryId>,
    pub last: Option<EntryId>,
    pub entries: u64,
    /// Of the last change of members that is in the log.
    pub members: Option<Members>,
}

/// A snapshot that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSeen {
    pub last: Option<EntryId>,
    pub rows: u64,
    pub len_bytes: u64,
}

impl Offline {
    /// Takes the directory's lock and opens the database to read it. Blocks.
    ///
    /// # Errors
    /// [`Error::NoDataDir`], [`Error::Locked`] where a manager runs, and what is wrong with the directory.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let identity = identity_of(dir)?;
        let lock = DirLock::take_existing(dir)?;
        let path = dir.join(crate::DB_DIR);
        if !path.join("CURRENT").exists() {
            return Err(if path.exists() {
                Error::Corrupt { path, reason: "its file CURRENT is missing".into() }
            } else {
                Error::NeverRun { dir: dir.to_path_buf() }
            });
        }
        witness::check_manifest(dir, rocks::manifest(&path))?;
        Ok(Self { dir: dir.to_path_buf(), identity, db: Db::open_read_only(path, lock)? })
    }

    /// Whose directory it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Votes, and how far log and rows go.
    ///
    /// # Errors
    /// Where a record cannot be read.
    pub fn meta(&self) -> Result<Meta, Error> {
        let id = |key| -> Result<Option<EntryId>, Error> { Ok(self.db.meta::<LogId>(key)?.as_ref().map(EntryId::of)) };
        let installing = self.db.engine().get(Family::Meta, db::INSTALLING.as_bytes())?;
        let members: Option<StoredMembership> = self.db.meta(db::MEMBERSHIP)?;
        let vote: Option<crate::types::Vote> = self.db.meta(db::VOTE)?;
        Ok(Meta {
            vote: vote.map(|vote| Vote {
                term: vote.leader_id.term,
                to: vote.leader_id.voted_for,
                is_committed: vote.is_committed(),
            }),
            purged: id(db::PURGED)?,
            committed: id(db::COMMITTED)?,
            applied: id(db::APPLIED)?,
            members: members.as_ref().map(Members::of).unwrap_or_default(),
            installing: installing.map(|name| String::from_utf8_lossy(&name).into_owned()),
        })
    }

    /// What was acknowledged from this directory at least, by the witness beside the database, and what that holds of it.
    ///
    /// # Errors
    /// Where a record cannot be read.
    pub fn promised(&self) -> Result<(Option<Promised>, Promised), Error> {
        Ok((witness::read(&self.dir)?, Promised::held(&self.db)?))
    }

    /// Shows every entry in order; its command, where it is one.
    ///
    /// # Errors
    /// An entry that cannot be read, a gap, terms that go back.
    pub fn visit_log(&self, visit: &mut dyn FnMut(EntryId, Option<&[u8]>)) -> Result<LogSeen, Error> {
        let mut seen = LogSeen::default();
        let purged: Option<LogId> = self.db.meta(db::PURGED)?;
        let mut before = purged.as_ref().map(EntryId::of);
        for item in self.db.engine().scan(Family::Log, &[], None) {
            let (key, value) = item?;
            let entry = disk::decode(&self.db, &key, &value)?;
            let id = EntryId::of(&entry.log_id);
            self.check_follows(before, id)?;
            visit(id, command(&entry));
            if let EntryPayload::Membership(members) = &entry.payload {
                seen.members = Some(Members::of(&StoredMembership::new(Some(entry.log_id), members.clone())));
            }
            seen.first.get_or_insert(id);
            seen.entries += 1;
            before = Some(id);
        }
        seen.last = before;
        Ok(seen)
    }

    fn check_follows(&self, before: Option<EntryId>, id: EntryId) -> Result<(), Error> {
        let expected = before.map_or(0, |before| before.index + 1);
        let reason = if id.index != expected {
            format!("the log has nothing from {expected} to {}", id.index)
        } else if before.is_some_and(|before| before.term > id.term) {
            format!("entry {id} of the log is of an older term than the one before it")
        } else {
            return Ok(());
        };
        Err(Error::Corrupt { path: self.db.path().to_path_buf(), reason })
    }

    /// All applied rows, in key order.
    pub fn rows(&self) -> impl Iterator<Item = Result<Row, Error>> + '_ {
        self.db.engine().scan(Family::Rows, &[], None)
    }

    /// Every snapshot by its file's name, checked to the last row.
    ///
    /// # Errors
    /// Where the directory cannot be listed; what is wrong with one snapshot is in its place.
    pub fn snapshots(&self) -> Result<Vec<NamedSnapshot>, Error> {
        let dir = self.dir.join(SNAPSHOTS_DIR);
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            names.push(entry.map_err(Error::io("list", &dir))?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| name.starts_with("snapshot-"));
        names.sort_unstable();
        let look = |name: String| {
            let seen = look_at(dir.join(&name));
            (name, seen)
        };
        Ok(names.into_iter().map(look).collect())
    }
}

pub(crate) fn identity_of(dir: &Path) -> Result<Identity, Error> {
    let found = if dir.is_dir() { identity::read(&dir.join(identity::FILE_NAME))? } else { None };
    found.ok_or_else(|| Error::NoDataDir { dir: dir.to_path_buf() })
}

fn look_at(path: PathBuf) -> Result<SnapshotSeen, Error> {
    let file = SnapshotFile::open_checked(path, false, Arc::new(Threads))?;
    let mut rows = 0;
    file.visit_rows(|_, _| {
        rows += 1;
        Ok(())
    })?;
    let last = file.meta().last_log_id.as_ref().map(EntryId::of);
    Ok(SnapshotSeen { last, rows, len_bytes: file.len_bytes() })
}

fn command(entry: &Entry) -> Option<&[u8]> {
    match &entry.payload {
        EntryPayload::Normal(command) => Some(&command.0),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    }
}

impl Members {
    fn of(stored: &StoredMembership) -> Self {
        let membership = stored.membership();
        Self {
            since: stored.log_id().as_ref().map(EntryId::of),
            voters: membership.voter_ids().collect(),
            all: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
        }
    }
}
