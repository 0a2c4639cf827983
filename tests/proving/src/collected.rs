//! The committed log, put together from the directories of managers that do not run, and what they hold of its rows. It
//! reads them with the store's own offline reader, and decides nothing of what is right.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use goat_raft_store::{EntryId, Offline};

/// An entry: its term, and its command where it is one.
type Entry = (u64, Option<Vec<u8>>);
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a manager has applied, as it is on its disk.
#[derive(Debug, Clone)]
pub struct Disk {
    pub manager: String,
    /// The last entry that is in the rows.
    pub applied: EntryId,
    pub rows: Rows,
}

/// The log as far as it is known to be committed.
#[derive(Debug, Default)]
pub struct Collected {
    pub entries: BTreeMap<u64, Entry>,
    /// Of the managers that were looked at last.
    pub disks: Vec<Disk>,
    /// Two managers that have both committed an entry, and not the same one.
    pub conflicts: Vec<String>,
}

impl Collected {
    /// Adds what a manager that does not run knows to be committed. Blocks.
    ///
    /// # Errors
    /// Where its directory cannot be read.
    pub fn add(&mut self, manager: &str, dir: &Path) -> anyhow::Result<()> {
        self.disks.retain(|disk| disk.manager != manager);
        let store = Offline::open(dir).with_context(|| format!("{manager} after its end"))?;
        let meta = store.meta()?;
        let Some(committed) = meta.committed.max(meta.applied) else { return Ok(()) };
        let mut found = Vec::new();
        store.visit_log(&mut |id, command| {
            if id.index <= committed.index {
                found.push((id, command.map(<[u8]>::to_vec)));
            }
        })?;
        for (id, command) in found {
            self.enter(manager, id, command);
        }
        let (Some(applied), None) = (meta.applied, meta.installing) else { return Ok(()) };
        let rows: Result<Rows, _> =
            store.rows().map(|row| row.map(|(key, value)| (key.into_vec(), value.into_vec()))).collect();
        self.disks.push(Disk { manager: manager.to_owned(), applied, rows: rows? });
        Ok(())
    }

    /// An entry that a manager knows to be committed.
    pub fn enter(&mut self, manager: &str, id: EntryId, command: Option<Vec<u8>>) {
        match self.entries.get(&id.index) {
            None => {
                self.entries.insert(id.index, (id.term, command));
            }
            Some((term, known)) if *term == id.term && *known == command => {}
            Some((term, _)) => self.conflicts.push(format!(
                "{manager} has committed entry {id}, and another manager another one there, of term {term}"
            )),
        }
    }

    /// The first index that nobody had any more when it was looked for; None where the log is whole.
    pub fn gap(&self) -> Option<u64> {
        let last = self.entries.last_key_value().map_or(0, |(index, _)| *index);
        (0..=last).find(|index| !self.entries.contains_key(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_entries_in_one_place_and_a_hole_are_noticed() {
        let mut log = Collected::default();
        let id = |term, index| EntryId { term, index };
        log.enter("m1", id(1, 0), None);
        log.enter("m2", id(1, 0), None);
        log.enter("m1", id(1, 1), Some(b"a".to_vec()));
        assert!(log.conflicts.is_empty() && log.gap().is_none());
        log.enter("m2", id(2, 1), Some(b"a".to_vec()));
        log.enter("m3", id(1, 1), Some(b"b".to_vec()));
        assert_eq!(log.conflicts.len(), 2);
        log.enter("m1", id(2, 3), None);
        assert_eq!(log.gap(), Some(2));
    }
}
