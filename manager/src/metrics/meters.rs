//! What a manager counts while it works. Whoever does the work holds the meters and moves them; they are read when somebody
//! asks for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goat_core::state::command::{Outcome, Step};
use goat_observe::metric::{Tally, durations};
use prometheus_client::metrics::histogram::Histogram;

use crate::raft::proposer::{Accepted, Error};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Of proposals and of the planner.
#[derive(Debug)]
pub struct Meters {
    /// The term at the start.
    pub first_term: u64,
    pub leader_changes: Count,
    pub proposals: Tally<8>,
    pub commit: Histogram,
    pub plans: Count,
    pub steps: Tally<6>,
    pub plan: Histogram,
    pub planner_restarts: Count,
}

impl Meters {
    pub fn new(first_term: u64) -> Self {
        Self {
            first_term,
            leader_changes: Count::default(),
            proposals: Tally::new([
                "done",
                "refused",
                "not-leader",
                "no-quorum",
                "stopped",
                "format",
                "too-large",
                "other",
            ]),
            commit: durations(),
            plans: Count::default(),
            steps: Tally::new(["create", "assign", "explain", "desire", "forget", "forget-service"]),
            plan: durations(),
            planner_restarts: Count::default(),
        }
    }

    /// A proposal has come to its end.
    pub fn proposed(&self, result: &Result<Accepted, Error>, took: Duration) {
        let word = match result {
            Ok(accepted) => {
                self.commit.observe(took.as_secs_f64());
                match accepted.outcome {
                    Outcome::Done(_) => "done",
                    Outcome::Refused(_) => "refused",
                }
            }
            Err(Error::NotLeader | Error::NoLeader) => "not-leader",
            Err(Error::NoQuorum | Error::Behind { .. }) => "no-quorum",
            Err(Error::Stopped(_)) => "stopped",
            Err(Error::Format { .. }) => "format",
            Err(Error::TooLarge { .. }) => "too-large",
            Err(Error::Membership(_)) => "other",
        };
        self.proposals.add(word, 1);
    }

    /// A plan was made.
    pub fn planned(&self, steps: &[Step], took: Duration) {
        self.plans.add(1);
        self.plan.observe(took.as_secs_f64());
        for step in steps {
            let kind = match step {
                Step::CreateTask(_) => "create",
                Step::Assign { .. } => "assign",
                Step::Explain { .. } => "explain",
                Step::Desire { .. } => "desire",
                Step::Forget { .. } => "forget",
                Step::ForgetService { .. } => "forget-service",
            };
            self.steps.add(kind, 1);
        }
    }
}

/// Of workers' sessions.
#[derive(Debug)]
pub struct DispatcherMeters {
    pub sessions_begun: Count,
    pub grants: Count,
    pub heartbeats_dropped: Count,
    pub reports: Count,
    pub silences: Tally<2>,
}

impl Default for DispatcherMeters {
    fn default() -> Self {
        Self {
            sessions_begun: Count::default(),
            grants: Count::default(),
            heartbeats_dropped: Count::default(),
            reports: Count::default(),
            silences: Tally::new(["disconnected", "down"]),
        }
    }
}
