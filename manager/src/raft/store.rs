//! Opening the store, and what others than Raft do with it.

use goat_raft_store::{Base, Error, IncomingSnapshot, LogStore, MachineStore, Options, RowsView};

use super::Group;
use crate::machine::Machine;

type Store = (LogStore, MachineStore<Machine>);

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
