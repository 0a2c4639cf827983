//! What was done to whom, and from when to when: what excuses something. Judges nothing.

use std::sync::{Arc, Mutex};

use goat_testcluster::witness::now_ms;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A manager was killed, frozen, out of disk, or left.
    Manager,
    /// A worker's agent was killed or frozen, or its disk was full.
    Agent,
    /// A worker died with all that it ran.
    Machine,
    /// A worker's Docker daemon went, and what it had started with it, now or when it is back.
    Daemon,
    /// A worker's Docker daemon went or hung or had no room, and what it had started outlives that.
    Hang,
    /// Something between a member and others was cut or slow.
    Links,
    /// A member's disk was full or failing.
    Disk,
    /// People wanted nothing on that worker.
    Drain,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub kind: Kind,
    /// A member.
    pub who: String,
    /// Unix time.
    pub from_ms: u64,
    /// None: it has not ended.
    pub until_ms: Option<u64>,
}

impl Cause {
    /// Whether it was there in that time, or had ended no longer than `after_ms` before it.
    pub fn meets(&self, (from_ms, to_ms): (u64, u64), after_ms: u64) -> bool {
        self.from_ms <= to_ms && self.until_ms.is_none_or(|until_ms| until_ms + after_ms >= from_ms)
    }
}

/// Clones write the same book.
#[derive(Debug, Clone, Default)]
pub struct Causes(Arc<Mutex<Vec<Cause>>>);

impl Causes {
    /// It begins now; what ends it.
    pub fn begin(&self, kind: Kind, who: &str) -> usize {
        let mut all = self.0.lock().expect("no panic holds it");
        all.push(Cause { kind, who: who.to_owned(), from_ms: now_ms(), until_ms: None });
        all.len() - 1
    }

    /// It ends now.
    pub fn end(&self, which: usize) {
        if let Some(cause) = self.0.lock().expect("no panic holds it").get_mut(which) {
            cause.until_ms = Some(now_ms());
        }
    }

    /// All end now that have not: what began and was never undone is healed.
    pub fn end_all(&self) {
        let now = Some(now_ms());
        self.0.lock().expect("no panic holds it").iter_mut().for_each(|cause| cause.until_ms = cause.until_ms.or(now));
    }

    pub fn all(&self) -> Vec<Cause> {
        self.0.lock().expect("no panic holds it").clone()
    }
}
