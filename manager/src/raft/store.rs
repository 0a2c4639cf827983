//! What others than Raft do with the store.

use goat_raft_store::{Error, IncomingSnapshot, RowsView};

use super::Group;

impl Group {
    pub(super) async fn receive_snapshot(&self) -> Result<IncomingSnapshot, Error> {
        self.inner.store.receive_snapshot().await
    }

    /// Shows the applied rows as of now. Blocks.
    pub(crate) fn with_rows<T>(&self, show: impl FnOnce(&RowsView<'_>) -> T) -> T {
        self.inner.store.with_rows(show)
    }
}
