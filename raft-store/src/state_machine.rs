//! The one narrow door to whoever owns the replicated state: what it is asked, and what it may write.

use crate::types::{EntryId, Reply};

/// Why a state could not be rebuilt from its rows.
pub type RestoreError = Box<dyn std::error::Error + Send + Sync>;

/// The index of the last command that is in the rows, where they tell it.
pub type Restored = Result<Option<u64>, RestoreError>;

/// The replicated state. Its rows are all that is kept: after a restart it is rebuilt from them, not from the log.
///
/// Calls come one at a time, from blocking threads, never from the async runtime's own.
pub trait StateMachine: Send + Sync + 'static {
    /// Forgets everything and rebuilds from rows, in key order: when the store is opened, and after a snapshot was
    /// installed. Rows that tell their last command, and lack one that was applied, are not opened.
    ///
    /// # Errors
    /// Rows that do not make a state. The store then refuses to open, or Raft stops: nothing is applied on top.
    fn restore(&mut self, rows: &mut dyn Iterator<Item = (Box<[u8]>, Box<[u8]>)>) -> Restored;

    /// Applies one committed command. Total: it never fails; a command that does not fit is answered by a reply that
    /// says so. The rows it touched go into `rows`.
    fn apply(&mut self, at: EntryId, command: &[u8], rows: &mut RowChanges) -> Reply;

    /// The rows of everything up to `at` are written, so changes may be told downstream. Called after each batch, also
    /// one that held no command, and after `restore` where anything was applied before.
    fn published(&mut self, at: EntryId);
}

/// Changes to rows, in the order they were made. Keys and values may be any bytes.
#[derive(Debug, Default)]
pub struct RowChanges {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl RowChanges {
    /// Writes a row, over an older one of that key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push((key.into(), Some(value.into())));
    }

    /// Removes a row; one that is not there is no error.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.changes.push((key.into(), None));
    }

    /// The changes so far: a value, or nothing where the row goes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }
}
