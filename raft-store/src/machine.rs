//! openraft's state machine store: drives a [`StateMachine`] and keeps its rows. Never looks into commands or rows.
//!
//! ```text
//! entries that are ready ─► apply, one by one ─► rows + applied + membership in one batch ─► published ─► replies
//! ```
//! A reply is sent only once the rows are in the write-ahead log, so whoever has it also finds it applied.
//!
//! Installing a snapshot replaces all rows, in several batches. The file is in its place first, then `installing` names
//! it, synced, and goes again in the last batch, with which `applied` moves. A crash between leaves the name, and the
//! next start does it over from the file. The log in front of the snapshot is purged by openraft after that; where a
//! crash comes before, it finds `applied` beyond the log's end at the next start and purges then.

use std::io;
use std::sync::Arc;

use futures::{FutureExt, Stream, StreamExt};
use openraft::alias::SnapshotOf;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;

use crate::db::{self, Db};
use crate::engine::{Batch, Family};
use crate::error::Error;
use crate::identity::IdentityFile;
use crate::lost;
use crate::snapshot::{SnapshotBuilder, SnapshotDir, SnapshotFile};
use crate::state_machine::{RowChanges, StateMachine};
use crate::types::{Entry, EntryId, LogId, Reply, SnapshotMeta, StoredMembership, TypeConfig};

/// So many entries are applied before their replies go out.
const MAX_BATCH_ENTRIES: usize = 1_024;
/// Rows of a snapshot that are written at once.
const INSTALL_BATCH_BYTES: usize = 4 << 20;

type Responder = openraft::storage::ApplyResponder<TypeConfig>;

/// The applied state of one manager. Cheap to clone; all clones are the same state.
pub struct MachineStore<S> {
    inner: Arc<Inner<S>>,
}

struct Inner<S> {
    db: Arc<Db>,
    identity: Arc<IdentityFile>,
    snapshots: Arc<SnapshotDir>,
    machine: Mutex<Machine<S>>,
}

struct Machine<S> {
    state: S,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl<S> Clone for MachineStore<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S> std::fmt::Debug for MachineStore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MachineStore").field("db", &self.inner.db).finish_non_exhaustive()
    }
}

impl<S: StateMachine> MachineStore<S> {
    pub(crate) fn open(
        db: Arc<Db>,
        identity: Arc<IdentityFile>,
        snapshots: Arc<SnapshotDir>,
        state: S,
    ) -> Result<Self, Error> {
        let machine = Mutex::new(Machine { state, applied: None, membership: StoredMembership::default() });
        let inner = Inner { db, identity, snapshots, machine };
        if let Some(name) = inner.interrupted_install()? {
            tracing::info!(snapshot = name, "finishing the installation of a snapshot");
            let snapshot = inner.snapshots.open_named(&name)?;
            inner.replace_rows(&snapshot)?;
        }
        inner.load(&mut inner.machine.lock())?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Up to where entries are applied and their rows are written.
    pub fn applied(&self) -> Option<EntryId> {
        self.inner.machine.lock().applied.as_ref().map(EntryId::of)
    }
}

impl<S: StateMachine> Inner<S> {
    /// Rebuilds the machine from what is in the database.
    fn load(&self, machine: &mut Machine<S>) -> Result<(), Error> {
        let mut failed = None;
        let mut items = self.db.engine().scan(Family::Rows, &[], None);
        let mut rows = std::iter::from_fn(|| match items.next()? {
            Ok(row) => Some(row),
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        let restored = machine.state.restore(&mut rows);
        // A read that failed is the cause of whatever the machine then says of its rows.
        if let Some(error) = failed {
            return Err(error);
        }
        let last = restored.map_err(|source| Error::Restore { path: self.db.path().to_path_buf(), source })?;
        machine.applied = self.db.meta(db::APPLIED)?;
        lost::check(&self.db, last, machine.applied.as_ref())?;
        machine.membership = self.db.meta(db::MEMBERSHIP)?.unwrap_or_default();
        if let Some(applied) = &machine.applied {
            machine.state.published(EntryId::of(applied));
        }
        Ok(())
    }

    fn apply(&self, entries: Vec<EntryResponder<TypeConfig>>) -> Result<(), Error> {
        let mut machine = self.machine.lock();
        let mut rows = RowChanges::default();
        let mut replies: Vec<(Responder, Reply)> = Vec::with_capacity(entries.len());
        let membership_before = *machine.membership.log_id();
        for (entry, responder) in entries {
            let reply = machine.apply(entry, &mut rows);
            replies.extend(responder.map(|responder| (responder, reply)));
        }
        let Some(applied) = machine.applied else { return Ok(()) };
        let mut batch = Batch::default();
        for (key, value) in rows.iter() {
            match value {
                Some(value) => batch.put(Family::Rows, key, value),
                None => batch.delete(Family::Rows, key),
            }
        }
        db::put_meta(&mut batch, db::APPLIED, &applied);
        if *machine.membership.log_id() != membership_before {
            db::put_meta(&mut batch, db::MEMBERSHIP, &machine.membership);
        }
        self.db.engine().write(batch, false)?;
        machine.state.published(EntryId::of(&applied));
        drop(machine);
        for (responder, reply) in replies {
            responder.send(reply);
        }
        Ok(())
    }

    fn install(&self, meta: &SnapshotMeta, snapshot: &SnapshotFile) -> Result<(), Error> {
        let path = snapshot.path();
        if snapshot.meta() != meta {
            return Err(Error::snapshot(&path, format!("it covers {} where {meta} was announced", snapshot.meta())));
        }
        self.identity.check_cluster(&path, snapshot.cluster_id())?;
        let mut machine = self.machine.lock();
        let snapshot = self.snapshots.adopt(snapshot)?;
        let mut begin = Batch::default();
        begin.put(Family::Meta, db::INSTALLING, SnapshotDir::name_of(meta));
        self.db.engine().write(begin, true)?;
        self.replace_rows(&snapshot)?;
        self.load(&mut machine)
    }

    fn interrupted_install(&self) -> Result<Option<String>, Error> {
        let name = self.db.engine().get(Family::Meta, db::INSTALLING.as_bytes())?;
        Ok(name.map(|name| String::from_utf8_lossy(&name).into_owned()))
    }

    /// Replaces all rows, and what says how far they go. May be done over.
    fn replace_rows(&self, snapshot: &SnapshotFile) -> Result<(), Error> {
        let mut batch = Batch::default();
        if let Some((last, _)) = self.db.engine().last(Family::Rows)? {
            // The range ends before its end, so the last one goes by itself.
            batch.delete_range(Family::Rows, [], &*last);
            batch.delete(Family::Rows, last);
        }
        snapshot.visit_rows(|key, value| {
            batch.put(Family::Rows, key, value);
            if batch.size_bytes() >= INSTALL_BATCH_BYTES {
                self.db.engine().write(std::mem::take(&mut batch), false)?;
            }
            Ok(())
        })?;
        match &snapshot.meta().last_log_id {
            Some(last) => db::put_meta(&mut batch, db::APPLIED, last),
            None => batch.delete(Family::Meta, db::APPLIED),
        }
        db::put_meta(&mut batch, db::MEMBERSHIP, &snapshot.meta().last_membership);
        batch.delete(Family::Meta, db::INSTALLING);
        self.db.engine().write(batch, true)
    }
}

impl<S: StateMachine> Machine<S> {
    fn apply(&mut self, entry: Entry, rows: &mut RowChanges) -> Reply {
        let log_id = entry.log_id;
        self.applied = Some(log_id);
        match entry.payload {
            EntryPayload::Blank => Reply::default(),
            EntryPayload::Normal(command) => self.state.apply(EntryId::of(&log_id), &command.0, rows),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(log_id), membership);
                Reply::default()
            }
        }
    }
}

impl<S: StateMachine> RaftStateMachine<TypeConfig> for MachineStore<S> {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let machine = self.inner.machine.lock();
        Ok((machine.applied, machine.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(first) = entries.next().await {
            let mut batch = vec![first?];
            while batch.len() < MAX_BATCH_ENTRIES {
                // What is ready shares a write; what is not is not waited for.
                let Some(Some(entry)) = entries.next().now_or_never() else {
                    break;
                };
                batch.push(entry?);
            }
            let inner = Arc::clone(&self.inner);
            self.inner.db.offload(move || inner.apply(batch)).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let inner = &self.inner;
        let cluster_id = inner.identity.get().cluster_id;
        SnapshotBuilder::take(Arc::clone(&inner.db), Arc::clone(&inner.snapshots), cluster_id).await
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> Result<(), io::Error> {
        let (inner, meta) = (Arc::clone(&self.inner), meta.clone());
        Ok(self.inner.db.offload(move || inner.install(&meta, &snapshot)).await?)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, SnapshotFile>>, io::Error> {
        let current = self.inner.snapshots.current();
        Ok(current.map(|file| SnapshotOf::<TypeConfig, _> { meta: file.meta().clone(), snapshot: file }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotFile>, io::Error> {
        let file = self.build().await?;
        Ok(SnapshotOf::<TypeConfig, _> { meta: file.meta().clone(), snapshot: file })
    }
}

#[cfg(test)]
mod tests {
    use openraft::storage::RaftStateMachine;

    use super::*;
    use crate::types::Payload;
    use crate::{Identity, Options, Restored};

    /// Keeps nothing; a command is a key, its row's value as long as the key.
    #[derive(Default)]
    struct Echo {
        restored: Vec<Vec<u8>>,
    }

    impl StateMachine for Echo {
        fn restore(&mut self, rows: &mut dyn Iterator<Item = (Box<[u8]>, Box<[u8]>)>) -> Restored {
            self.restored = rows.map(|(key, _)| key.into_vec()).collect();
            Ok(None)
        }

        fn apply(&mut self, _: EntryId, command: &[u8], rows: &mut RowChanges) -> Reply {
            rows.put(command, command);
            Reply::default()
        }

        fn published(&mut self, _: EntryId) {}
    }

    fn try_open(dir: &std::path::Path) -> Result<MachineStore<Echo>, Error> {
        let identity = Identity { cluster_id: None, node_id: 1 };
        let options = Options { dir: dir.to_path_buf(), identity, ..Options::default() };
        crate::open(options, Echo::default()).map(|(_, machine)| machine)
    }

    fn open(dir: &std::path::Path) -> MachineStore<Echo> {
        try_open(dir).expect("the store opens")
    }

    async fn apply(store: &mut MachineStore<Echo>, index: u64, key: &str) {
        let entry = Entry {
            log_id: openraft::testing::log_id::<TypeConfig>(1, 1, index),
            payload: EntryPayload::Normal(Payload(key.to_owned().into())),
        };
        store.apply(futures::stream::iter([Ok((entry, None))])).await.expect("a healthy disk");
    }

    #[tokio::test]
    async fn an_installation_that_was_cut_off_is_finished_at_the_next_start() {
        let dir = tempfile::TempDir::new().unwrap();
        let name = {
            let mut store = open(dir.path());
            for (index, key) in ["a", "b", "c"].into_iter().enumerate() {
                apply(&mut store, index as u64, key).await;
            }
            let snapshot = store.get_snapshot_builder().await.build().await.unwrap();
            // As after a crash: the old rows are partly gone, some of the new are there, and the name is still kept.
            apply(&mut store, 3, "stale").await;
            let db = &store.inner.db;
            let mut batch = Batch::default();
            batch.delete(Family::Rows, "a");
            batch.put(Family::Meta, db::INSTALLING, SnapshotDir::name_of(snapshot.meta()));
            db.engine().write(batch, true).unwrap();
            SnapshotDir::name_of(snapshot.meta())
        };
        let store = open(dir.path());
        assert_eq!(store.inner.machine.lock().state.restored, [b"a", b"b", b"c"]);
        assert_eq!(store.applied(), Some(EntryId { term: 1, index: 2 }));
        assert_eq!(store.inner.interrupted_install().unwrap(), None);
        drop(store);
        // The same with the file gone: half of a state is not opened.
        {
            let store = open(dir.path());
            let mut batch = Batch::default();
            batch.put(Family::Meta, db::INSTALLING, name.as_str());
            store.inner.db.engine().write(batch, true).unwrap();
        }
        std::fs::remove_file(dir.path().join("snapshots").join(&name)).unwrap();
        let error = try_open(dir.path()).map(drop).expect_err("refused");
        assert!(error.to_string().contains(&name), "{error}");
    }
}
