//! openraft's own tests of a store, on this one.

use crate::common::Toy;
use goat_raft_store::{LogStore, MachineStore, TypeConfig};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, MachineStore<Toy>, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, MachineStore<Toy>), StorageError<TypeConfig>> {
        let dir = TempDir::new().expect("a temporary directory");
        let (log, machine) =
            goat_raft_store::open(crate::common::options(dir.path()), Toy::default()).expect("a new store");
        Ok((dir, log, machine))
    }
}

#[tokio::test]
async fn openraft_s_own_suite_passes() {
    Suite::test_all(Builder).await.expect("the suite passes");
}
