//! Health checks: probes a task, again and again, and says when it is ready and when it is to be given up.
//!
//! `judge` decides and is pure; `probe` makes one probe. What is done about a verdict is the task's actor's, which drops
//! the prober at any moment.

mod judge;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use goat_core::model::HealthCheck;
use tokio::time::Instant;
use tracing::debug;

use crate::clock;
use crate::runtime::Runtime;
use crate::task::TaskMeta;

pub use judge::{Judge, Outcome, Verdict};

/// Probes one task.
#[derive(Debug)]
pub struct Prober {
    target: probe::Target,
    check: HealthCheck,
    judge: Judge,
    /// How old the task was at `since`.
    age_ms: u64,
    since: Instant,
    next: Instant,
}

impl Prober {
    /// None where the task has no health check. `is_ready`: it was found so before, by this agent or an earlier one.
    pub fn new(runtime: Arc<dyn Runtime>, meta: &TaskMeta, started_at_ms: u64, is_ready: bool) -> Option<Self> {
        let check = meta.health.clone()?;
        let mut judge = Judge::new(&check, is_ready);
        let age_ms = clock::now_ms().saturating_sub(started_at_ms);
        let wait_ms = if is_ready {
            // Tasks that an agent has found together are not to be probed together ever after.
            rand::random_range(0..=check.interval_ms)
        } else {
            judge.wait_ms(age_ms)
        };
        let since = Instant::now();
        let next = since + Duration::from_millis(wait_ms);
        Some(Self { target: probe::Target::new(runtime, meta.clone()), check, judge, age_ms, since, next })
    }

    /// Probes until there is something to do about it.
    pub async fn verdict(&mut self) -> Verdict {
        loop {
            tokio::time::sleep_until(self.next).await;
            let began = Instant::now();
            let outcome = self.target.probe(&self.check).await;
            if outcome != Outcome::Passed {
                debug!(task_id = %self.target.meta().task, ?outcome, "a health probe did not pass");
            }
            let began_ms = self.age_ms + began.duration_since(self.since).as_millis() as u64;
            let verdict = self.judge.heard(began_ms, outcome);
            self.next = began + Duration::from_millis(self.judge.wait_ms(began_ms));
            if let Some(verdict) = verdict {
                return verdict;
            }
        }
    }
}
