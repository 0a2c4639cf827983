//! A snapshot as another manager streams it: whatever comes, what is wrong is refused and leaves nothing behind.

use std::cell::RefCell;

use goat_raft_store::{
    EntryId, Identity, LogStore, MachineStore, Options, Payload, Reply, Restored, RowChanges, StateMachine, TypeConfig,
};
use openraft::EntryPayload;
use openraft::alias::EntryOf;
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Keeps nothing but rows: what is in them is not this store's affair.
#[derive(Debug)]
struct Rows;

impl StateMachine for Rows {
    fn restore(&mut self, rows: &mut dyn Iterator<Item = (Box<[u8]>, Box<[u8]>)>) -> Restored {
        rows.for_each(drop);
        Ok(None)
    }

    fn apply(&mut self, _at: EntryId, command: &[u8], rows: &mut RowChanges) -> Reply {
        rows.put(command, command);
        Reply(bytes::Bytes::new())
    }

    fn published(&mut self, _at: EntryId) {}
}

struct Store {
    runtime: Runtime,
    log: LogStore,
    machine: MachineStore<Rows>,
    _dir: TempDir,
}

fn open() -> Store {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let identity = Identity { cluster_id: None, node_id: 1 };
    let options = Options { dir: dir.path().to_path_buf(), identity, ..Options::default() };
    let (log, machine) =
        runtime.block_on(async { goat_raft_store::open(options, Rows) }).expect("an empty directory opens");
    Store { runtime, log, machine, _dir: dir }
}

thread_local! {
    static STORE: RefCell<Option<Store>> = const { RefCell::new(None) };
}

fn with_store<T>(work: impl FnOnce(&mut Store) -> T) -> T {
    STORE.with(|store| work(store.borrow_mut().get_or_insert_with(open)))
}

/// A real one, whole.
pub(super) fn samples() -> Vec<Vec<u8>> {
    let bytes = with_store(|store| {
        let Store { runtime, log, machine, .. } = store;
        runtime.block_on(async {
            let entry = |index: u64| -> EntryOf<TypeConfig> {
                let id = openraft::testing::log_id::<TypeConfig>(1, 1, index);
                EntryOf::<TypeConfig>::new(id, EntryPayload::Normal(Payload(format!("row-{index}").into())))
            };
            let entries: Vec<_> = (0..20).map(entry).collect();
            log.blocking_append(entries.clone()).await.expect("a healthy disk");
            machine
                .apply(futures::stream::iter(entries.into_iter().map(|entry| Ok((entry, None)))))
                .await
                .expect("applied");
            let mut builder = machine.try_create_snapshot_builder(true).await.expect("forced");
            let built = builder.build_snapshot().await.expect("a healthy disk");
            let mut reader = built.snapshot.open().await.expect("it is there");
            reader.read_chunk(1 << 20).await.expect("it is whole").to_vec()
        })
    });
    vec![bytes]
}

pub(super) fn snapshot(bytes: &[u8]) {
    receive(bytes);
    // A wrong checksum hides everything else that is wrong.
    if bytes.len() > 4 {
        let (guarded, _) = bytes.split_at(bytes.len() - 4);
        let crc = crc32fast::hash(guarded).to_le_bytes();
        receive(&[guarded, &crc].concat());
    }
}

fn receive(bytes: &[u8]) {
    with_store(|store| {
        store.runtime.block_on(async {
            let mut incoming = store.log.receive_snapshot().await.expect("a healthy disk");
            for piece in bytes.chunks(777) {
                incoming.append(piece).await.expect("a healthy disk");
            }
            let Ok(snapshot) = incoming.finish().await else { return };
            let mut reader = snapshot.open().await.expect("it was checked");
            while reader.read_chunk(4_096).await.is_ok_and(|chunk| !chunk.is_empty()) {}
        });
    });
}
