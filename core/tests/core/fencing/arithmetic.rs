//! The arithmetic of `goat_core::lease` in ticks of real time. No number is copied from there: its own leases are asked.
//!
//! A clock counts a whole number of ms in each tick, between 1 - rho and 1 + rho times the true one; rho is a quarter, so
//! that the three rates are whole numbers and few ticks show what drift does:
//!
//! ```text
//! ticks               0    1    2    3    4
//! slowest worker      sent           over      the lease of 9 ms ends after 3 ticks of 3 ms
//!                                    │ K   │   and what it leaves alive is dead one tick later
//! fastest leader      granted             down: it waits 20 ms, which are 4 ticks of 5 ms
//! ```
//! There is nothing to spare between the two: a wait shorter by one tick must be found out.

use goat_core::lease::{LeaderLeases, LeasePolicy, WorkerLease};
use goat_core::model::{NodeId, NodeState};

pub const SLOW: u8 = 3;
pub const TRUE: u8 = 4;
pub const FAST: u8 = 5;
/// `K` in ticks.
pub const KILL_TICKS: u64 = 1;
/// For how many ticks of the slowest clock another worker's word counts, and for how many of them a grant is fresh: more
/// than lie between two heartbeats, which come every tick.
pub const EVIDENCE_TICKS: u8 = 1;
pub const FRESH_TICKS: u8 = 2;

pub fn policy() -> LeasePolicy {
    let policy = LeasePolicy {
        heartbeat_ms: 3,
        lease_ttl_ms: 9,
        kill_ms: KILL_TICKS * u64::from(TRUE),
        rate_error_ppm: 250_000,
        disconnected_after_ms: 6,
        down_after_ms: 9,
        ..LeasePolicy::default()
    };
    assert_eq!(policy.validate(), Ok(()));
    assert_eq!((u64::from(SLOW), u64::from(FAST)), (drifted(-1, &policy), drifted(1, &policy)));
    policy
}

fn drifted(sign: i64, policy: &LeasePolicy) -> u64 {
    let tick_ms = i64::from(TRUE) * 1_000_000;
    ((tick_ms + sign * i64::from(TRUE) * policy.rate_error_ppm as i64) / 1_000_000) as u64
}

/// Whether a lease whose heartbeat was sent `ticks` ago is over, by a clock of that pace.
pub fn is_over(policy: &LeasePolicy, ticks: u8, pace: u8) -> bool {
    let lease = WorkerLease { sent_ms: 0, ttl_ms: policy.lease_ttl_ms };
    lease.is_expired(u64::from(ticks) * u64::from(pace))
}

/// The age of a lease of that age after a heartbeat was granted that is as old as the other.
pub fn renewed(age: u8, heartbeat_age: u8) -> u8 {
    let mut lease = WorkerLease { sent_ms: u64::from(u8::MAX - age), ttl_ms: 0 };
    lease.renewed(u64::from(u8::MAX - heartbeat_age));
    u8::MAX - u8::try_from(lease.sent_ms).expect("it came from one")
}

/// Whether a leader that granted last, or was elected, `ticks` ago calls the node down, by a clock of that pace, while it
/// hears another one.
pub fn is_given_up(policy: &LeasePolicy, ticks: u8, pace: u8) -> bool {
    let (node, heard) = (NodeId::from_random(1), NodeId::from_random(2));
    let now_ms = u64::from(ticks) * u64::from(pace);
    let mut leases = LeaderLeases::new(*policy, 0, [node, heard].map(|node| (node, NodeState::Ready)));
    (0..=now_ms).for_each(|at_ms| leases.granted(heard, at_ms));
    leases.due(now_ms, |_| true).contains(&(node, NodeState::Down))
}

/// Whether a leader that granted last `ticks` ago hears the node no more, by a clock of that pace.
pub fn is_missed(ticks: u8, pace: u8) -> bool {
    u64::from(ticks) * u64::from(pace) >= policy().disconnected_after_ms
}

/// The first tick at which something holds, that holds from then on.
pub fn first_tick(holds: impl Fn(u8) -> bool) -> u8 {
    (0..=u8::MAX).find(|ticks| holds(*ticks)).expect("it holds at some time")
}
