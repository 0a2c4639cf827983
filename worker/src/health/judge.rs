//! When a task is probed, and what its probes mean. Pure: times come in as arguments, in ms since the task's start.
//!
//! ```text
//!            passed
//! starting ---------> ready
//!    | retries failures  | retries failures
//!    | in a row          | in a row
//!    v                   v
//! never ready         unhealthy
//! ```
//! Until it is ready it is probed eagerly: soon after its start, and then at growing distances. Failures count from the end
//! of the start period on, and never before one interval has passed: nobody expects an answer of what has just begun.
//! A probe that says nothing of the task (its runtime does not answer) neither counts nor resets what was counted.

use goat_core::model::{HealthCheck, reason};

/// From the start to the first probe; doubled for the next ones.
const FIRST_EAGER_MS: u64 = 50;
/// Most between eager probes, where the interval is longer.
const MOST_EAGER_MS: u64 = 5_000;

/// What one probe showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed(String),
    /// It could not be made, which is not the task's fault.
    Unknown(String),
}

/// What follows from the probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Ready,
    /// The task is to be stopped; `reason` is a constant word.
    Failed {
        reason: &'static str,
        problem: String,
    },
}

/// Judges one task, probe by probe. After a failure it is of no more use.
#[derive(Debug)]
pub struct Judge {
    interval_ms: u64,
    /// Failures of probes that began before are forgiven to a task that is not ready yet.
    grace_ms: u64,
    retries: u32,
    is_ready: bool,
    failures: u32,
    eager_ms: u64,
}

impl Judge {
    /// `is_ready`: it was found so by an earlier agent.
    pub fn new(check: &HealthCheck, is_ready: bool) -> Self {
        Self {
            interval_ms: check.interval_ms,
            grace_ms: check.start_period_ms.max(check.interval_ms),
            retries: check.retries,
            is_ready,
            failures: 0,
            eager_ms: FIRST_EAGER_MS.min(check.interval_ms),
        }
    }

    /// From `since_ms`, when the last probe began (or the task), to the beginning of the next.
    pub fn wait_ms(&mut self, since_ms: u64) -> u64 {
        if self.is_ready || since_ms >= self.grace_ms {
            return self.interval_ms;
        }
        let wait_ms = self.eager_ms;
        self.eager_ms = (self.eager_ms * 2).min(MOST_EAGER_MS).min(self.interval_ms);
        // The first that counts is made on time.
        wait_ms.min(self.grace_ms - since_ms)
    }

    /// `began_ms`: when the probe began.
    pub fn heard(&mut self, began_ms: u64, outcome: Outcome) -> Option<Verdict> {
        let problem = match outcome {
            Outcome::Unknown(_) => return None,
            Outcome::Passed => {
                self.failures = 0;
                return (!std::mem::replace(&mut self.is_ready, true)).then_some(Verdict::Ready);
            }
            Outcome::Failed(problem) => problem,
        };
        if !self.is_ready && began_ms < self.grace_ms {
            return None;
        }
        self.failures += 1;
        if self.failures < self.retries {
            return None;
        }
        let reason = if self.is_ready { reason::UNHEALTHY } else { reason::NEVER_READY };
        let problem = match self.failures {
            1 => format!("its health check failed: {problem}"),
            failures => format!("its health check failed {failures} times in a row, at last: {problem}"),
        };
        Some(Verdict::Failed { reason, problem })
    }
}

#[cfg(test)]
mod tests {
    use goat_core::model::HealthProbe;

    use super::*;

    fn check(interval_ms: u64, start_period_ms: u64, retries: u32) -> HealthCheck {
        let probe = HealthProbe::Tcp { port: 80 };
        HealthCheck { probe, interval_ms, timeout_ms: interval_ms, start_period_ms, retries }
    }

    /// Plays probes, `+` passes, `-` fails, `?` says nothing: each with the time at which it begins, and the verdict.
    fn played(check: &HealthCheck, is_ready: bool, probes: &str) -> String {
        let mut judge = Judge::new(check, is_ready);
        let (mut now_ms, mut told) = (0, Vec::new());
        for probe in probes.chars() {
            now_ms += judge.wait_ms(now_ms);
            let outcome = match probe {
                '+' => Outcome::Passed,
                '-' => Outcome::Failed("no".into()),
                _ => Outcome::Unknown("no".into()),
            };
            told.push(match judge.heard(now_ms, outcome) {
                None => format!("{now_ms}{probe}"),
                Some(Verdict::Ready) => format!("{now_ms}{probe} ready"),
                Some(Verdict::Failed { reason, .. }) => format!("{now_ms}{probe} {reason}"),
            });
        }
        told.join(", ")
    }

    #[test]
    fn the_first_probe_that_passes_makes_it_ready_and_later_ones_come_at_the_interval() {
        assert_eq!(played(&check(1_000, 0, 3), false, "--+++"), "50-, 150-, 350+ ready, 1350+, 2350+");
    }

    #[test]
    fn without_a_start_period_failures_count_from_one_interval_after_the_start() {
        assert_eq!(
            played(&check(1_000, 0, 3), false, "--------"),
            "50-, 150-, 350-, 750-, 1000-, 2000-, 3000- never-ready, 4000- never-ready"
        );
        assert_eq!(played(&check(20, 0, 1), false, "-"), "20- never-ready");
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_and_the_first_success_ends_it() {
        assert_eq!(
            played(&check(1_000, 3_000, 2), false, "---------"),
            "50-, 150-, 350-, 750-, 1550-, 2550-, 3000-, 4000- never-ready, 5000- never-ready"
        );
        assert_eq!(played(&check(1_000, 60_000, 2), false, "-+--"), "50-, 150+ ready, 1150-, 2150- unhealthy");
    }

    #[test]
    fn only_failures_in_a_row_count() {
        assert_eq!(
            played(&check(10, 0, 3), true, "--+--+---"),
            "10-, 20-, 30+, 40-, 50-, 60+, 70-, 80-, 90- unhealthy"
        );
        assert_eq!(played(&check(10, 0, 2), false, "-+--"), "10-, 20+ ready, 30-, 40- unhealthy");
    }

    #[test]
    fn what_says_nothing_neither_counts_nor_resets() {
        assert_eq!(played(&check(10, 0, 2), true, "-???-"), "10-, 20?, 30?, 40?, 50- unhealthy");
        assert_eq!(played(&check(10, 0, 1), false, "????+"), "10?, 20?, 30?, 40?, 50+ ready");
    }

    #[test]
    fn eager_probes_are_five_seconds_apart_at_the_most() {
        let mut judge = Judge::new(&check(60_000, 0, 1), false);
        let waits: Vec<u64> = (0..10).map(|_| judge.wait_ms(0)).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
    }

    #[test]
    fn the_problem_says_how_often_and_what() {
        let mut judge = Judge::new(&check(10, 0, 2), true);
        let failed = |text: &str| Outcome::Failed(text.into());
        assert_eq!(judge.heard(10, failed("status 503")), None);
        let problem = "its health check failed 2 times in a row, at last: no answer within 5 ms".into();
        let verdict = Verdict::Failed { reason: "unhealthy", problem };
        assert_eq!(judge.heard(20, failed("no answer within 5 ms")), Some(verdict));
    }
}
