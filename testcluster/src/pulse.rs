//! Whether this program stood still: everybody's bytes pass through it, so a pause here is a cut of all links that no
//! drill asked for. On a machine that is short of CPU or memory it says what a failed drill is worth.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::taskset::TaskSet;
use crate::witness::now_ms;

const BEAT: Duration = Duration::from_millis(20);
const STOP_GRACE: Duration = Duration::from_secs(1);
/// Shorter ones are nobody's business.
const NOTED_MS: u64 = 100;

/// A time for which this program stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// When it went on, Unix time.
    pub at_ms: u64,
    pub ms: u64,
}

#[derive(Debug, Default)]
struct Seen {
    worst_ms: u64,
    stalls: Vec<Stall>,
}

/// Beats until it is stopped.
#[derive(Debug)]
pub struct Pulse {
    seen: Arc<Mutex<Seen>>,
    tasks: TaskSet,
}

impl Pulse {
    pub fn start() -> Self {
        let (seen, tasks) = (Arc::<Mutex<Seen>>::default(), TaskSet::new("pulse"));
        let notes = seen.clone();
        tasks.spawn(async move {
            loop {
                let due = Instant::now() + BEAT;
                tokio::time::sleep_until(due).await;
                let ms = due.elapsed().as_millis() as u64;
                let mut seen = notes.lock().expect("no panic holds it");
                seen.worst_ms = seen.worst_ms.max(ms);
                if ms >= NOTED_MS {
                    seen.stalls.push(Stall { at_ms: now_ms(), ms });
                }
            }
        });
        Self { seen, tasks }
    }

    /// The longest that it stood still.
    pub fn worst_ms(&self) -> u64 {
        self.seen.lock().expect("no panic holds it").worst_ms
    }

    /// When it stood still so long that it was noted, in order.
    pub fn stalls(&self) -> Vec<Stall> {
        self.seen.lock().expect("no panic holds it").stalls.clone()
    }

    pub async fn stop(&self) {
        self.tasks.stop(STOP_GRACE).await;
    }
}
