//! The rule for this manager's two read-write locks, and a check of it.
//!
//! The locks are the one around the replicated state ([`crate::machine::View`]) and the one that openraft keeps around its
//! metrics ([`crate::raft::Group::with_metrics`]). Both are fair: a reader waits if a writer waits.
//!
//! ```text
//! one lock     thread: read ─ holds ─ read again: waits for the writer        two locks   A: metrics ─ waits for state
//!              writer:          waits for the first guard                                 B: state ── waits for metrics
//!                                                                                         and one writer waits on each
//! ```
//! Both are deadlocks, and no thread can end them. Therefore a thread that holds a guard of either lock takes neither lock
//! again. Builds with debug assertions, tests and simulators among them, panic at the line that breaks the rule, whether
//! or not a writer waits at that moment. They also log a line that keeps a guard for long.

use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::warn;

/// CPU time for which a guard may be held before debug builds log the line that holds it. The shortest time in which a
/// manager must be able to answer is a heartbeat interval (100 ms); a quarter of it is left to a reader of the state.
pub const LONG_HOLD: Duration = Duration::from_millis(25);

/// The longest hold so far, in microseconds of CPU time.
static LONGEST_US: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static HELD: Cell<Option<Mark>> = const { Cell::new(None) };
}

/// A lock that this thread holds.
#[derive(Debug, Clone, Copy)]
struct Mark {
    lock: &'static str,
    at: &'static Location<'static>,
}

/// Marks a lock as held by this thread until it is dropped. Not `Send`: guards stay on their thread.
#[derive(Debug)]
pub struct Held {
    is_checked: bool,
    began: Duration,
    _stays: PhantomData<*const ()>,
}

impl Held {
    /// Call this before the lock is taken.
    ///
    /// # Panics
    /// In builds with debug assertions, if this thread holds one of the two locks already.
    #[track_caller]
    pub fn enter(lock: &'static str) -> Self {
        let is_checked = cfg!(debug_assertions);
        if is_checked {
            let new = Mark { lock, at: Location::caller() };
            if let Some(held) = HELD.get() {
                panic!(
                    "{} locks {} while this thread holds {}, locked at {}: with a writer in between this is a deadlock",
                    new.at, new.lock, held.lock, held.at
                );
            }
            HELD.set(Some(new));
        }
        Self { is_checked, began: cpu_time(), _stays: PhantomData }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_checked {
            return;
        }
        let held_for = cpu_time().saturating_sub(self.began);
        let held_us = u64::try_from(held_for.as_micros()).unwrap_or(u64::MAX);
        // Only a new record is logged: a line that holds the lock for long does so at each call.
        if let Some(Mark { lock, at }) = HELD.take()
            && held_for > LONG_HOLD
            && LONGEST_US.fetch_max(held_us, Ordering::Relaxed) < held_us
        {
            warn!(lock, at = %at, held_ms = held_us / 1_000, "a lock was held longer than ever before");
        }
    }
}

/// CPU time of this thread; zero in builds that do not check. A thread that waits for a processor does not count as one
/// that holds a lock for long.
fn cpu_time() -> Duration {
    if !cfg!(debug_assertions) {
        return Duration::ZERO;
    }
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    now.map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panics(break_rule: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let payload = std::panic::catch_unwind(break_rule).expect_err("the rule is checked");
        *payload.downcast::<String>().expect("it says which locks")
    }

    #[test]
    fn a_second_guard_on_one_thread_is_refused_and_names_both_lines() {
        let text = panics(|| {
            let _state = Held::enter("the state");
            let _metrics = Held::enter("Raft's metrics");
        });
        assert!(text.contains("locks Raft's metrics while this thread holds the state"), "{text}");
        assert_eq!(text.matches("locks.rs").count(), 2, "{text}");
    }

    #[test]
    fn guards_one_after_the_other_and_on_several_threads_are_allowed() {
        for _ in 0..2 {
            let _held = Held::enter("the state");
        }
        let _here = Held::enter("the state");
        let elsewhere = std::thread::spawn(|| drop(Held::enter("the state")));
        elsewhere.join().expect("each thread has its own mark");
    }
}
