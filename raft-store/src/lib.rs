//! The durable half of a manager: Raft log, vote, applied rows and snapshots on RocksDB, for openraft. It knows no tasks:
//! commands, replies and rows are bytes, and a [`StateMachine`] gives them meaning.
//!
//! ```text
//! DIR/IDENTITY     whose directory this is (see `identity`)
//! DIR/LOCK         held while a process uses it
//! DIR/PROMISED     what was acknowledged at least (see `witness`)
//! DIR/db/          RocksDB: log, metadata, rows (key layout in `db`)
//! DIR/snapshots/   the newest snapshot, and those on their way (see `snapshot`)
//! ```
//!
//! What is promised: a vote or an entry is acknowledged only after it is synced to disk. Applied rows are not synced, and
//! need not be: what is lost of them is applied again from the log. Nothing here trusts a file that it has not checked.

#![forbid(unsafe_code)]

mod db;
pub mod engine;
mod error;
mod identity;
mod log;
mod lost;
mod machine;
mod offline;
mod record;
mod recovery;
mod restore;
mod rocks;
mod snapshot;
mod state_machine;
mod types;
mod view;
mod witness;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use db::Base;
pub use error::Error;
pub use identity::Identity;
pub use log::{FamilyStats, LogEnds, LogStore, StoreStats};
pub use machine::MachineStore;
pub use offline::{LogSeen, Members, Meta, Offline, SnapshotSeen, Vote as VoteSeen};
pub use recovery::{Alone, make_alone};
pub use restore::{Restoring, has_log, restore};
pub use snapshot::{IncomingSnapshot, SnapshotBuilder, SnapshotFile, SnapshotReader};
pub use state_machine::{RestoreError, Restored, RowChanges, StateMachine};
pub use types::{EntryId, Member, Payload, Reply, TypeConfig};
pub use view::RowsView;
pub use witness::Promised;

use db::{Db, DirLock};
use identity::IdentityFile;
use snapshot::SnapshotDir;

const DB_DIR: &str = "db";
const SNAPSHOTS_DIR: &str = "snapshots";

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory; made where it does not exist. Not to be shared with anything else.
    pub dir: PathBuf,
    /// Whose directory it has to be.
    pub identity: Identity,
    /// How many recent log entries are kept in memory, for followers that are nearly up to date.
    pub cached_entries: usize,
    /// What they may take, in bytes. Entries that are not written yet come on top.
    pub cached_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("data"),
            identity: Identity { cluster_id: None, node_id: 0 },
            cached_entries: 8_192,
            cached_bytes: 8 << 20,
        }
    }
}

/// Whether `dir` was used as a data directory before.
pub fn exists(dir: impl AsRef<Path>) -> bool {
    dir.as_ref().join(identity::FILE_NAME).exists()
}

/// Whose data directory `dir` is; None where it was never used.
///
/// # Errors
/// See [`Error`].
pub fn identity(dir: impl AsRef<Path>) -> Result<Option<Identity>, Error> {
    identity::read(&dir.as_ref().join(identity::FILE_NAME))
}

/// Makes an empty directory, or one that does not exist, a data directory: for a manager that has its number and has not
/// run yet.
///
/// # Errors
/// See [`Error`]. A directory that holds anything is refused.
pub fn claim(dir: &Path, identity: &Identity) -> Result<(), Error> {
    check_empty(dir)?;
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let _lock = DirLock::take(dir)?;
    IdentityFile::open(dir, identity).map(|_| ())
}

/// Whether [`claim`] could make it a data directory.
///
/// # Errors
/// As [`claim`].
pub fn check_empty(dir: &Path) -> Result<(), Error> {
    if let Some(found) = identity(dir)? {
        return Err(Error::Claimed { dir: dir.to_path_buf(), node_id: found.node_id, cluster_id: found.cluster_id });
    }
    if dir.exists() { refuse_foreign(dir) } else { Ok(()) }
}

/// Opens the store in a directory, or makes one, and brings `state` to where it was. Blocks: RocksDB replays the end of
/// its write-ahead log, and all rows are read once.
///
/// The store closes when the last handle of either part is gone; only then can the directory be opened again.
///
/// # Errors
/// See [`Error`]. A directory that is not ours, or of another manager or cluster, is refused before anything is written
/// to it.
pub fn open<S: StateMachine>(options: Options, state: S) -> Result<(LogStore, MachineStore<S>), Error> {
    open_on(options, state, Db::open)
}

/// The same on another database than RocksDB. The directory still holds the identity and the snapshots.
///
/// # Errors
/// As [`open`].
pub fn open_base<S: StateMachine>(
    options: Options,
    state: S,
    base: Base,
) -> Result<(LogStore, MachineStore<S>), Error> {
    open_on(options, state, |path, lock| Ok(Db::on(base, path, lock)))
}

fn open_on<S: StateMachine>(
    options: Options,
    state: S,
    open: impl FnOnce(PathBuf, DirLock) -> Result<Db, Error>,
) -> Result<(LogStore, MachineStore<S>), Error> {
    let dir = &options.dir;
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    refuse_foreign(dir)?;
    let lock = DirLock::take(dir)?;
    let identity = Arc::new(IdentityFile::open(dir, &options.identity)?);
    witness::check_manifest(dir, rocks::manifest(&dir.join(DB_DIR)))?;
    let db = Arc::new(open(dir.join(DB_DIR), lock)?);
    witness::check(&db, dir)?;
    let snapshots = Arc::new(SnapshotDir::open(dir.join(SNAPSHOTS_DIR), db.workshop().clone())?);
    let machine = MachineStore::open(Arc::clone(&db), Arc::clone(&identity), Arc::clone(&snapshots), state)?;
    let log = LogStore::open(&options, db, identity, snapshots)?;
    Ok((log, machine))
}

/// A directory that holds things, but not our mark, is somebody else's: or ours, with the mark lost, which is worse.
fn refuse_foreign(dir: &Path) -> Result<(), Error> {
    if exists(dir) {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let name = entry.map_err(Error::io("list", dir))?.file_name();
        // Both are made before the mark, so a first start that was cut off may leave them.
        let is_ours = name == DirLock::FILE_NAME || name == identity::TEMPORARY_NAME;
        // A new file system has it.
        if !is_ours && name != "lost+found" {
            let found = name.to_string_lossy().into_owned();
            return Err(Error::NotADataDir { dir: dir.to_path_buf(), found });
        }
    }
    Ok(())
}
