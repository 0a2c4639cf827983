//! What happens, in order, with its simulated time: a digest of all of it to compare runs by, and lines for people.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Arguments;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::kernel::{HostId, SECOND, US};

/// The trace of one run. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    digest: DefaultHasher,
    events: u64,
    is_shown: bool,
    shows_arrivals: bool,
    now: u64,
}

impl Trace {
    /// `is_shown`: lines on standard error, but for what arrives; `shows_arrivals`: that too.
    pub fn new(is_shown: bool, shows_arrivals: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner { is_shown, shows_arrivals, ..Inner::default() })))
    }

    /// A segment arrives.
    pub(crate) fn arrival(&self, now: u64, from: HostId, to: HostId, conn: u64, what: &(&'static str, u64)) {
        let mut inner = self.0.lock();
        (now, from, to, conn, what).hash(&mut inner.digest);
        inner.events += 1;
        if inner.shows_arrivals {
            eprintln!("{} {from} -> {to} #{conn} {} {:x}", shown(now), what.0, what.1);
        }
    }

    /// Something that people want to know.
    pub fn event(&self, now: u64, what: Arguments<'_>) {
        let mut inner = self.0.lock();
        let text = what.to_string();
        (now, &text).hash(&mut inner.digest);
        inner.events += 1;
        if inner.is_shown {
            eprintln!("{} {text}", shown(now));
        }
    }

    /// For what has no time at hand.
    pub(crate) fn set_now(&self, now: u64) {
        self.0.lock().now = now;
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.lock().now
    }

    /// Of everything so far, and how much that was.
    pub fn digest(&self) -> (u64, u64) {
        let inner = self.0.lock();
        (inner.digest.finish(), inner.events)
    }
}

/// A simulated time as people read it.
pub fn shown(now: u64) -> String {
    format!("{:>10}.{:06}", now / SECOND, now % SECOND / US)
}
