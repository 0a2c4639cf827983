//! The replicated state as this manager has applied it, and the change sets that everything downstream reacts to.
//!
//! ```text
//! openraft ─► MachineStore ─► Machine::apply ─► State (memory) + rows (RocksDB)
//!                                  └─ published ─► changes (broadcast), applied (watch)
//! ```
//! Readers take a short read lock; nobody but `Machine` writes. Raft's own path, which must not wait for a reader or a
//! large command, reads the [`Directory`] instead: a copy of the few facts that it needs.

use std::ops::Deref;
use std::sync::Arc;

use goat_core::codec;
use goat_core::state::change::ChangeSet;
use goat_core::state::command::Command;
use goat_core::state::{At, State};
use goat_raft_store::{EntryId, Reply, RestoreError, Restored, RowChanges, StateMachine};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use crate::directory::Directory;
use crate::locks::Held;

/// How many change sets a slow reader may fall behind before it has to start again from the state.
const CHANGES_KEPT: usize = 4_096;

/// Waits for a change that `concerns` somebody, or may have: one that was missed. None: the state is gone. It may be
/// dropped at any time.
pub async fn changed(
    changes: &mut broadcast::Receiver<Arc<ChangeSet>>,
    concerns: impl Fn(&ChangeSet) -> bool,
) -> Option<()> {
    loop {
        match changes.recv().await {
            Ok(change) if !concerns(&change) => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return Some(()),
            Err(RecvError::Closed) => return None,
        }
    }
}

/// The applied state, for readers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct View {
    inner: Arc<Inner>,
}

/// A read lock on the state. See [`crate::locks`] for the rule that it follows.
#[derive(Debug)]
#[clippy::has_significant_drop]
pub struct StateGuard<'a> {
    // Released first: fields are dropped in this order.
    state: RwLockReadGuard<'a, State>,
    _held: Held,
}

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

const STATE: &str = "the state";

#[derive(Debug)]
struct Inner {
    state: RwLock<State>,
    /// Locked for as long as it takes to clone or replace the pointer.
    directory: RwLock<Arc<Directory>>,
    changes: broadcast::Sender<Arc<ChangeSet>>,
    applied: watch::Sender<u64>,
    /// Counts how often the state was replaced as a whole (start, snapshot).
    restored: watch::Sender<u64>,
}

impl View {
    /// A view of an empty state.
    pub fn new() -> Self {
        let state = State::new();
        let directory = Arc::new(Directory::of(&state));
        Self {
            inner: Arc::new(Inner {
                state: RwLock::new(state),
                directory: RwLock::new(directory),
                changes: broadcast::Sender::new(CHANGES_KEPT),
                applied: watch::Sender::new(0),
                restored: watch::Sender::new(0),
            }),
        }
    }

    /// The state now. Hold it for computation only, never over an await, and lock nothing else meanwhile.
    #[track_caller]
    pub fn read(&self) -> StateGuard<'_> {
        let held = Held::enter(STATE);
        StateGuard { state: self.inner.state.read(), _held: held }
    }

    /// Runs `work` with the state's lock taken for writing.
    pub(crate) fn write_locked(&self, work: impl FnOnce()) {
        let _held = Held::enter(STATE);
        let _state = self.inner.state.write();
        work();
    }

    /// The facts that Raft's own path needs. Never waits for a reader or the writer of the state.
    pub fn directory(&self) -> Arc<Directory> {
        self.inner.directory.read().clone()
    }

    /// Change sets from now on. A lagging receiver, or one that sees `restored` move, starts again from the state.
    pub fn changes(&self) -> broadcast::Receiver<Arc<ChangeSet>> {
        self.inner.changes.subscribe()
    }

    /// The index up to which the state is applied and its rows are written.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.applied.subscribe()
    }

    /// Moves whenever the state was replaced as a whole.
    pub fn restored(&self) -> watch::Receiver<u64> {
        self.inner.restored.subscribe()
    }
}

impl View {
    /// Brings the directory up to date with what a command has changed. Only `Machine` calls it, so nothing is applied meanwhile.
    fn follow(&self, changes: &ChangeSet, format: u8) {
        let now = self.directory();
        if now.is_touched(changes, format) {
            let new = Arc::new(Directory::of(&self.read()));
            *self.inner.directory.write() = new;
        }
    }
}

impl Default for View {
    fn default() -> Self {
        Self::new()
    }
}

/// What the store drives.
#[derive(Debug)]
pub struct Machine {
    view: View,
    unpublished: Vec<Arc<ChangeSet>>,
}

impl Machine {
    /// The writer behind `view`; make one only.
    pub fn new(view: View) -> Self {
        Self { view, unpublished: Vec::new() }
    }
}

impl StateMachine for Machine {
    fn restore(&mut self, rows: &mut dyn Iterator<Item = (Box<[u8]>, Box<[u8]>)>) -> Restored {
        let state = State::from_rows(rows).map_err(|error| -> RestoreError { Box::new(error) })?;
        let applied = state.applied_index();
        let directory = Arc::new(Directory::of(&state));
        let old = {
            let _held = Held::enter(STATE);
            std::mem::replace(&mut *self.view.inner.state.write(), state)
        };
        *self.view.inner.directory.write() = directory;
        // A large one takes a while to go, and nobody has to wait for it.
        drop(old);
        self.unpublished.clear();
        self.view.inner.applied.send_replace(applied);
        self.view.inner.restored.send_modify(|count| *count += 1);
        Ok(Some(applied))
    }

    fn apply(&mut self, at: EntryId, command: &[u8], rows: &mut RowChanges) -> Reply {
        // Whoever proposes has encoded the command itself or decoded it before. One that cannot be read here was
        // written by a newer build: to skip it would make this manager's state differ from the others' for good.
        let command: Command =
            codec::decode("command", command).expect("a command that this build cannot read: upgrade this manager");
        let mut changed = Vec::new();
        let (outcome, changes, format) = {
            let _held = Held::enter(STATE);
            let mut state = self.view.inner.state.write();
            let (outcome, changes) = state.apply(At { index: at.index, term: at.term }, &command, &mut changed);
            (outcome, changes, state.format())
        };
        self.view.follow(&changes, format);
        assert!(
            format <= codec::FORMAT,
            "the cluster uses format {format} from here on, and this build reads {} at the most: upgrade this manager",
            codec::FORMAT
        );
        for row in changed {
            match row.value {
                Some(value) => rows.put(row.key, value),
                None => rows.delete(row.key),
            }
        }
        if !changes.is_empty() {
            self.unpublished.push(Arc::new(changes));
        }
        Reply(codec::encode(&outcome).into())
    }

    fn published(&mut self, at: EntryId) {
        for changes in self.unpublished.drain(..) {
            // An error means that nobody listens.
            let _ = self.view.inner.changes.send(changes);
        }
        self.view.inner.applied.send_replace(at.index);
    }
}
