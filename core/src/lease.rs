//! When a worker's tasks are still its own, and when they may be given away.
//!
//! A worker counts its lease of `L_w` ms from the moment it *sent* the heartbeat that the leader then granted, on a clock
//! that counts suspend. The leader waits `L_m >= (1+rho) * (L_w/(1-rho) + K)` from the moment it *granted* the last one:
//!
//! ```text
//! worker   sent ──────────── L_w by its clock ───────────► stops what is leased, within K
//! leader        └► granted ───────────── L_m by its clock ──────────────────► down: slots are given away
//! ```
//! sent happens before granted, so the leader's wait ends after the worker's stop whatever the network delays, if
//! - each clock's rate is wrong by at most rho,
//! - the worker, or its watchdog, or the end of its machine stops leased tasks within K of the lease's end,
//! - a renewal is granted only after a quorum confirmed the leader *after* the heartbeat arrived,
//! - a new leader waits a full `L_m` for every node before it calls it down.
//!
//! Gray and Cheriton, "Leases: An Efficient Fault-Tolerant Mechanism for Distributed File Cache Consistency" (1989).
//! Nodes that run no leased task need no fencing: for them `down_after_ms` decides, which is shorter.
//!
//! Three things keep a silent node from being called down though its time is over. Someone else reaches it: the fault is
//! on the way between it and the leader, and moving its tasks would harm. Half of all nodes are silent at once: then the
//! leader suspects itself, and calls them down one after the other. Or no other node is heard: nothing could be moved to
//! anywhere, and who is cut off asks the others whether managers live ([`crate::isolation`]), so a node has its full time
//! also from when another's heartbeats began to be granted.

mod leader;

pub use leader::LeaderLeases;

/// How long a task whose lease has ended is given to end by itself, by an agent that is alive.
pub const STOP_GRACE_MS: u64 = 500;
/// After the lease's end the watchdog kills what still runs: later than the agent, well within [`LeasePolicy::kill_ms`].
pub const WATCHDOG_AFTER_MS: u64 = 800;
/// Nodes that went down within this time count among those that are silent at once.
pub const MASS_WINDOW_MS: u64 = 60_000;

/// The lengths of time, the same for a whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeasePolicy {
    /// How often a worker sends a heartbeat.
    pub heartbeat_ms: u64,
    /// `L_w`: how long a grant lasts by the worker's clock.
    pub lease_ttl_ms: u64,
    /// `K`: from the end of the lease to the end of the last leased task.
    pub kill_ms: u64,
    /// `rho`: bound on the error of a clock's rate, in millionths.
    pub rate_error_ppm: u64,
    /// Missed for so long, a node is `disconnected`: nothing new is placed on it.
    pub disconnected_after_ms: u64,
    /// Missed for so long, a node without leased tasks is `down`.
    pub down_after_ms: u64,
    /// How much longer a node is waited for that others reach.
    pub opinion_patience_ms: u64,
    /// The same for a node with leased tasks: they have stopped by then, and waiting longer does not bring them back.
    pub leased_patience_ms: u64,
    /// Between nodes that are called down while half of all are silent.
    pub mass_interval_ms: u64,
}

impl Default for LeasePolicy {
    fn default() -> Self {
        Self {
            heartbeat_ms: 500,
            lease_ttl_ms: 2_500,
            kill_ms: 1_500,
            rate_error_ppm: 1_000,
            disconnected_after_ms: 1_500,
            down_after_ms: 2_500,
            opinion_patience_ms: 15_000,
            leased_patience_ms: 2_000,
            mass_interval_ms: 5_000,
        }
    }
}

/// The lengths of time do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    pub field: &'static str,
    pub problem: String,
}

impl LeasePolicy {
    /// `L_m`, rounded up.
    pub const fn manager_wait_ms(&self) -> u64 {
        self.manager_wait_for_ms(self.lease_ttl_ms)
    }

    /// `L_m` for a grant of `lease_ttl_ms` instead of the policy's.
    pub const fn manager_wait_for_ms(&self, lease_ttl_ms: u64) -> u64 {
        const MILLION: u128 = 1_000_000;
        // A clock's rate is wrong by less than half (see `validate`).
        let error = if self.rate_error_ppm < 500_000 { self.rate_error_ppm as u128 } else { 500_000 };
        let worker_at_most = (lease_ttl_ms as u128 * MILLION).div_ceil(MILLION - error);
        let wait_ms = ((worker_at_most + self.kill_ms as u128) * (MILLION + error)).div_ceil(MILLION);
        if wait_ms > u64::MAX as u128 { u64::MAX } else { wait_ms as u64 }
    }

    /// Whether the lengths fit together.
    pub fn validate(&self) -> Result<(), Invalid> {
        let invalid = |field, problem: String| Err(Invalid { field, problem });
        if self.heartbeat_ms == 0 || self.lease_ttl_ms < self.heartbeat_ms.saturating_mul(3) {
            return invalid(
                "lease_ttl_ms",
                format!("{} ms must be at least three heartbeats of {} ms", self.lease_ttl_ms, self.heartbeat_ms),
            );
        }
        if self.lease_ttl_ms < self.kill_ms {
            return invalid(
                "lease_ttl_ms",
                format!("{} ms is shorter than the time that killing takes ({} ms)", self.lease_ttl_ms, self.kill_ms),
            );
        }
        if self.rate_error_ppm >= 500_000 || self.lease_ttl_ms > 3_600_000 || self.kill_ms > 3_600_000 {
            return invalid("lease_ttl_ms", "leases are limited to one hour and rate errors to a half".into());
        }
        if self.disconnected_after_ms < self.heartbeat_ms.saturating_mul(2)
            || self.down_after_ms < self.disconnected_after_ms
        {
            return invalid(
                "down_after_ms",
                "disconnected_after_ms must be at least two heartbeats, and down_after_ms not shorter".into(),
            );
        }
        Ok(())
    }
}

/// The worker's side of its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerLease {
    /// When the last granted heartbeat was sent (ms, CLOCK_BOOTTIME).
    pub sent_ms: u64,
    pub ttl_ms: u64,
}

impl WorkerLease {
    /// A heartbeat sent at `sent_ms` was granted; an answer that comes late or twice shortens nothing.
    pub fn renewed(&mut self, sent_ms: u64) {
        self.sent_ms = self.sent_ms.max(sent_ms);
    }

    /// When it ends.
    pub const fn deadline_ms(&self) -> u64 {
        self.sent_ms.saturating_add(self.ttl_ms)
    }

    /// Whether leased tasks have to stop now.
    pub const fn is_expired(&self, now_ms: u64) -> bool {
        now_ms >= self.deadline_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_waits_longer_than_any_worker_whose_clock_is_within_the_bound() {
        for rate_error_ppm in [0, 1, 1_000, 50_000] {
            let policy = LeasePolicy { rate_error_ppm, ..LeasePolicy::default() };
            let error = rate_error_ppm as f64 / 1e6;
            // Real time until a slow worker has stopped, and the least real time that a fast leader waits.
            let worker_ms = policy.lease_ttl_ms as f64 / (1.0 - error) + policy.kill_ms as f64;
            let leader_ms = policy.manager_wait_ms() as f64 / (1.0 + error);
            assert!(leader_ms >= worker_ms, "{rate_error_ppm}: {leader_ms} < {worker_ms}");
        }
    }

    #[test]
    fn a_late_answer_does_not_shorten_the_workers_lease() {
        let mut lease = WorkerLease { sent_ms: 0, ttl_ms: 3_000 };
        lease.renewed(2_000);
        lease.renewed(500);
        assert!(!lease.is_expired(4_999));
        assert!(lease.is_expired(5_000));
    }

    #[test]
    fn a_lease_shorter_than_killing_is_refused() {
        let policy = LeasePolicy { kill_ms: 4_000, ..LeasePolicy::default() };
        assert_eq!(
            policy.validate().expect_err("wrong").to_string(),
            "lease_ttl_ms: 2500 ms is shorter than the time that killing takes (4000 ms)"
        );
    }
}
