//! The database of one manager: its families and keys. What the records mean is the log's and the machine's affair.
//!
//! | family | key | value |
//! | --- | --- | --- |
//! | `log` | index, 8 bytes big-endian | record: entry |
//! | `meta` | `vote` | record: the last vote, synced before it counts |
//! | `meta` | `purged` | record: the id of the last entry that was removed from the front of `log` |
//! | `meta` | `committed` | record: the last id known to be committed; may be behind |
//! | `meta` | `applied` | record: the id of the last entry whose rows are in `rows` |
//! | `meta` | `membership` | record: the last membership that was applied |
//! | `meta` | `installing` | name of the snapshot file whose rows are being put in place of `rows` |
//! | `rows` | the state machine's | the state machine's |
//!
//! Records are in [`crate::record`]'s format. All families share one write-ahead log, and recovery keeps a prefix
//! of it: nothing survives a crash that was written after something that did not. So only votes and entries are synced.
//! Rows are not: when they are lost then with everything after them, and `applied` with them, and the entries they came
//! from are in the log, synced by a majority, to be applied again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{self, Batch, Engine, Family, Threads, Workshop};
use crate::error::Error;
use crate::record;
use crate::rocks::Rocks;

pub(crate) const VOTE: &str = "vote";
pub(crate) const PURGED: &str = "purged";
pub(crate) const COMMITTED: &str = "committed";
pub(crate) const APPLIED: &str = "applied";
pub(crate) const MEMBERSHIP: &str = "membership";
pub(crate) const INSTALLING: &str = "installing";

/// The lock on a data directory. Held as long as anything of the store is.
#[derive(Debug)]
pub(crate) struct DirLock(#[allow(dead_code, reason = "unlocks when dropped")] Flock<File>);

impl DirLock {
    pub(crate) const FILE_NAME: &str = "LOCK";

    pub(crate) fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(Self::FILE_NAME);
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io("open", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::Locked { dir: dir.to_path_buf() }),
            Err((_, errno)) => Err(Error::io("lock", &path)(io::Error::from(errno))),
        }
    }

    /// The same without making the file: where it is missing, nothing has ever used the directory.
    pub(crate) fn take_existing(dir: &Path) -> Result<Option<Self>, Error> {
        if dir.join(Self::FILE_NAME).exists() { Self::take(dir).map(Some) } else { Ok(None) }
    }
}

/// A database that is open already, and where work on it is done.
#[derive(Debug, Clone)]
pub struct Base {
    pub engine: Arc<dyn Engine>,
    pub workshop: Arc<dyn Workshop>,
}

/// The open database. The last owner closes it, and then releases the directory.
#[derive(Debug)]
pub(crate) struct Db {
    engine: Arc<dyn Engine>,
    workshop: Arc<dyn Workshop>,
    path: PathBuf,
    /// Where the database does not hold it itself.
    _lock: Option<DirLock>,
}

impl Db {
    pub(crate) fn open(path: PathBuf, lock: DirLock) -> Result<Self, Error> {
        Ok(Self { engine: Arc::new(Rocks::open(&path, lock)?), workshop: Arc::new(Threads), path, _lock: None })
    }

    /// On a database that is open already.
    pub(crate) fn on(base: Base, path: PathBuf, lock: DirLock) -> Self {
        Self { engine: base.engine, workshop: base.workshop, path, _lock: Some(lock) }
    }

    /// Opens it to look at, and changes no file. Only a torn end of the write-ahead log, as a crash leaves it, is passed
    /// over in silence: damage before it is an error here, where [`Self::open`] keeps what is in front of it.
    pub(crate) fn open_read_only(path: PathBuf, lock: Option<DirLock>) -> Result<Self, Error> {
        let engine = Arc::new(Rocks::open_read_only(&path, lock)?);
        Ok(Self { engine, workshop: Arc::new(Threads), path, _lock: None })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    pub(crate) fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let bytes = self.engine.get(Family::Meta, key.as_bytes())?;
        bytes.map(|bytes| record::decode(key, &self.path, &bytes)).transpose()
    }

    /// Where blocking work on it is done.
    pub(crate) fn workshop(&self) -> &Arc<dyn Workshop> {
        &self.workshop
    }

    /// Does blocking work there.
    pub(crate) async fn offload<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Error> + Send + 'static,
    {
        engine::offload(&*self.workshop, work).await
    }
}

/// Adds a record.
pub(crate) fn put_meta<T: Serialize>(batch: &mut Batch, key: &str, value: &T) {
    batch.put(Family::Meta, key, record::encode(value));
}
