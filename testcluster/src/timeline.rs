//! What happened when, told as it happens: `+0.412 m3 leads, term 5`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::witness::now_ms;

/// One line.
#[derive(Debug, Clone, Serialize)]
pub struct Moment {
    pub at_ms: f64,
    pub text: String,
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "+{:.3} {}", self.at_ms / 1e3, self.text)
    }
}

/// A timeline. Clones write the same one.
#[derive(Debug, Clone)]
pub struct Timeline {
    zero: Instant,
    zero_unix_ms: u64,
    moments: Arc<Mutex<Vec<Moment>>>,
    is_printed: bool,
}

impl Timeline {
    /// Begins now. `is_printed`: each line goes to standard output at once.
    pub fn begin(is_printed: bool) -> Self {
        Self { zero: Instant::now(), zero_unix_ms: now_ms(), moments: Arc::default(), is_printed }
    }

    /// The moment that `+0.000` is.
    pub const fn zero(&self) -> Instant {
        self.zero
    }

    /// The same moment as Unix time, on the clock of the runtimes.
    pub const fn zero_unix_ms(&self) -> u64 {
        self.zero_unix_ms
    }

    /// Something happened at that Unix time.
    pub fn tell_unix(&self, at_unix_ms: u64, text: impl Into<String>) {
        self.tell_at(self.zero + Duration::from_millis(at_unix_ms.saturating_sub(self.zero_unix_ms)), text);
    }

    pub fn elapsed(&self) -> Duration {
        self.zero.elapsed()
    }

    /// Something happened now.
    pub fn tell(&self, text: impl Into<String>) {
        self.tell_at(Instant::now(), text);
    }

    /// Something happened then.
    pub fn tell_at(&self, at: Instant, text: impl Into<String>) {
        let moment = Moment { at_ms: at.saturating_duration_since(self.zero).as_secs_f64() * 1e3, text: text.into() };
        if self.is_printed {
            println!("{moment}");
        }
        self.moments.lock().expect("no panic holds it").push(moment);
    }

    /// All lines so far, in the order of their times.
    pub fn moments(&self) -> Vec<Moment> {
        let mut moments = self.moments.lock().expect("no panic holds it").clone();
        moments.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
        moments
    }
}
