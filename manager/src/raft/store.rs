//! Opening the store, and what others than Raft do with it.

use goat_raft_store::{Base, Error, IncomingSnapshot, LogEnds, LogStore, MachineStore, Options, RowsView};
use tracing::info;

use super::Group;
use crate::machine::{Machine, View};

type Store = (LogStore, MachineStore<Machine>);

/// What a start has read: the rows, and of the log what is to be applied yet.
pub(super) fn tell_read(took_ms: u64, ends: LogEnds, view: &View) {
    let state = view.read();
    info!(
        took_ms,
        tasks = state.tasks().len(),
        applied_index = state.applied_index(),
        first_log_index = ends.purged.map_or(0, |purged| purged.index + 1),
        last_log_index = ends.last.map_or(0, |last| last.index),
        "the data directory was read"
    );
}

/// Opens the store; on RocksDB, where no other database is given.
pub(super) async fn open(options: Options, machine: Machine, base: Option<Base>) -> Result<Store, super::Error> {
    match base {
        Some(base) => Ok(goat_raft_store::open_base(options, machine, base)?),
        None => {
            let opened = tokio::task::spawn_blocking(move || goat_raft_store::open(options, machine)).await;
            Ok(opened.map_err(|error| super::Error::Raft(error.to_string()))??)
        }
    }
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
