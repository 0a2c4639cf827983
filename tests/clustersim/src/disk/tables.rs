//! The database's families in memory.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;

use goat_raft_store::Error;
use goat_raft_store::engine::{Batch, Change, Family, Pair, Pairs, Read};

/// What is on a disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    pub(super) log: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) meta: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of all rows together, whatever their order of arrival.
    pub(super) digest: u64,
}

impl Tables {
    const fn of(&self, family: Family) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        match family {
            Family::Log => &self.log,
            Family::Meta => &self.meta,
            Family::Rows => &self.rows,
        }
    }

    fn put(&mut self, family: Family, key: &[u8], value: Option<&[u8]>) {
        let table = match family {
            Family::Log => &mut self.log,
            Family::Meta => &mut self.meta,
            Family::Rows => &mut self.rows,
        };
        let before = match value {
            Some(value) => table.insert(key.to_vec(), value.to_vec()),
            None => table.remove(key),
        };
        if family == Family::Rows {
            self.digest ^=
                before.map_or(0, |before| digest(key, &before)) ^ value.map_or(0, |value| digest(key, value));
        }
    }

    pub(super) fn make(&mut self, batch: &Batch) {
        for change in batch.changes() {
            match change {
                Change::Put(family, key, value) => self.put(*family, key, Some(value)),
                Change::Delete(family, key) => self.put(*family, key, None),
                Change::DeleteRange(family, from, until) => {
                    let range = (Bound::Included(from.clone()), Bound::Excluded(until.clone()));
                    let keys: Vec<_> = self.of(*family).range(range).map(|(key, _)| key.clone()).collect();
                    keys.iter().for_each(|key| self.put(*family, key, None));
                }
            }
        }
    }
}

fn digest(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

impl Read for Tables {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.of(family).get(key).cloned())
    }

    fn scan<'a>(&'a self, family: Family, from: &[u8], until: Option<&[u8]>) -> Pairs<'a> {
        let until = until.map_or(Bound::Unbounded, |until| Bound::Excluded(until.to_vec()));
        let found = self.of(family).range((Bound::Included(from.to_vec()), until));
        Box::new(found.map(|(key, value)| Ok((key.as_slice().into(), value.as_slice().into()))))
    }

    fn last(&self, family: Family) -> Result<Option<Pair>, Error> {
        Ok(self.of(family).last_key_value().map(|(key, value)| (key.as_slice().into(), value.as_slice().into())))
    }
}

/// What a witness may look at of a disk.
pub(crate) trait Seen {
    fn meta(&self, key: &str) -> Option<&[u8]>;
}

impl Seen for Tables {
    fn meta(&self, key: &str) -> Option<&[u8]> {
        self.meta.get(key.as_bytes()).map(Vec::as_slice)
    }
}
