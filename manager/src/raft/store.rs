//! What others than Raft do with the store.

use std::time::Duration;

use goat_raft_store::{Error, IncomingSnapshot, LogEnds, RowsView};
use tracing::info;

use super::Group;
use crate::machine::View;

/// What a start has read: the rows, and of the log what is to be applied yet.
pub(super) fn tell_read(took: Duration, ends: LogEnds, view: &View) {
    let state = view.read();
    info!(
        took_ms = took.as_millis() as u64,
        tasks = state.tasks().len(),
        applied_index = state.applied_index(),
        first_log_index = ends.purged.map_or(0, |purged| purged.index + 1),
        last_log_index = ends.last.map_or(0, |last| last.index),
        "the data directory was read"
    );
}

impl Group {
    pub(super) async fn receive_snapshot(&self) -> Result<IncomingSnapshot, Error> {
        self.inner.store.receive_snapshot().await
    }

    /// Shows the applied rows as of now. Blocks.
    pub(crate) fn with_rows<T>(&self, show: impl FnOnce(&RowsView<'_>) -> T) -> T {
        self.inner.store.with_rows(show)
    }
}
