//! Everything that can go wrong in the store. Each message names the file or directory and, where an operator can act,
//! says what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::state_machine::RestoreError;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error(
        "the data directory {dir} is in use by another process: stop that one first, or give this one a directory of \
         its own", dir = dir.display()
    )]
    Locked { dir: PathBuf },

    #[error(
        "{dir} is not empty and holds no {identity}, so it is not a data directory of this program (found {found}): \
         give an empty directory, or one that was used before",
        dir = dir.display(), identity = crate::identity::FILE_NAME
    )]
    NotADataDir { dir: PathBuf, found: String },

    #[error(
        "{dir} is the data directory of manager number {node_id} of cluster {cluster} already: start it with `goat-manager \
         run`, or give an empty directory", dir = dir.display(), cluster = cluster_id.as_deref().unwrap_or("(unknown)")
    )]
    Claimed { dir: PathBuf, node_id: u64, cluster_id: Option<String> },

    #[error(
        "{dir} is no manager's data directory (it holds no {identity}): give the directory that `goat-manager run` is \
         given", dir = dir.display(), identity = crate::identity::FILE_NAME
    )]
    NoDataDir { dir: PathBuf },

    #[error("{dir} has changed since it was looked at: look again", dir = dir.display())]
    Moved { dir: PathBuf },

    #[error(
        "the manager of {dir} has a number and has never run, so there is no log and no state yet: start it with \
         `goat-manager run`", dir = dir.display()
    )]
    NeverRun { dir: PathBuf },

    #[error(
        "{path} is damaged ({reason}): restore it from a backup of the data directory; or move the directory away and \
         let this manager join the cluster anew, under a new id", path = path.display()
    )]
    IdentityDamaged { path: PathBuf, reason: String },

    #[error(
        "{path} has format {found} and this build reads formats up to {supported}: the directory was written by a \
         newer build, use that or a later one", path = path.display()
    )]
    NewerFormat { path: PathBuf, found: u32, supported: u32 },

    #[error(
        "{path} belongs to manager id {found}, and this manager has id {wanted}: correct the id or the data directory",
        path = path.display()
    )]
    OtherNode { path: PathBuf, found: u64, wanted: u64 },

    #[error(
        "{path} belongs to cluster {found}, not to cluster {wanted}: give another data directory, or an empty one to \
         join that cluster", path = path.display()
    )]
    OtherCluster { path: PathBuf, found: String, wanted: String },

    #[error("the cluster id {id:?} cannot be kept: 1 to 128 printable ASCII characters without spaces are allowed")]
    ClusterId { id: String },

    #[error(
        "the database in {path} is damaged ({reason}): move the data directory away and let this manager join the \
         cluster anew, under a new id; its data is still on the other managers", path = path.display()
    )]
    Corrupt { path: PathBuf, reason: String },

    #[error(
        "the database in {path} is damaged: it holds {held}, and this manager had acknowledged {promised}. Move the data \
         directory away and let this manager join the cluster anew, under a new id; its data is still on the other managers",
        path = path.display()
    )]
    Forgotten { path: PathBuf, held: String, promised: String },

    #[error("the database in {path}: {source}", path = path.display())]
    Database { path: PathBuf, source: rocksdb::Error },

    #[error("{path} is no whole snapshot: {reason}", path = path.display())]
    Snapshot { path: PathBuf, reason: String },

    #[error("the state cannot be rebuilt from its rows in {path}: {source}", path = path.display())]
    Restore { path: PathBuf, source: RestoreError },

    #[error("the log writer has stopped after an error: {0}")]
    WriterFailed(#[source] std::sync::Arc<Error>),

    #[error("the log writer has ended")]
    WriterEnded,

    #[error("a background task of the store has ended early: {0}")]
    Background(String),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    pub(crate) fn snapshot(path: &Path, reason: impl Into<String>) -> Self {
        Self::Snapshot { path: path.to_path_buf(), reason: reason.into() }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io { source, .. } => source.kind(),
            Error::Corrupt { .. } | Error::Forgotten { .. } | Error::Snapshot { .. } | Error::Restore { .. } => {
                io::ErrorKind::InvalidData
            }
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
