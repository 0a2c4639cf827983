//! `PROMISED`: a witness beside the database of what was acknowledged from this directory, so that a database that has lost
//! some of it is noticed. RocksDB cannot tell a write-ahead log that was damaged in its middle from one whose end a crash
//! tore off, and keeps what is in front; a manager that goes on with that might elect a leader that misses what it had
//! acknowledged. Nor does it miss the end of its `MANIFEST`, the list of its files: it opens without what stood there, with
//! a hole in its middle, or without a whole family. So that file's length is kept here too.
//!
//! | bytes | |
//! | --- | --- |
//! | 8 | `GOATPRM2`; `GOATPROM` where what is in brackets is left out |
//! | 8 | term of the last vote |
//! | 16 | term of the last entry, and its index and one; zeros for none |
//! | 16 | [number of the `MANIFEST`, and its length at least; zeros for none] |
//! | 4 | CRC32 of all of the above |
//!
//! Numbers are little-endian. It is a lower bound, and never more than what is synced: it is raised, in place and without a
//! sync of its own, after the log was synced; and before entries are taken back it is lowered, synced. So a crash may leave
//! it behind, which only means that less is noticed, and never ahead. Of the `MANIFEST` it says what was seen a while ago:
//! RocksDB has synced that since.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::db::{self, Db};
use crate::engine::Manifest;
use crate::error::Error;
use crate::identity::sync_dir;
use crate::log::disk;
use crate::types::{EntryId, LogId, Vote};

const FILE_NAME: &str = "PROMISED";
const MAGIC: [u8; 8] = *b"GOATPRM2";
const LEN: usize = 52;
const OLD_MAGIC: [u8; 8] = *b"GOATPROM";
const OLD_LEN: usize = 36;
/// Between looks at the `MANIFEST`. What is written to it is synced at once, which takes far less.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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

    /// What the database itself holds.
    pub(crate) fn held(db: &Db) -> Result<Self, Error> {
        let vote: Option<Vote> = db.meta(db::VOTE)?;
        let purged: Option<LogId> = db.meta(db::PURGED)?;
        let last = disk::last(db)?.map(|entry| entry.log_id).or(purged);
        Ok(Self { term: vote.map_or(0, |vote| vote.leader_id.term), last: last.as_ref().map(EntryId::of) })
    }
}

/// All that the file says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    promised: Promised,
    manifest: Option<Manifest>,
}

impl Told {
    fn encode(&self) -> [u8; LEN] {
        let last = self.promised.last.unwrap_or(EntryId { term: 0, index: 0 });
        // Indexes begin at 0, so a log with an entry is told from an empty one by the number of entries.
        let count = self.promised.last.map_or(0, |last| last.index + 1);
        let manifest = self.manifest.unwrap_or_default();
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        let numbers = [self.promised.term, last.term, count, manifest.number, manifest.bytes];
        for (at, number) in numbers.into_iter().enumerate() {
            bytes[8 + 8 * at..16 + 8 * at].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[..LEN - 4]);
        bytes[LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None where it is not whole: it says nothing then.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let length = match *bytes.first_chunk()? {
            MAGIC => LEN,
            OLD_MAGIC => OLD_LEN,
            _ => return None,
        };
        // Behind that of an older build there may be the end of a newer one's.
        let (body, crc) = bytes.get(..length)?.split_at(length - 4);
        if crc != crc32fast::hash(body).to_le_bytes() {
            return None;
        }
        let mut numbers =
            body[8..].chunks_exact(8).map(|number| u64::from_le_bytes(number.try_into().unwrap_or_default()));
        let mut number = || numbers.next();
        let (term, last_term, count) = (number()?, number()?, number()?);
        let last = count.checked_sub(1).map(|index| EntryId { term: last_term, index });
        let manifest = Manifest { number: number().unwrap_or(0), bytes: number().unwrap_or(0) };
        let manifest = Some(manifest).filter(|manifest| manifest.number > 0);
        Some(Self { promised: Promised { term, last }, manifest })
    }
}

/// What the witness in a data directory says; None where there is none, or it is not whole.
pub(crate) fn read(dir: &Path) -> Result<Option<Promised>, Error> {
    Ok(told(dir)?.map(|told| told.promised))
}

fn told(dir: &Path) -> Result<Option<Told>, Error> {
    let path = dir.join(FILE_NAME);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Told::decode(&bytes)),
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

/// Refuses a database whose list of files has lost its end. To be asked before it is opened: that makes a new list.
///
/// # Errors
/// [`Error::Corrupt`].
pub(crate) fn check_manifest(dir: &Path, found: Option<Manifest>) -> Result<(), Error> {
    let (Some(promised), Some(found)) = (told(dir)?.and_then(|told| told.manifest), found) else { return Ok(()) };
    if found >= promised {
        return Ok(());
    }
    let reason = format!(
        "MANIFEST-{:06} has {} bytes, and MANIFEST-{:06} had {} at least",
        found.number, found.bytes, promised.number, promised.bytes
    );
    Err(Error::Corrupt { path: dir.join(crate::DB_DIR), reason })
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
    told: Told,
    /// Not told yet, and when it was looked at.
    seen: Option<Manifest>,
    seen_at: Instant,
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
        // The database has just been opened: its list was synced with that.
        let manifest = db.engine().manifest();
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        let told = Told { promised, manifest };
        let witness = Self { file, path, told, seen: manifest, seen_at: Instant::now() };
        witness.write()?;
        if known.is_none() {
            witness.file.sync_all().map_err(Error::io("sync", &witness.path))?;
            sync_dir(dir)?;
        }
        Ok(witness)
    }

    /// What has been synced: the term of a vote, the log's last entry.
    pub(crate) fn raise(&mut self, db: &Db, term: Option<u64>, last: Option<EntryId>) -> Result<(), Error> {
        let before = self.told;
        let promised = &mut self.told.promised;
        promised.term = promised.term.max(term.unwrap_or(0));
        promised.last = promised.last.max(last);
        if self.seen_at.elapsed() >= LOOK_EVERY {
            self.told.manifest = self.seen;
            (self.seen, self.seen_at) = (db.engine().manifest(), Instant::now());
        }
        if self.told == before { Ok(()) } else { self.write() }
    }

    /// Entries after `last` are about to be taken back.
    pub(crate) fn lower(&mut self, last: Option<EntryId>) -> Result<(), Error> {
        if self.told.promised.last <= last {
            return Ok(());
        }
        self.told.promised.last = last;
        self.write()?;
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }

    fn write(&self) -> Result<(), Error> {
        self.file.write_all_at(&self.told.encode(), 0).map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Promised = Promised { term: 7, last: Some(EntryId { term: 6, index: 0 }) };

    #[test]
    fn what_is_written_is_read_back_and_every_flipped_bit_makes_it_silent() {
        let manifest = Some(Manifest { number: 5, bytes: 800 });
        for promised in [SOME, Promised::default(), Promised { term: u64::MAX, last: None }] {
            for manifest in [None, manifest] {
                let told = Told { promised, manifest };
                assert_eq!(Told::decode(&told.encode()), Some(told));
            }
        }
        let whole = Told { promised: SOME, manifest }.encode();
        for at in 0..LEN * 8 {
            let mut bytes = whole;
            bytes[at / 8] ^= 1 << (at % 8);
            assert_eq!(Told::decode(&bytes), None, "bit {at}");
        }
        assert_eq!(Told::decode(&whole[..LEN - 1]), None);
    }

    #[test]
    fn one_of_an_older_build_says_what_it_said() {
        let new = Told { promised: SOME, manifest: None }.encode();
        let mut old = [&OLD_MAGIC[..], &new[8..OLD_LEN - 4]].concat();
        old.extend(crc32fast::hash(&old).to_le_bytes());
        assert_eq!(Told::decode(&old), Some(Told { promised: SOME, manifest: None }));
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
