//! Whether this program stood still: everybody's bytes pass through it, so a pause here is a cut of all links that no
//! drill asked for. On a machine that is short of CPU or memory it says what a failed drill is worth.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::taskset::TaskSet;

const BEAT: Duration = Duration::from_millis(20);
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Beats until it is stopped.
#[derive(Debug)]
pub struct Pulse {
    worst_ms: Arc<AtomicU64>,
    tasks: TaskSet,
}

impl Pulse {
    pub fn start() -> Self {
        let (worst_ms, tasks) = (Arc::new(AtomicU64::new(0)), TaskSet::new("pulse"));
        let worst = worst_ms.clone();
        tasks.spawn(async move {
            loop {
                let due = Instant::now() + BEAT;
                tokio::time::sleep_until(due).await;
                worst.fetch_max(due.elapsed().as_millis() as u64, Ordering::Relaxed);
            }
        });
        Self { worst_ms, tasks }
    }

    /// The longest that it stood still.
    pub fn worst_ms(&self) -> u64 {
        self.worst_ms.load(Ordering::Relaxed)
    }

    pub async fn stop(&self) {
        self.tasks.stop(STOP_GRACE).await;
    }
}
