//! Snapshots as files: in the directory, on their way to another manager, and on their way in.
//!
//! ```text
//! DIR/snapshots/
//!   building-N    being written; removed at the next start
//!   incoming-N    being received; removed at the next start, or when nobody wants it any more
//!   snapshot-INDEX-TERM    whole, synced, checked; only the newest is kept
//! ```
//! A file gets its last name only once it is whole and synced, and the directory is synced before anybody relies on it.
//! What the rows mean is the state machine's affair.

mod dir;
mod format;
mod incoming;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub(crate) use dir::SnapshotDir;
pub use incoming::IncomingSnapshot;

use crate::db::{self, Db};
use crate::engine::{self, Family, Read, Workshop};
use crate::error::Error;
use crate::record;
use crate::types::SnapshotMeta;
use format::{Head, Rows, Writer};

/// A whole, checked snapshot. Cheap to clone. It stays readable when a newer one takes its place in the directory.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    head: Head,
    len_bytes: u64,
    place: Mutex<Place>,
    workshop: Arc<dyn Workshop>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Received, and not installed: nobody finds it again once this handle is gone.
    is_temporary: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let place = self.place.get_mut();
        if place.is_temporary {
            dir::remove_leftover(&place.path);
        }
    }
}

impl SnapshotFile {
    /// Opens a file and checks all of it. Blocks.
    ///
    /// # Errors
    /// [`Error::Snapshot`] where it is cut off or damaged, [`Error::NewerFormat`] where a newer build wrote it.
    pub(crate) fn open_checked(path: PathBuf, is_temporary: bool, workshop: Arc<dyn Workshop>) -> Result<Self, Error> {
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let (head, len_bytes) = format::verify(&file, &path)?;
        let place = Mutex::new(Place { path, is_temporary });
        Ok(Self { inner: Arc::new(Inner { file, head, len_bytes, place, workshop }) })
    }

    /// What it covers: the last log id, and the membership at that point.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.inner.head.meta
    }

    /// The cluster it is of; none where that was not known when it was made.
    pub fn cluster_id(&self) -> Option<&str> {
        self.inner.head.cluster_id.as_deref()
    }

    /// Its size.
    pub fn len_bytes(&self) -> u64 {
        self.inner.len_bytes
    }

    /// Where it is, or was when it was current.
    pub fn path(&self) -> PathBuf {
        self.inner.place.lock().path.clone()
    }

    /// Begins to read it from the start.
    ///
    /// # Errors
    /// None today; the file is open already.
    pub async fn open(&self) -> Result<SnapshotReader, Error> {
        Ok(SnapshotReader { file: self.clone(), offset: 0 })
    }

    /// Shows every row, in key order. Blocks.
    pub(crate) fn visit_rows<F>(&self, mut visit: F) -> Result<(), Error>
    where
        F: FnMut(&[u8], &[u8]) -> Result<(), Error>,
    {
        let path = self.path();
        for row in Rows::open(&self.inner.file, &path, self.inner.len_bytes)? {
            let (key, value) = row?;
            visit(&key, &value)?;
        }
        Ok(())
    }
}

/// Reads a snapshot in pieces, to send it. Several may read one file at once.
#[derive(Debug)]
pub struct SnapshotReader {
    file: SnapshotFile,
    offset: u64,
}

impl SnapshotReader {
    /// The next piece, of at most `max_bytes`; empty at the end. A call that is cancelled reads the same piece again.
    pub async fn read_chunk(&mut self, max_bytes: usize) -> Result<Bytes, Error> {
        let (file, offset) = (self.file.clone(), self.offset);
        let chunk = engine::offload(&*self.file.inner.workshop, move || file.chunk_at(offset, max_bytes)).await?;
        self.offset += chunk.len() as u64;
        Ok(chunk)
    }

    /// As [`Self::read_chunk`], blocking.
    pub fn read_chunk_blocking(&mut self, max_bytes: usize) -> Result<Bytes, Error> {
        let chunk = self.file.chunk_at(self.offset, max_bytes)?;
        self.offset += chunk.len() as u64;
        Ok(chunk)
    }
}

impl SnapshotFile {
    fn chunk_at(&self, offset: u64, max_bytes: usize) -> Result<Bytes, Error> {
        let left = usize::try_from(self.inner.len_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut chunk = vec![0; left.min(max_bytes)];
        let read = self.inner.file.read_exact_at(&mut chunk, offset);
        read.map_err(|error| Error::Io { action: "read", path: self.path(), source: error })?;
        Ok(chunk.into())
    }
}

/// A view of the applied state at one moment, to be written to a file later. Applying goes on meanwhile.
///
/// The view lives where the engine keeps it, because it borrows the database. It ends with this handle.
#[derive(Debug)]
pub struct SnapshotBuilder {
    go: Option<oneshot::Sender<()>>,
    built: Option<oneshot::Receiver<Result<SnapshotFile, Error>>>,
}

impl SnapshotBuilder {
    /// Takes the view; returns once it is taken.
    pub(crate) async fn take(db: Arc<Db>, snapshots: Arc<SnapshotDir>, cluster_id: Option<String>) -> Self {
        let (go, wait) = oneshot::channel();
        let (taken, is_taken) = oneshot::channel();
        let (answer, built) = oneshot::channel();
        let engine = Arc::clone(db.engine());
        let work = Box::new(move |view: &dyn Read| drop(answer.send(build(&db, view, &snapshots, cluster_id))));
        engine.offload_view(taken, wait, work);
        // An error means that the runtime is going down, and building says so.
        let _ = is_taken.await;
        Self { go: Some(go), built: Some(built) }
    }

    /// Writes the file. Once only.
    pub(crate) async fn build(&mut self) -> Result<SnapshotFile, Error> {
        let twice = || Error::Background("a snapshot was asked for twice of one builder".into());
        let go = self.go.take().ok_or_else(twice)?;
        let built = self.built.take().ok_or_else(twice)?;
        let _ = go.send(());
        built.await.map_err(|_| Error::Background("the snapshot was given up".into()))?
    }
}

fn build(db: &Db, view: &dyn Read, snapshots: &SnapshotDir, cluster_id: Option<String>) -> Result<SnapshotFile, Error> {
    let head = Head { cluster_id, meta: applied_meta(db, view)? };
    let temporary = snapshots.create("building")?;
    let mut writer = Writer::begin(temporary.file(), temporary.path(), &head)?;
    for row in view.scan(Family::Rows, &[], None) {
        let (key, value) = row?;
        writer.row(&key, &value)?;
    }
    writer.finish()?;
    // Read back and checked: the log is purged on the strength of this file.
    let built = SnapshotFile::open_checked(temporary.into_path(), true, snapshots.workshop().clone())?;
    snapshots.adopt(&built)
}

/// A snapshot of rows that are no database's.
pub(crate) fn write<'a>(
    snapshots: &SnapshotDir,
    cluster_id: Option<String>,
    meta: SnapshotMeta,
    rows: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<SnapshotFile, Error> {
    let temporary = snapshots.create("building")?;
    let mut writer = Writer::begin(temporary.file(), temporary.path(), &Head { cluster_id, meta })?;
    for (key, value) in rows {
        writer.row(key, value)?;
    }
    writer.finish()?;
    let written = SnapshotFile::open_checked(temporary.into_path(), true, snapshots.workshop().clone())?;
    snapshots.adopt(&written)
}

/// How far the view goes. From the view itself, so that it fits the rows whatever is applied meanwhile.
fn applied_meta(db: &Db, view: &dyn Read) -> Result<SnapshotMeta, Error> {
    let get = |key: &str| view.get(Family::Meta, key.as_bytes());
    let last_log_id = match get(db::APPLIED)? {
        Some(bytes) => Some(record::decode(db::APPLIED, db.path(), &bytes)?),
        None => None,
    };
    let last_membership = match get(db::MEMBERSHIP)? {
        Some(bytes) => record::decode(db::MEMBERSHIP, db.path(), &bytes)?,
        None => Default::default(),
    };
    Ok(SnapshotMeta { last_log_id, last_membership })
}
