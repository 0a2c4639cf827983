//! The election timer: when a follower that does not receive anything from the leader asks for votes.
//!
//! ```text
//! silence:   |<------------ lease ------------>|<- spread ->|
//!            last message                       stands at a random time in here (pre-vote, then vote)
//! irregular: twice the longest gap between messages lately, if that is later; 3 s at the most
//! no leader after that: again after 1x, 2x, 4x ... of a random time from lease/2 to lease, 4 s at the most
//! ```
//! A false election costs a second, and one that comes late costs as much as it is late. On a LAN messages come every 100 ms
//! and the lease decides. On a link with a long round trip or losses the gaps decide.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goat_raft_store::TypeConfig;
use openraft::ServerState;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use rand::RngExt;
use tracing::debug;

use super::Raft;
use super::timing::{ElectionTiming, MAX_SILENCE_MS};
use crate::clock;

/// Gaps are remembered for this long.
const GAP_WINDOW_MS: u64 = 30_000;
/// Longest time between two attempts of one manager.
const MAX_RETRY_MS: u64 = 4_000;
/// Raft handles a message shortly after it was received, and counts its own lease from then.
const LEASE_MARGIN_MS: u64 = 20;

type LeaderVote = openraft::alias::VoteOf<TypeConfig>;

/// When this manager last received something from a leader. Shared by the Raft service and the election timer.
#[derive(Debug, Default)]
pub(crate) struct LeaderContact {
    inner: Mutex<Contact>,
    /// A candidate turned out to have a shorter log than a voter: it lets others stand first.
    has_shorter_log: AtomicBool,
}

#[derive(Debug, Default)]
struct Contact {
    at_ms: Option<u64>,
    vote: Option<LeaderVote>,
    gaps: Gaps,
    /// Elections that this manager stood for since the last message.
    attempts: u32,
}

/// The longest gap in two adjacent windows, of which the older one has ended.
#[derive(Debug, Default)]
struct Gaps {
    since_ms: u64,
    longest_ms: u64,
    earlier_ms: u64,
}

impl Gaps {
    fn record(&mut self, now_ms: u64, gap_ms: u64) {
        if now_ms.saturating_sub(self.since_ms) > GAP_WINDOW_MS {
            self.earlier_ms = self.longest_ms;
            self.longest_ms = 0;
            self.since_ms = now_ms;
        }
        self.longest_ms = self.longest_ms.max(gap_ms);
    }

    fn longest_ms(&self) -> u64 {
        self.longest_ms.max(self.earlier_ms)
    }
}

impl LeaderContact {
    /// Records a message of the leader with this vote (CLOCK_BOOTTIME, ms).
    pub(crate) fn record(&self, vote: LeaderVote, now_ms: u64) {
        let mut contact = self.inner.lock();
        // A gap that an election or another leader ended says nothing about the link.
        if let Some(at_ms) = contact.at_ms
            && contact.vote == Some(vote)
            && contact.attempts == 0
        {
            contact.gaps.record(now_ms, now_ms.saturating_sub(at_ms));
        }
        contact.at_ms = Some(now_ms);
        contact.vote = Some(vote);
        contact.attempts = 0;
    }

    /// Records a vote given to a candidate: it gets the time to become the leader.
    pub(crate) fn record_vote(&self, now_ms: u64) {
        let mut contact = self.inner.lock();
        contact.at_ms = Some(now_ms);
        contact.vote = None;
    }

    /// Records that a voter has a longer log than this manager, which asked it for its vote.
    pub(crate) fn record_longer_log(&self) {
        self.has_shorter_log.store(true, Ordering::Relaxed);
    }

    fn last(&self) -> (Option<u64>, u32) {
        let contact = self.inner.lock();
        (contact.at_ms, contact.attempts)
    }

    fn begin_attempt(&self) {
        self.has_shorter_log.store(false, Ordering::Relaxed);
        self.inner.lock().attempts += 1;
    }

    fn reset_attempts(&self) {
        self.inner.lock().attempts = 0;
    }

    /// The longest time between two messages of the leader lately (ms).
    pub(crate) fn longest_gap_ms(&self) -> u64 {
        self.inner.lock().gaps.longest_ms()
    }

    /// The silence after which this manager stands for election (ms). `random`: from 0 to 1.
    fn patience_ms(&self, timing: ElectionTiming, random: f64) -> u64 {
        let (attempts, gap_ms) = {
            let contact = self.inner.lock();
            (contact.attempts, contact.gaps.longest_ms())
        };
        let ElectionTiming { lease_ms, spread_ms } = timing;
        let others_first_ms = if self.has_shorter_log.load(Ordering::Relaxed) { 2 * lease_ms } else { 0 };
        let own_ms = match attempts {
            0 => {
                let regular_ms = lease_ms + LEASE_MARGIN_MS + (spread_ms as f64 * random) as u64;
                regular_ms.max((2 * gap_ms).min(MAX_SILENCE_MS))
            }
            _ => {
                let half_ms = lease_ms as f64 / 2.0;
                let first_ms = (half_ms + half_ms * random) as u64;
                (first_ms << (attempts - 1).min(10)).min(MAX_RETRY_MS)
            }
        };
        own_ms + others_first_ms
    }
}

/// The part that a manager has in elections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It leads, or has no vote.
    None,
    Voter,
    /// It is the only voter, and needs nobody's consent.
    SingleVoter,
}

impl Role {
    fn of(id: u64, state: ServerState, voters: impl Iterator<Item = u64>) -> Self {
        let (mut is_voter, mut others) = (false, 0);
        for voter in voters {
            match voter == id {
                true => is_voter = true,
                false => others += 1,
            }
        }
        match (state, is_voter, others) {
            (ServerState::Leader, ..) | (_, false, _) => Self::None,
            (_, true, 0) => Self::SingleVoter,
            (_, true, _) => Self::Voter,
        }
    }
}

/// Asks for votes whenever the leader was silent for too long, until it is cancelled or Raft ends.
pub(super) async fn run(id: u64, raft: Raft, contact: Arc<LeaderContact>, timing: ElectionTiming) {
    let mut metrics = raft.server_metrics();
    // Silence is counted from here: the start, the end of an own term as leader, or the last attempt.
    let mut since_ms = clock::boot_ms();
    let mut random = rand::rng().random::<f64>();
    loop {
        let role = {
            let metrics = metrics.borrow_and_update();
            Role::of(id, metrics.state, metrics.membership_config.membership().voter_ids())
        };
        let now_ms = clock::boot_ms();
        let (last_ms, attempts) = contact.last();
        let wait_ms = match role {
            Role::None => {
                since_ms = now_ms;
                contact.reset_attempts();
                u64::MAX
            }
            Role::SingleVoter if attempts == 0 => 0,
            Role::Voter | Role::SingleVoter => {
                let silent_since_ms = last_ms.unwrap_or(0).max(since_ms);
                (silent_since_ms + contact.patience_ms(timing, random)).saturating_sub(now_ms)
            }
        };
        if wait_ms > 0 {
            let wait = Duration::from_millis(wait_ms.min(60_000));
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
            continue;
        }
        debug!(longest_gap_ms = contact.longest_gap_ms(), "this manager stands for election");
        contact.begin_attempt();
        let needs_consent = role == Role::Voter;
        if raft.trigger().elect(needs_consent).await.is_err() {
            return;
        }
        since_ms = clock::boot_ms();
        random = rand::rng().random::<f64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: ElectionTiming = ElectionTiming { lease_ms: 700, spread_ms: 200 };

    fn vote(term: u64) -> LeaderVote {
        LeaderVote::new_committed(term, 1)
    }

    fn receives(contact: &LeaderContact, term: u64, from_ms: u64, every_ms: u64, count: u64) -> u64 {
        for message in 0..count {
            contact.record(vote(term), from_ms + message * every_ms);
        }
        from_ms + count.saturating_sub(1) * every_ms
    }

    #[test]
    fn on_a_lan_the_lease_decides_and_managers_stand_at_different_times() {
        let contact = LeaderContact::default();
        receives(&contact, 1, 1_000, 100, 50);
        assert_eq!(contact.patience_ms(TIMING, 0.0), 720);
        assert_eq!(contact.patience_ms(TIMING, 1.0), 920);
    }

    #[test]
    fn irregular_messages_make_it_wait_longer_for_as_long_as_they_were_seen_lately() {
        let contact = LeaderContact::default();
        let at_ms = receives(&contact, 1, 1_000, 100, 5);
        let at_ms = receives(&contact, 1, at_ms + 850, 100, 5);
        assert_eq!(contact.patience_ms(TIMING, 0.0), 1_700);
        let at_ms = receives(&contact, 1, at_ms + 5_000, 100, 5);
        assert_eq!(contact.patience_ms(TIMING, 0.0), 3_000, "and never longer than that");
        receives(&contact, 1, at_ms + 100, 100, 700);
        assert_eq!(contact.patience_ms(TIMING, 0.0), 720);
    }

    #[test]
    fn the_silence_before_an_election_says_nothing_about_the_link() {
        let contact = LeaderContact::default();
        let at_ms = receives(&contact, 1, 1_000, 100, 5);
        contact.begin_attempt();
        let at_ms = receives(&contact, 1, at_ms + 2_000, 100, 5);
        receives(&contact, 2, at_ms + 2_000, 100, 5);
        assert_eq!(contact.patience_ms(TIMING, 0.0), 720);
    }

    #[test]
    fn attempts_without_success_come_at_growing_intervals() {
        let contact = LeaderContact::default();
        let mut waits = Vec::new();
        for _ in 0..5 {
            contact.begin_attempt();
            waits.push(contact.patience_ms(TIMING, 0.5));
        }
        assert_eq!(waits, [525, 1_050, 2_100, 4_000, 4_000]);
        contact.record(vote(1), 10_000);
        assert_eq!(contact.patience_ms(TIMING, 0.0), 720);
    }

    #[test]
    fn a_manager_with_a_shorter_log_lets_others_stand_first() {
        let contact = LeaderContact::default();
        contact.begin_attempt();
        contact.record_longer_log();
        assert_eq!(contact.patience_ms(TIMING, 0.0), 350 + 1_400);
        contact.begin_attempt();
        assert_eq!(contact.patience_ms(TIMING, 0.0), 700);
    }

    #[test]
    fn leaders_learners_and_strangers_do_not_stand() {
        let of = |state, voters: &[u64]| Role::of(1, state, voters.iter().copied());
        assert_eq!(of(ServerState::Leader, &[1, 2, 3]), Role::None);
        assert_eq!(of(ServerState::Learner, &[2, 3]), Role::None);
        assert_eq!(of(ServerState::Learner, &[]), Role::None);
        assert_eq!(of(ServerState::Follower, &[1, 2, 3]), Role::Voter);
        assert_eq!(of(ServerState::Candidate, &[1, 2]), Role::Voter);
        assert_eq!(of(ServerState::Follower, &[1]), Role::SingleVoter);
    }
}
