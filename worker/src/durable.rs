//! Small files that survive a power loss whole or not at all: JSON with a version, written beside and renamed.
//!
//! What the files mean is their owners'. Everything here blocks; callers on the async side use `spawn_blocking`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What this build writes, and the only one it reads.
const VERSION: u32 = 1;

/// A file could not be written or made sense of; the text names it and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is damaged ({problem}); restore it, or stop what runs here and remove the data directory")]
    Damaged { path: PathBuf, problem: String },
    #[error("{path} has format {found}, this build knows {VERSION}; run the version that wrote it, or a newer one")]
    Format { path: PathBuf, found: u32 },
}

impl Error {
    /// Whether there was no room for it.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

#[derive(Serialize)]
struct Written<'a, T> {
    version: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// Writes `body` so that after this returned it is there, and before it the old content was.
pub fn write<T: Serialize>(path: &Path, body: &T) -> Result<(), Error> {
    replace(path, body, true)
}

/// As [`fn@write`], but only the death of this process is survived, not that of the machine: no sync.
pub fn write_unsynced<T: Serialize>(path: &Path, body: &T) -> Result<(), Error> {
    replace(path, body, false)
}

fn replace<T: Serialize>(path: &Path, body: &T, synced: bool) -> Result<(), Error> {
    let bytes = serde_json::to_vec(&Written { version: VERSION, body }).expect("our own types are valid JSON");
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(io_error(&beside))?;
    file.write_all(&bytes).map_err(io_error(&beside))?;
    if synced {
        file.sync_all().map_err(io_error(&beside))?;
    }
    fs::rename(&beside, path).map_err(io_error(path))?;
    if synced { sync_parent(path) } else { Ok(()) }
}

/// Reads what [`fn@write`] wrote; None where there is no file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path)(error)),
    };
    let damaged = |error: serde_json::Error| Error::Damaged { path: path.to_owned(), problem: error.to_string() };
    let Version { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(Error::Format { path: path.to_owned(), found: version });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Removes a file for good; that it is not there is fine.
pub fn remove(path: &Path) -> Result<(), Error> {
    if was_there(path, fs::remove_file(path))? { sync_parent(path) } else { Ok(()) }
}

/// Removes files that nobody misses; that some are not there is fine. Should the power be lost, some may be there again.
pub fn remove_all(paths: &[PathBuf]) -> Result<(), Error> {
    paths.iter().try_for_each(|path| was_there(path, fs::remove_file(path)).map(drop))
}

/// Gives a file another name in its directory, for good; that it is not there is fine.
pub fn rename(path: &Path, to: &Path) -> Result<(), Error> {
    if was_there(path, fs::rename(path, to))? { sync_parent(path) } else { Ok(()) }
}

/// False where a file that is not there was to be done something to.
fn was_there(path: &Path, done: io::Result<()>) -> Result<bool, Error> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error(path)(error)),
    }
}

/// Makes a directory that only this user enters, with its parents; that it is there is fine.
pub fn make_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error(path))
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Body {
        word: String,
    }

    #[test]
    fn what_was_written_is_read_and_absence_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.json");
        assert_eq!(read::<Body>(&path).expect("no error"), None);
        for word in ["one", "two"] {
            let body = Body { word: word.into() };
            write(&path, &body).expect("written");
            assert_eq!(read::<Body>(&path).expect("read"), Some(body));
        }
        remove(&path).expect("removed");
        remove(&path).expect("removing twice is fine");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    #[test]
    fn damage_and_other_formats_are_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.json");
        fs::write(&path, b"{\"version\":1,").expect("written");
        let error = read::<Body>(&path).expect_err("damaged").to_string();
        assert!(error.contains("a.json is damaged"), "{error}");
        fs::write(&path, b"{\"version\":7,\"word\":\"x\"}").expect("written");
        let error = read::<Body>(&path).expect_err("newer").to_string();
        assert!(error.contains("has format 7, this build knows 1"), "{error}");
    }
}
