//! Sees every write of every disk, and what clients are told, and says at once when something is there that must never be:
//!
//! - two managers apply different entries at one index, or their states differ after the same index;
//! - an entry that was applied somewhere has another one in its place later;
//! - an acknowledged change is not in the applied state;
//! - an acknowledgement names an index that does not follow those that came before the request;
//! - a term begins, or a worker has no lease, although nothing gave a reason to.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use goat_raft_store::TypeConfig;
use goat_raft_store::engine::{Batch, Change, Family};
use openraft::alias::{LogIdOf, VoteOf};
use parking_lot::Mutex;

use crate::disk::Seen;
use crate::kernel::HostId;
use crate::trace::{Trace, shown};

/// Entries further back than this are compared no more.
const KEPT: u64 = 200_000;

#[derive(Debug, Default)]
struct Inner {
    /// What is at an index, by the first that applied it.
    entries: BTreeMap<u64, u64>,
    /// The state after an index, by the first that got there.
    states: BTreeMap<u64, (HostId, u64)>,
    applied: BTreeMap<HostId, u64>,
    terms: BTreeMap<HostId, u64>,
    highest_applied: u64,
    highest_term: u64,
    /// The highest index that a client was told.
    acknowledged: u64,
    violations: Vec<String>,
    /// Workers without a lease in calm.
    unleased: BTreeSet<HostId>,
    is_calm: bool,
}

impl Inner {
    /// What a host has applied, beside what others have; what is not the same.
    fn compare(
        &mut self,
        host: HostId,
        index: u64,
        state: u64,
        entries: impl Iterator<Item = (u64, u64)>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        self.highest_applied = self.highest_applied.max(index);
        for (at, digest) in entries {
            if *self.entries.entry(at).or_insert(digest) != digest {
                problems.push(format!("host {host} applies another entry at {at} than was applied before"));
            }
        }
        let (other, there) = *self.states.entry(index).or_insert((host, state));
        if there != state {
            problems.push(format!("after {index} host {host} has another state than host {other}"));
        }
        let oldest = index.saturating_sub(KEPT);
        while self.entries.first_key_value().is_some_and(|(at, _)| *at < oldest) {
            self.entries.pop_first();
        }
        while self.states.first_key_value().is_some_and(|(at, _)| *at < oldest) {
            self.states.pop_first();
        }
        problems
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The witness of one run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Witness {
    inner: Arc<Mutex<Inner>>,
    trace: Trace,
}

impl Witness {
    pub fn new(trace: Trace) -> Self {
        Self { inner: Arc::default(), trace }
    }

    /// Something is there that must never be.
    pub fn violation(&self, what: String) {
        let now = self.trace.now();
        self.trace.event(now, format_args!("VIOLATION: {what}"));
        self.inner.lock().violations.push(format!("{} {what}", shown(now)));
    }

    pub fn violations(&self) -> Vec<String> {
        self.inner.lock().violations.clone()
    }

    /// While it is calm no term may begin.
    pub fn set_calm(&self, is_calm: bool) {
        self.inner.lock().is_calm = is_calm;
    }

    /// The lease of a worker has lapsed, which may not be in calm. Told once of each worker.
    pub fn has_no_lease(&self, host: HostId) {
        let is_news = {
            let mut inner = self.inner.lock();
            inner.is_calm && inner.unleased.insert(host)
        };
        if is_news {
            self.violation(format!("host {host} has no lease in calm"));
        }
    }

    pub fn highest_applied(&self) -> u64 {
        self.inner.lock().highest_applied
    }

    pub fn highest_term(&self) -> u64 {
        self.inner.lock().highest_term
    }

    pub fn applied(&self, host: HostId) -> u64 {
        self.inner.lock().applied.get(&host).copied().unwrap_or(0)
    }

    /// The highest index that any client was told so far: what is asked from now on gets a later one.
    pub fn acknowledged(&self) -> u64 {
        self.inner.lock().acknowledged
    }

    /// A client was told `index`, for a request that began when [`Self::acknowledged`] was `before`.
    pub fn acknowledge(&self, before: u64, index: u64) {
        let problem = {
            let mut inner = self.inner.lock();
            inner.acknowledged = inner.acknowledged.max(index);
            (index <= before).then(|| format!("a change was acknowledged at {index}, after one at {before}"))
        };
        if let Some(problem) = problem {
            self.violation(problem);
        }
    }

    pub(crate) fn lost_power(&self, host: HostId, disk: &dyn Seen) {
        let applied = disk.meta("applied").and_then(log_id).map_or(0, |id| id.index());
        self.inner.lock().applied.insert(host, applied);
    }

    /// A batch is on a disk from now on; `entry`: what its log has at a key.
    pub(crate) fn written<'a>(
        &self,
        host: HostId,
        batch: &Batch,
        state: u64,
        entry: impl Fn(&[u8]) -> Option<&'a [u8]>,
    ) {
        let has_installed = batch
            .changes()
            .iter()
            .any(|change| matches!(change, Change::Delete(Family::Meta, key) if key == b"installing"));
        for change in batch.changes() {
            let Change::Put(Family::Meta, key, value) = change else { continue };
            match key.as_slice() {
                b"vote" => self.voted(host, value),
                b"applied" => {
                    let Some(id) = log_id(value) else { continue };
                    self.has_applied(host, id.index(), state, has_installed, &entry);
                }
                _ => {}
            }
        }
    }

    fn voted(&self, host: HostId, value: &[u8]) {
        let Ok(vote) = rmp_serde::from_slice::<VoteOf<TypeConfig>>(&value[1..]) else { return };
        let term = vote.leader_id.term;
        let (is_new, is_calm) = {
            let mut inner = self.inner.lock();
            let before = inner.terms.insert(host, term).unwrap_or(0);
            let is_new = term > inner.highest_term;
            inner.highest_term = inner.highest_term.max(term);
            (is_new && term > before, inner.is_calm)
        };
        let now = self.trace.now();
        self.trace.event(now, format_args!("host {host} votes {vote}"));
        if is_new && is_calm {
            self.violation(format!("term {term} begins on host {host} in calm"));
        }
    }

    fn has_applied<'a>(
        &self,
        host: HostId,
        index: u64,
        state: u64,
        has_installed: bool,
        entry: &impl Fn(&[u8]) -> Option<&'a [u8]>,
    ) {
        let first = self.inner.lock().applied.insert(host, index).map_or(0, |before| before + 1);
        // After a snapshot was installed the log does not have what is in it.
        let first = if has_installed { index + 1 } else { first };
        let entries = (first..=index).filter_map(|at| Some((at, digest(entry(&at.to_be_bytes())?))));
        let problems = self.inner.lock().compare(host, index, state, entries);
        let now = self.trace.now();
        self.trace.event(now, format_args!("host {host} has applied {index}, state {state:016x}"));
        problems.into_iter().for_each(|problem| self.violation(problem));
    }
}

fn log_id(record: &[u8]) -> Option<LogIdOf<TypeConfig>> {
    rmp_serde::from_slice(record.get(1..)?).ok()
}
