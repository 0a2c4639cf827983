//! A snapshot on its way in from another manager. Who sends it, and in what frames, is the transport's affair.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;

use super::SnapshotFile;
use super::dir::{SnapshotDir, Temporary};
use crate::engine::{self, Workshop};
use crate::error::Error;
use crate::identity::IdentityFile;

/// Takes the bytes of a snapshot, in order. Dropped before [`Self::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct IncomingSnapshot {
    workshop: Arc<dyn Workshop>,
    identity: Arc<IdentityFile>,
    /// Away while a piece is being written; a call that was cancelled then does not bring it back.
    file: Option<Temporary>,
    len_bytes: u64,
}

impl IncomingSnapshot {
    pub(crate) fn create(snapshots: &SnapshotDir, identity: Arc<IdentityFile>) -> Result<Self, Error> {
        Ok(Self {
            workshop: snapshots.workshop().clone(),
            identity,
            file: Some(snapshots.create("incoming")?),
            len_bytes: 0,
        })
    }

    /// How much has come so far.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Adds the next piece.
    ///
    /// # Errors
    /// Where it cannot be written, or an earlier call was cancelled or failed: then it has to be received anew.
    pub async fn append(&mut self, piece: &[u8]) -> Result<(), Error> {
        let file = self.file.take().ok_or_else(interrupted)?;
        let piece = Bytes::copy_from_slice(piece);
        let len_bytes = piece.len() as u64;
        let writing = engine::offload(&*self.workshop, move || {
            file.file().write_all(&piece).map_err(Error::io("write", file.path()))?;
            Ok(file)
        });
        self.file = Some(writing.await?);
        self.len_bytes += len_bytes;
        Ok(())
    }

    /// Ends it: synced, and checked as a whole. Where the result is not installed it is removed again with its last
    /// handle.
    ///
    /// # Errors
    /// [`Error::Snapshot`] where bytes are missing or wrong, [`Error::OtherCluster`], [`Error::NewerFormat`].
    pub async fn finish(mut self) -> Result<SnapshotFile, Error> {
        let file = self.file.take().ok_or_else(interrupted)?;
        let identity = Arc::clone(&self.identity);
        let workshop = self.workshop.clone();
        let finishing = engine::offload(&*self.workshop, move || {
            file.file().sync_all().map_err(Error::io("sync", file.path()))?;
            let (path, path_for_error) = (file.path().to_path_buf(), file.path().to_path_buf());
            let snapshot = SnapshotFile::open_checked(path, false, workshop)?;
            identity.check_cluster(&path_for_error, snapshot.cluster_id())?;
            snapshot.inner.place.lock().is_temporary = true;
            file.into_path();
            Ok(snapshot)
        });
        finishing.await
    }
}

fn interrupted() -> Error {
    Error::Background("an earlier write to this incoming snapshot was interrupted".into())
}
