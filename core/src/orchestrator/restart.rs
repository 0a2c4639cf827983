//! Whether and when a slot whose task has ended gets another.

use super::cure::Fault;
use crate::model::{Cause, Desired, RestartCondition, RestartPolicy, Task, TaskState};

/// What follows an ended task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The slot is done, or was given up.
    Rest,
    Again {
        wait_ms: u64,
        /// Restarts in a row, the coming one included.
        failures: u32,
        cause: Cause,
    },
}

/// `random` gives the jitter.
pub fn decide(policy: &RestartPolicy, ended: &Task, random: u64) -> Decision {
    // It ended because of the cluster, not by itself: it is owed another, at once, and nothing counts against it.
    let moved = |cause| Decision::Again { wait_ms: 0, failures: ended.failures, cause };
    match (ended.state, ended.desired) {
        (TaskState::Lost, _) => return moved(Cause::NodeLost),
        (_, Desired::Stopped) => return moved(ended.stop_cause.unwrap_or(Cause::Drain)),
        (_, Desired::Removed) => return moved(ended.stop_cause.unwrap_or(Cause::Scale)),
        // A worker stops what is leased when its lease runs out.
        (TaskState::Stopped, Desired::Running) => return moved(Cause::NodeLost),
        _ => {}
    }
    let has_failed = ended.state != TaskState::Complete;
    let fault = Fault::of(ended);
    // It was never tried, or not to blame: the policy does not say no, but it waits, lest it fail so over and over.
    let was_refused = ended.state == TaskState::Rejected || fault.is_excused();
    let goes_on = match policy.condition {
        _ if was_refused => true,
        RestartCondition::No => false,
        RestartCondition::OnFailure => has_failed,
        RestartCondition::Always | RestartCondition::UnlessStopped => true,
    };
    let failures = if was_stable(policy, ended) { 1 } else { ended.failures.saturating_add(1) };
    if !goes_on || (!was_refused && policy.max_attempts.is_some_and(|most| failures > most)) {
        return Decision::Rest;
    }
    let cause = if ended.was_unhealthy() { Cause::Health } else { Cause::Exit };
    Decision::Again { wait_ms: fault.wait_ms(policy, failures, random), failures, cause }
}

fn was_stable(policy: &RestartPolicy, ended: &Task) -> bool {
    match (ended.started_at_ms, ended.finished_at_ms) {
        (Some(started_ms), Some(finished_ms)) => finished_ms.saturating_sub(started_ms) >= policy.stable_after_ms,
        _ => false,
    }
}

/// The wait before the n-th restart in a row: none, then the delay, doubled each time up to the cap; a tenth more or
/// less, so that tasks which fell together do not rise together.
pub fn backoff_ms(policy: &RestartPolicy, failures: u32, random: u64) -> u64 {
    let doublings = match failures {
        0 | 1 => return 0,
        n => (n - 2).min(32),
    };
    let wait_ms = policy.delay_ms.saturating_mul(1 << doublings).min(policy.max_delay_ms);
    let tenth = wait_ms / 10;
    (wait_ms - tenth).saturating_add(random % (2 * tenth + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_jitter_stays_within_a_tenth() {
        let policy = RestartPolicy { delay_ms: 1_000, max_delay_ms: 10_000, ..RestartPolicy::default() };
        let middle = |failures| {
            let wait = |random| backoff_ms(&policy, failures, random);
            let waits: Vec<u64> = (0..5_000).map(wait).collect();
            let (least, most) = (waits.iter().min().copied(), waits.iter().max().copied());
            (least.unwrap_or(0), most.unwrap_or(0))
        };
        assert_eq!(middle(1), (0, 0));
        assert_eq!(middle(2), (900, 1_100));
        assert_eq!(middle(3), (1_800, 2_200));
        assert_eq!(middle(5), (7_200, 8_800));
        assert_eq!(middle(6), (9_000, 11_000));
        assert_eq!(middle(u32::MAX), (9_000, 11_000));
    }
}
