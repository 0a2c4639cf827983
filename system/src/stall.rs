//! Ends a process of which a part stands still, so that whoever watches it starts it again, and others take over meanwhile.
//!
//! Parts of the program move counters; a thread of the system's own, which needs no runtime and takes no lock of the program's,
//! looks at them. It measures its own sleep: a process that was stopped as a whole (SIGSTOP, a suspended machine) has a watchdog
//! that was stopped with it, and each of the watchdog's sleeps counts as one second, however long it took.
//!
//! ```text
//! a part  ── beat, every second ──► counter ◄── looks, every second ── watchdog ── no beat in 10 looks ──► abort
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Between beats, and between looks.
const STEP: Duration = Duration::from_secs(1);
/// A part that moves nothing for so long stands still. Others have taken over after a second, so waiting longer gains
/// nothing; and the longest that a runtime is busy without a break is a plan for thousands of nodes, some 300 ms.
pub const LIMIT: Duration = Duration::from_secs(10);
/// For the last words, which go the way of all output and may be stuck as well.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A part's sign of life.
#[derive(Debug)]
pub struct Beat(Arc<AtomicU64>);

impl Beat {
    /// The part moves.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Beats for as long as it is polled, by a runtime's clock.
    pub async fn keep(self) {
        loop {
            self.beat();
            tokio::time::sleep(STEP).await;
        }
    }
}

/// What the watchdog knows of a part.
#[derive(Debug)]
struct Watched {
    part: &'static str,
    beats: Weak<AtomicU64>,
    seen: u64,
    still_for: Duration,
}

impl Watched {
    /// The watchdog has slept for `slept`. Whether the part has stood still for too long.
    fn look(&mut self, beats: u64, slept: Duration) -> bool {
        if beats != self.seen {
            (self.seen, self.still_for) = (beats, Duration::ZERO);
            return false;
        }
        // Longer than it wanted to: the whole process was stopped, and the part with it.
        self.still_for += slept.min(STEP);
        self.still_for >= LIMIT
    }
}

/// See the module. Parts are watched for as long as their beats live.
#[derive(Debug, Clone, Default)]
pub struct Watchdog(Arc<Mutex<Vec<Watched>>>);

impl Watchdog {
    /// Watches from now on, until the process ends.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start() -> std::io::Result<Self> {
        let watchdog = Self::default();
        let watched = watchdog.clone();
        thread::Builder::new().name("stall-watchdog".into()).spawn(move || watched.run())?;
        Ok(watchdog)
    }

    /// Watches a part from now on.
    pub fn watch(&self, part: &'static str) -> Beat {
        let beats = Arc::new(AtomicU64::new(0));
        let watched = Watched { part, beats: Arc::downgrade(&beats), seen: 0, still_for: Duration::ZERO };
        self.lock().push(watched);
        Beat(beats)
    }

    /// Calls `probe`, which may block, on a thread of its own every second until the answer is dropped: a probe that does not
    /// return is a part that stands still. Locks are probed so.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn probe(&self, part: &'static str, probe: impl Fn() + Send + 'static) -> std::io::Result<Probe> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (beat, ends) = (self.watch(part), is_over.clone());
        thread::Builder::new().name("stall-probe".into()).spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                probe();
                beat.beat();
                thread::sleep(STEP);
            }
        })?;
        Ok(Probe(is_over))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let since = Instant::now();
            thread::sleep(STEP);
            if let Some(part) = self.look(since.elapsed()) {
                end(part);
            }
        }
    }

    /// The part that has stood still for too long.
    fn look(&self, slept: Duration) -> Option<&'static str> {
        let mut still = None;
        self.lock().retain_mut(|watched| {
            let Some(beats) = watched.beats.upgrade() else { return false };
            if watched.look(beats.load(Ordering::Relaxed), slept) {
                still = Some(watched.part);
            }
            true
        });
        still
    }
}

/// A running probe; dropped, it ends.
#[derive(Debug)]
pub struct Probe(Arc<AtomicBool>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn end(part: &'static str) -> ! {
    let words = move || eprintln!("error: {part} has not moved for {} s: this process ends itself", LIMIT.as_secs());
    if let Ok(said) = thread::Builder::new().spawn(words) {
        let deadline = Instant::now() + LAST_WORDS;
        while !said.is_finished() && Instant::now() < deadline {
            thread::sleep(LAST_WORDS / 20);
        }
    }
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks_until_still(watchdog: &Watchdog, slept: Duration) -> u64 {
        (1..).find(|_| watchdog.look(slept).is_some()).expect("it is found in the end")
    }

    #[test]
    fn a_part_that_does_not_beat_is_found_after_the_limit() {
        let watchdog = Watchdog::default();
        let (moving, _still) = (watchdog.watch("moves"), watchdog.watch("stands"));
        for _ in 1..LIMIT.as_secs() {
            moving.beat();
            assert_eq!(watchdog.look(STEP), None);
        }
        moving.beat();
        assert_eq!(watchdog.look(STEP), Some("stands"));
    }

    #[test]
    fn the_time_in_which_the_whole_process_was_stopped_does_not_count() {
        let watchdog = Watchdog::default();
        let _still = watchdog.watch("stands");
        // An hour is one look that came late.
        assert_eq!(looks_until_still(&watchdog, Duration::from_secs(3_600)), LIMIT.as_secs());
    }

    #[test]
    fn a_part_that_is_gone_is_not_watched_any_more() {
        let watchdog = Watchdog::default();
        drop(watchdog.watch("gone"));
        for _ in 0..=LIMIT.as_secs() {
            assert_eq!(watchdog.look(STEP), None);
        }
    }
}
