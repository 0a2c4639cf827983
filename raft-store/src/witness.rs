//! `PROMISED`: a witness beside the database of what was acknowledged from this directory, so that a database that has lost
//! some of it is noticed. RocksDB cannot tell a write-ahead log that was damaged in its middle from one whose end a crash
//! tore off, and keeps what is in front; a manager that goes on with that might elect a leader that misses what it had
//! acknowledged.
//!
//! | bytes | |
//! | --- | --- |
//! | 8 | `GOATPROM` |
//! | 8 | term of the last vote |
//! | 16 | term and index of the last entry; zeros for none |
//! | 4 | CRC32 of all of the above |
//!
//! Numbers are little-endian. It is a lower bound, and never more than what is synced: it is raised, in place and without a
//! sync of its own, after the log was synced; and before entries are taken back it is lowered, synced. So a crash may leave
//! it behind, which only means that less is noticed, and never ahead.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::db::{self, Db};
use crate::error::Error;
use crate::identity::sync_dir;
use crate::log::disk;
use crate::types::{EntryId, LogId, Vote};

const FILE_NAME: &str = "PROMISED";
const MAGIC: [u8; 8] = *b"GOATPROM";
const LEN: usize = 36;

/// What was acknowledged at least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Promised {
    /// Of the last vote; 0 for none.
    pub term: u64,
    /// Of the log.
    pub last: Option<EntryId>,
}

impl Promised {
    /// Whether a directory that holds `self` has less than what `promised` says.
    pub fn is_less_than(&self, promised: &Self) -> bool {
        self.term < promised.term || self.last < promised.last
    }

    fn encode(&self) -> [u8; LEN] {
        let last = self.last.unwrap_or(EntryId { term: 0, index: 0 });
        // Indexes begin at 0, so a log with an entry is told from an empty one by the number of entries.
        let count = self.last.map_or(0, |last| last.index + 1);
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        for (at, number) in [self.term, last.term, count].into_iter().enumerate() {
            bytes[8 + 8 * at..16 + 8 * at].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[..LEN - 4]);
        bytes[LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None where it is not whole: it says nothing then.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_at_checked(LEN - 4)?;
        if body[..8] != MAGIC || crc != crc32fast::hash(body).to_le_bytes() {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(body[8 + 8 * at..16 + 8 * at].try_into().ok()?));
        let (term, last_term, count) = (number(0)?, number(1)?, number(2)?);
        let last = count.checked_sub(1).map(|index| EntryId { term: last_term, index });
        Some(Self { term, last })
    }

    /// What the database itself holds.
    pub(crate) fn held(db: &Db) -> Result<Self, Error> {
        let vote: Option<Vote> = db.meta(db::VOTE)?;
        let purged: Option<LogId> = db.meta(db::PURGED)?;
        let last = disk::last(db)?.map(|entry| entry.log_id).or(purged);
        Ok(Self { term: vote.map_or(0, |vote| vote.leader_id.term), last: last.as_ref().map(EntryId::of) })
    }
}

/// What the witness in a data directory says; None where there is none, or it is not whole.
pub(crate) fn read(dir: &Path) -> Result<Option<Promised>, Error> {
    let path = dir.join(FILE_NAME);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Promised::decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", &path)(error)),
    }
}

/// Refuses a database that has less than the witness says.
///
/// # Errors
/// [`Error::Forgotten`].
pub(crate) fn check(db: &Db, dir: &Path) -> Result<(), Error> {
    let Some(promised) = read(dir)? else { return Ok(()) };
    let held = Promised::held(db)?;
    if held.is_less_than(&promised) {
        return Err(Error::Forgotten { path: db.path().to_path_buf(), held: shown(&held), promised: shown(&promised) });
    }
    Ok(())
}

fn shown(promised: &Promised) -> String {
    let last = promised.last.map_or_else(|| "nothing".into(), |last| format!("everything up to {last}"));
    format!("{last} and term {}", promised.term)
}

/// The open file. One writer only.
#[derive(Debug)]
pub(crate) struct Witness {
    file: File,
    path: PathBuf,
    promised: Promised,
}

impl Witness {
    /// Opens it, or makes one that says what the database holds.
    pub(crate) fn open(db: &Db) -> Result<Self, Error> {
        let dir = db.path().parent().unwrap_or(Path::new("."));
        let path = dir.join(FILE_NAME);
        let known = read(dir)?;
        let promised = match known {
            Some(promised) => promised,
            None => Promised::held(db)?,
        };
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let witness = Self { file: file.map_err(Error::io("open", &path))?, path, promised };
        if known.is_none() {
            witness.write()?;
            witness.file.sync_all().map_err(Error::io("sync", &witness.path))?;
            sync_dir(dir)?;
        }
        Ok(witness)
    }

    /// What has been synced: the term of a vote, the log's last entry.
    pub(crate) fn raise(&mut self, term: Option<u64>, last: Option<EntryId>) -> Result<(), Error> {
        let raised = Promised { term: self.promised.term.max(term.unwrap_or(0)), last: self.promised.last.max(last) };
        if raised == self.promised {
            return Ok(());
        }
        self.promised = raised;
        self.write()
    }

    /// Entries after `last` are about to be taken back.
    pub(crate) fn lower(&mut self, last: Option<EntryId>) -> Result<(), Error> {
        if self.promised.last <= last {
            return Ok(());
        }
        self.promised.last = last;
        self.write()?;
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }

    fn write(&self) -> Result<(), Error> {
        self.file.write_all_at(&self.promised.encode(), 0).map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Promised = Promised { term: 7, last: Some(EntryId { term: 6, index: 0 }) };

    #[test]
    fn what_is_written_is_read_back_and_every_flipped_bit_makes_it_silent() {
        for promised in [SOME, Promised::default(), Promised { term: u64::MAX, last: None }] {
            assert_eq!(Promised::decode(&promised.encode()), Some(promised));
        }
        for at in 0..LEN * 8 {
            let mut bytes = SOME.encode();
            bytes[at / 8] ^= 1 << (at % 8);
            assert_eq!(Promised::decode(&bytes), None, "bit {at}");
        }
        assert_eq!(Promised::decode(&SOME.encode()[..LEN - 1]), None);
    }

    #[test]
    fn less_is_a_smaller_term_or_an_older_end() {
        let entry = |term, index| Some(EntryId { term, index });
        assert!(!SOME.is_less_than(&SOME) && !SOME.is_less_than(&Promised::default()));
        assert!(Promised { term: 6, ..SOME }.is_less_than(&SOME));
        assert!(Promised { last: None, ..SOME }.is_less_than(&SOME));
        // A shorter log of a later term is newer, as Raft has it.
        assert!(!Promised { last: entry(7, 3), ..SOME }.is_less_than(&Promised { last: entry(6, 9), ..SOME }));
    }
}
