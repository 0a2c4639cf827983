//! The directory of snapshots: names, what is current, and clearing up.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::warn;

use super::SnapshotFile;
use crate::engine::Workshop;
use crate::error::Error;
use crate::identity::sync_dir;
use crate::types::SnapshotMeta;

const WHOLE: &str = "snapshot-";
const TEMPORARY: [&str; 2] = ["building-", "incoming-"];

/// Where this manager keeps its snapshots.
#[derive(Debug)]
pub(crate) struct SnapshotDir {
    path: PathBuf,
    workshop: Arc<dyn Workshop>,
    next_temporary: AtomicU64,
    current: Mutex<Option<SnapshotFile>>,
    /// One at a time: clearing up after one must not remove another that is just getting its name.
    adopting: Mutex<()>,
}

/// A file that is being written. It is removed when this is dropped, unless its path was taken out.
#[derive(Debug)]
pub(super) struct Temporary {
    file: File,
    path: Option<PathBuf>,
}

impl SnapshotDir {
    /// Clears up what a crash left, and finds the newest whole snapshot.
    pub(crate) fn open(path: PathBuf, workshop: Arc<dyn Workshop>) -> Result<Self, Error> {
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        let dir = Self {
            path,
            workshop,
            next_temporary: AtomicU64::new(0),
            current: Mutex::new(None),
            adopting: Mutex::new(()),
        };
        let mut newest: Option<SnapshotFile> = None;
        for name in dir.names()? {
            let path = dir.path.join(&name);
            if TEMPORARY.iter().any(|prefix| name.starts_with(prefix)) {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            } else if name.starts_with(WHOLE) {
                match SnapshotFile::open_checked(path, false, dir.workshop.clone()) {
                    Ok(file) if newest.as_ref().is_none_or(|newest| is_newer(&file, newest)) => newest = Some(file),
                    Ok(_) => {}
                    // Nothing is lost: its rows are in the database too, and a new one is made of them when needed. But
                    // somebody should look at the disk.
                    Err(error @ Error::Snapshot { .. }) => warn!(%error, "ignored a damaged snapshot"),
                    Err(error) => return Err(error),
                }
            }
        }
        *dir.current.lock() = newest;
        Ok(dir)
    }

    pub(crate) fn current(&self) -> Option<SnapshotFile> {
        self.current.lock().clone()
    }

    /// Opens a whole snapshot by its name in here.
    pub(crate) fn open_named(&self, name: &str) -> Result<SnapshotFile, Error> {
        SnapshotFile::open_checked(self.path.join(name), false, self.workshop.clone())
    }

    /// The name under which a snapshot that covers so much is kept.
    pub(crate) fn name_of(meta: &SnapshotMeta) -> String {
        match &meta.last_log_id {
            Some(id) => format!("{WHOLE}{:020}-{}", id.index(), id.committed_leader_id()),
            None => format!("{WHOLE}empty"),
        }
    }

    pub(super) fn workshop(&self) -> &Arc<dyn Workshop> {
        &self.workshop
    }

    pub(super) fn create(&self, kind: &str) -> Result<Temporary, Error> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{kind}-{number}"));
        let file =
            File::options().create_new(true).read(true).write(true).open(&path).map_err(Error::io("create", &path))?;
        Ok(Temporary { file, path: Some(path) })
    }

    /// Gives a whole snapshot its place in here, durably: renamed where it was written here, copied where it is some
    /// other store's. It becomes the current one, and older ones go, unless there is a newer one.
    pub(crate) fn adopt(&self, snapshot: &SnapshotFile) -> Result<SnapshotFile, Error> {
        let _alone = self.adopting.lock();
        let path = self.path.join(Self::name_of(snapshot.meta()));
        let from = snapshot.path();
        let mut kept = snapshot.clone();
        if from.parent() != Some(&self.path) {
            kept = self.copy(snapshot)?;
        }
        {
            let mut place = kept.inner.place.lock();
            if place.path != path {
                fs::rename(&place.path, &path).map_err(Error::io("rename to", &path))?;
                place.path.clone_from(&path);
            }
            place.is_temporary = false;
        }
        sync_dir(&self.path)?;
        let mut current = self.current.lock();
        if current.as_ref().is_none_or(|current| !is_newer(current, &kept)) {
            *current = Some(kept.clone());
        }
        let keep = current.as_ref().map(|current| Self::name_of(current.meta()));
        drop(current);
        self.remove_others(keep.as_deref())?;
        Ok(kept)
    }

    fn copy(&self, snapshot: &SnapshotFile) -> Result<SnapshotFile, Error> {
        let temporary = self.create("incoming")?;
        let mut offset = 0;
        loop {
            let chunk = snapshot.chunk_at(offset, 1 << 20)?;
            if chunk.is_empty() {
                break;
            }
            offset += chunk.len() as u64;
            io::Write::write_all(&mut temporary.file(), &chunk).map_err(Error::io("write", temporary.path()))?;
        }
        temporary.file().sync_all().map_err(Error::io("sync", temporary.path()))?;
        SnapshotFile::open_checked(temporary.into_path(), true, self.workshop.clone())
    }

    fn remove_others(&self, keep: Option<&str>) -> Result<(), Error> {
        for name in self.names()? {
            if name.starts_with(WHOLE) && Some(name.as_str()) != keep {
                remove_leftover(&self.path.join(name));
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let read = || -> io::Result<Vec<String>> {
            let entries = fs::read_dir(&self.path)?;
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        read().map_err(Error::io("list", &self.path))
    }
}

fn is_newer(this: &SnapshotFile, that: &SnapshotFile) -> bool {
    this.meta().last_log_id > that.meta().last_log_id
}

/// Removes what nobody needs. Where that fails it only takes room, until the next start.
pub(super) fn remove_leftover(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => warn!(path = %path.display(), %error, "cannot remove an old snapshot"),
    }
}

impl Temporary {
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        self.path.as_deref().expect("the path is there until it is taken out with the file")
    }

    /// From here on the file is somebody else's to remove.
    pub(super) fn into_path(mut self) -> PathBuf {
        self.path.take().expect("the path is there until it is taken out with the file")
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            remove_leftover(path);
        }
    }
}
