//! Whether a worker whose lease has run out is isolated, or its managers are gone.
//!
//! It cannot tell from its own silence. It asks other workers: one that has a leader's fresh grant is proof that managers
//! live, and that they may be giving this worker's slots away; one that is as silent is a sign that the managers are
//! gone, for everybody. A worker that nobody answers is alone, and counts as isolated. Evidence counts for a short time
//! and is asked for again and again: managers that come back are noticed by the others at once, and a new leader waits a
//! full `L_m` before it gives anything away (`lease`).
//!
//! Two workers that are cut off together keep each other's word, and then a slot can run twice: that is the price of
//! `stop-if-isolated`, and the reason why `stop` asks nobody.

/// A worker begins to ask when its last grant is so old: two heartbeats were missed, and there is time to hear an answer
/// before the lease ends.
pub const ASK_AFTER_MS: u64 = 1_200;
/// Between questions.
pub const ASK_EVERY_MS: u64 = 300;
/// For an answer.
pub const ANSWER_WITHIN_MS: u64 = 600;
/// A grant that is not older says that managers live: three heartbeats.
pub const FRESH_GRANT_MS: u64 = 1_500;
/// What was heard counts for so long from when it was asked.
pub const EVIDENCE_MS: u64 = 1_500;

/// What one round of questions says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Nobody answered.
    None,
    /// Somebody has a fresh grant: leased tasks end with the lease, or with what was heard before.
    ManagersLive,
    /// Somebody answered, and nobody has: what stops only in isolation runs on.
    ManagersGone,
}

/// `grant_ages_ms`: of each worker that answered, the age of its last grant, None where it never had one. Ages are counted
/// by the clocks of those who tell them, up to when they told.
pub fn evidence(grant_ages_ms: impl IntoIterator<Item = Option<u64>>) -> Evidence {
    let mut evidence = Evidence::None;
    for age_ms in grant_ages_ms {
        if age_ms.is_some_and(|age_ms| age_ms < FRESH_GRANT_MS) {
            return Evidence::ManagersLive;
        }
        evidence = Evidence::ManagersGone;
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::LeasePolicy;

    #[test]
    fn one_fresh_grant_outweighs_all_silence() {
        assert_eq!(evidence([]), Evidence::None);
        assert_eq!(evidence([Some(FRESH_GRANT_MS), None]), Evidence::ManagersGone);
        assert_eq!(evidence([Some(9_000), Some(FRESH_GRANT_MS - 1), None]), Evidence::ManagersLive);
    }

    /// All managers die at once. The first worker's lease ends while the others' last grants are younger than its own by
    /// a heartbeat at the most: they must not look fresh by then, nor for as long as one round of questions before.
    #[test]
    fn when_managers_die_all_leases_look_old_before_the_first_ends() {
        let policy = LeasePolicy::default();
        let youngest_ms = policy.lease_ttl_ms - policy.heartbeat_ms;
        assert!(youngest_ms - FRESH_GRANT_MS >= ASK_EVERY_MS);
        assert!(policy.lease_ttl_ms - ASK_AFTER_MS >= ANSWER_WITHIN_MS + ASK_EVERY_MS);
    }

    /// A new leader has granted to the others, they say so when asked, and what was heard before has run out, long
    /// before it gives a silent worker's slots away.
    #[test]
    fn evidence_runs_out_before_a_new_leader_gives_a_slot_away() {
        let policy = LeasePolicy::default();
        assert!(EVIDENCE_MS + ANSWER_WITHIN_MS + policy.kill_ms < policy.manager_wait_ms());
    }
}
