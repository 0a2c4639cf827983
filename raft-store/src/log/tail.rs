//! What is known of the log without asking the disk: its ends, the vote, and its most recent entries. An entry stays here
//! at least until it is written, so that it can be read as soon as it is appended. Does no I/O beyond the first load.

use std::collections::VecDeque;
use std::ops::Range;

use super::disk;
use crate::db::{self, Db};
use crate::error::Error;
use crate::types::{Entry, LogId, Vote};

/// What an entry takes beside its payload, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// The size an entry is counted with.
pub(super) fn size_bytes(entry: &Entry) -> usize {
    let payload_bytes = match &entry.payload {
        openraft::EntryPayload::Normal(payload) => payload.0.len(),
        openraft::EntryPayload::Blank => 0,
        openraft::EntryPayload::Membership(_) => 1_024,
    };
    payload_bytes + ENTRY_OVERHEAD_BYTES
}

/// How much of the log is kept in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct CacheLimit {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

/// How much one read returns at most; at least one entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadLimit {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

impl ReadLimit {
    pub(super) const NONE: Self = Self { entries: usize::MAX, bytes: usize::MAX };
}

/// Where to read a range: first from disk, then from here.
#[derive(Debug)]
pub(super) struct ReadPlan {
    pub(super) on_disk: Range<u64>,
    pub(super) cached: Vec<Entry>,
    /// What [`Tail::truncations`] was when this was planned.
    pub(super) truncations: u64,
}

#[derive(Debug)]
pub(super) struct Tail {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    /// The last entry that was removed from the front.
    pub(super) purged: Option<LogId>,
    /// The last entry of the log, or `purged` where none is left.
    pub(super) last: Option<LogId>,
    /// Counts truncations, so that a reader that went to the disk notices one.
    pub(super) truncations: u64,
    limit: CacheLimit,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
}

impl Tail {
    pub(super) fn load(db: &Db, limit: CacheLimit) -> Result<Self, Error> {
        let purged: Option<LogId> = db.meta(db::PURGED)?;
        let last = disk::last_of_whole(db, purged.map_or(0, |id| id.index() + 1))?;
        let last = last.map(|entry| entry.log_id).or(purged);
        Ok(Self {
            vote: db.meta(db::VOTE)?,
            committed: db.meta(db::COMMITTED)?,
            purged,
            last,
            truncations: 0,
            limit,
            cache: VecDeque::new(),
            cache_bytes: 0,
        })
    }

    /// Takes entries in; they can be read from here on.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        let mut expected = self.last.map(|id| id.index() + 1);
        for entry in entries {
            let index = entry.log_id.index();
            if let Some(expected) = expected.filter(|expected| *expected != index) {
                return Err(format!("entry {} does not follow: index {expected} is next", entry.log_id));
            }
            expected = Some(index + 1);
        }
        for entry in entries {
            self.cache_bytes += size_bytes(entry);
            self.cache.push_back(entry.clone());
            self.last = Some(entry.log_id);
        }
        Ok(())
    }

    /// Forgets the entries from `from` on. `last` is what is then the last one.
    pub(super) fn truncate(&mut self, from: u64, last: Option<LogId>) {
        self.truncations += 1;
        self.last = last.max(self.purged);
        while self.cache.back().is_some_and(|entry| entry.log_id.index() >= from) {
            let dropped = self.cache.pop_back();
            self.uncount(dropped);
        }
    }

    /// Forgets the entries up to `upto`, which may be beyond the last.
    pub(super) fn purge(&mut self, upto: LogId) {
        self.purged = self.purged.max(Some(upto));
        self.last = self.last.max(Some(upto));
        while self.cache.front().is_some_and(|entry| entry.log_id.index() <= upto.index()) {
            let dropped = self.cache.pop_front();
            self.uncount(dropped);
        }
    }

    /// Everything before `index` is on disk, and what is too much here may go.
    pub(super) fn written(&mut self, index: u64) {
        while (self.cache.len() > self.limit.entries || self.cache_bytes > self.limit.bytes)
            && self.cache.front().is_some_and(|entry| entry.log_id.index() < index)
        {
            let dropped = self.cache.pop_front();
            self.uncount(dropped);
        }
    }

    fn uncount(&mut self, dropped: Option<Entry>) {
        self.cache_bytes -= dropped.as_ref().map_or(0, size_bytes);
    }

    /// Plans a read of what the log has of `range`.
    pub(super) fn plan(&self, range: Range<u64>, limit: ReadLimit) -> ReadPlan {
        let start = range.start.max(self.purged.map_or(0, |id| id.index() + 1));
        let end = range.end.min(next_index(self.last));
        let cached_from = self.cache.front().map_or(u64::MAX, |entry| entry.log_id.index());
        let on_disk = start..end.min(cached_from);
        let mut cached = Vec::new();
        let mut bytes = 0;
        let skip = start.saturating_sub(cached_from);
        for entry in self.cache.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)) {
            bytes += size_bytes(entry);
            let is_full = !cached.is_empty() && (cached.len() >= limit.entries || bytes > limit.bytes);
            if entry.log_id.index() >= end || is_full {
                break;
            }
            cached.push(entry.clone());
        }
        ReadPlan { on_disk, cached, truncations: self.truncations }
    }

    #[cfg(test)]
    fn cached(&self) -> usize {
        self.cache.len()
    }
}

pub(super) fn next_index(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Payload;

    fn tail(limit: CacheLimit) -> Tail {
        Tail {
            vote: None,
            committed: None,
            purged: None,
            last: None,
            truncations: 0,
            limit,
            cache: VecDeque::new(),
            cache_bytes: 0,
        }
    }

    fn entries(range: Range<u64>, payload_bytes: usize) -> Vec<Entry> {
        range
            .map(|index| Entry {
                log_id: openraft::testing::log_id::<crate::TypeConfig>(1, 1, index),
                payload: openraft::EntryPayload::Normal(Payload(vec![0; payload_bytes].into())),
            })
            .collect()
    }

    const SMALL: CacheLimit = CacheLimit { entries: 4, bytes: 10_000 };

    #[test]
    fn what_is_not_written_stays_whatever_the_limit() {
        let mut tail = tail(SMALL);
        tail.append(&entries(0..10, 1)).unwrap();
        tail.written(3);
        assert_eq!(tail.cached(), 7, "0, 1 and 2 may go, the rest is only here");
        tail.written(10);
        assert_eq!(tail.cached(), 4);
    }

    #[test]
    fn large_entries_are_bounded_by_their_bytes() {
        let mut tail = tail(SMALL);
        tail.append(&entries(0..3, 6_000)).unwrap();
        tail.written(3);
        assert_eq!(tail.cached(), 1);
    }

    #[test]
    fn a_hole_or_an_overlap_is_refused_and_changes_nothing() {
        let mut tail = tail(SMALL);
        tail.append(&entries(0..2, 1)).unwrap();
        tail.append(&entries(3..4, 1)).unwrap_err();
        tail.append(&entries(1..2, 1)).unwrap_err();
        assert_eq!(next_index(tail.last), 2);
    }

    #[test]
    fn a_plan_takes_from_the_disk_what_is_not_here() {
        let mut tail = tail(SMALL);
        tail.append(&entries(0..10, 1)).unwrap();
        tail.written(10);
        let plan = tail.plan(2..8, ReadLimit::NONE);
        assert_eq!((plan.on_disk, plan.cached.len()), (2..6, 2));
        let plan = tail.plan(7..100, ReadLimit::NONE);
        assert!(plan.on_disk.is_empty());
        assert_eq!(plan.cached.len(), 3);
        tail.purge(entries(20..21, 1)[0].log_id);
        assert!(tail.plan(0..100, ReadLimit::NONE).cached.is_empty());
        assert_eq!(next_index(tail.last), 21);
    }

    #[test]
    fn a_limited_plan_returns_at_least_one_entry() {
        let mut tail = tail(SMALL);
        tail.append(&entries(0..4, 1_000)).unwrap();
        assert_eq!(tail.plan(0..4, ReadLimit { entries: 3, bytes: 1 }).cached.len(), 1);
        assert_eq!(tail.plan(0..4, ReadLimit { entries: 3, bytes: 1 << 20 }).cached.len(), 3);
    }
}
