//! Confirming that this manager still leads, in one round trip.
//!
//! openraft's own check waits for the heartbeat that is on its way to each follower and then for another one: two round
//! trips, one check at a time. A check of this kind asks each voter the same question as a heartbeat does: whether its vote
//! is for this leader. If a majority says yes after the check began, no other leader can have committed anything before
//! that.
//!
//! ```text
//! confirm_leadership ─► the round that begins next, shared by all who wait for it ─► one call to each other voter
//!                        at most one in ROUND_INTERVAL                                 ends by itself, also if its answer
//!                                                                                      comes after the majority's
//! ```
//! A call is never dropped. Dropping resets its stream, and a peer that was stopped for a while finds all these resets at
//! once: HTTP/2 servers take many resets for an attack and close the connection, here the one with Raft's heartbeats.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use goat_raft_store::{Member, TypeConfig};
use openraft::ServerState;
use openraft::alias::VoteOf;
use openraft::errors::RPCError;
use openraft::network::RaftNetworkFactory as _;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Group;
use super::proposer::Error;

/// Bounds the calls in progress to a peer that does not answer: 400 in the 2 s after which a call fails.
const ROUND_INTERVAL: Duration = Duration::from_millis(5);

/// Answers that wait to be read: more than voters of a group.
const MAX_ANSWERS: usize = 16;

type Answer = Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>>;
type Round = watch::Receiver<Option<Result<(), Error>>>;

/// The round that has not begun yet.
#[derive(Debug, Default)]
pub(super) struct Rounds(Mutex<Next>);

#[derive(Debug, Default)]
struct Next {
    waiting: Option<Round>,
    began: Option<Instant>,
}

impl Rounds {
    /// The round that begins next. `start` is called to start it if nobody waits for it yet.
    fn join(&self, start: impl FnOnce(watch::Sender<Option<Result<(), Error>>>)) -> Round {
        let mut next = self.0.lock();
        let round = next.waiting.get_or_insert_with(|| {
            let (outcome, round) = watch::channel(None);
            start(outcome);
            round
        });
        round.clone()
    }

    /// Returns when the next round may begin. Who asks for a confirmation from now on waits for the one after it.
    async fn begin(&self) {
        let began = self.0.lock().began;
        if let Some(began) = began {
            tokio::time::sleep_until(began + ROUND_INTERVAL).await;
        }
        *self.0.lock() = Next { waiting: None, began: Some(Instant::now()) };
    }
}

/// The voters that have to agree: a majority of each set, of which there are two while the membership changes.
#[derive(Debug)]
struct Quorums {
    sets: Vec<BTreeSet<u64>>,
    confirmed: BTreeSet<u64>,
}

impl Quorums {
    fn are_reached(&self) -> bool {
        self.sets.iter().all(|set| {
            let confirmed = set.iter().filter(|id| self.confirmed.contains(id)).count();
            goat_core::membership::is_quorum(confirmed, set.len())
        })
    }
}

impl Group {
    /// Returns once a majority has confirmed, after the call began, that this manager leads.
    pub async fn confirm_leadership(&self) -> Result<(), Error> {
        let mut round = self.inner.rounds.join(|outcome| {
            let group = self.clone();
            self.inner.tasks.spawn("leadership confirmation", async move {
                group.inner.rounds.begin().await;
                let confirmed = group.confirm_once().await;
                // Nobody may wait any more.
                let _ = outcome.send(Some(confirmed));
            });
        });
        let outcome = round.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        // The tasks end without an outcome when this manager stops.
        outcome.ok().flatten().unwrap_or(Err(Error::NotLeader))
    }

    /// Asks each other voter once.
    async fn confirm_once(&self) -> Result<(), Error> {
        let (is_leader, vote, sets, members) = self.with_metrics(|metrics| {
            let membership = metrics.membership_config.membership();
            let members: BTreeMap<_, _> = membership.nodes().map(|(id, member)| (*id, member.clone())).collect();
            (metrics.state == ServerState::Leader, metrics.vote, membership.get_joint_config().clone(), members)
        });
        if !is_leader {
            return Err(Error::NotLeader);
        }
        let mut quorums = Quorums { sets, confirmed: BTreeSet::new() };
        let others: BTreeSet<u64> = quorums.sets.iter().flatten().copied().filter(|id| *id != self.id()).collect();
        let members = members.into_iter().filter(|(id, _)| others.contains(id));
        let mut answers = self.ask_voters(vote, members).await;
        // This manager asks itself as well: it may have given its vote to another one.
        if self.follows(vote).await {
            quorums.confirmed.insert(self.id());
        }
        while !quorums.are_reached() {
            match answers.recv().await {
                Some((id, Ok(AppendEntriesResponse::Success))) => drop(quorums.confirmed.insert(id)),
                // openraft's own heartbeats find out what that means.
                Some((_, Ok(AppendEntriesResponse::HigherVote(_)))) => return Err(Error::NotLeader),
                Some((_, Ok(_) | Err(_))) => {}
                None => return Err(Error::NoQuorum),
            }
        }
        Ok(())
    }

    /// Asks each of these managers whether its vote is `vote`. The receiver ends when all calls have ended.
    async fn ask_voters(
        &self,
        vote: VoteOf<TypeConfig>,
        voters: impl Iterator<Item = (u64, Member)>,
    ) -> mpsc::Receiver<(u64, Answer)> {
        let (answers, answered) = mpsc::channel(MAX_ANSWERS);
        for (id, member) in voters {
            let mut link = self.inner.network.clone().new_client(id, &member).await;
            let request = AppendEntriesRequest::<TypeConfig> {
                vote,
                prev_log_id: None,
                entries: Vec::new(),
                leader_commit: None,
            };
            let answers = answers.clone();
            self.inner.tasks.spawn("leadership question", async move {
                let answer = link.append_batch(&request).await;
                // The majority may have answered before.
                let _ = answers.send((id, answer)).await;
            });
        }
        answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_reached(sets: &[&[u64]], confirmed: &[u64]) -> bool {
        let set = |ids: &&[u64]| ids.iter().copied().collect();
        Quorums { sets: sets.iter().map(set).collect(), confirmed: confirmed.iter().copied().collect() }.are_reached()
    }

    #[test]
    fn a_majority_of_each_set_of_voters_has_to_confirm() {
        assert!(are_reached(&[&[1]], &[1]));
        assert!(!are_reached(&[&[1, 2]], &[1]));
        assert!(are_reached(&[&[1, 2, 3]], &[1, 3]));
        assert!(!are_reached(&[&[1, 2, 3], &[3, 4, 5]], &[1, 3, 9]));
        assert!(are_reached(&[&[1, 2, 3], &[3, 4, 5]], &[1, 3, 5]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_before_a_round_begins_shares_it_and_who_asks_later_does_not() {
        let rounds = Rounds::default();
        let mut outcomes = Vec::new();
        let mut first = rounds.join(|outcome| outcomes.push(outcome));
        let mut second = rounds.join(|outcome| outcomes.push(outcome));
        assert_eq!(outcomes.len(), 1);
        rounds.begin().await;
        let third = rounds.join(|outcome| outcomes.push(outcome));
        assert_eq!(outcomes.len(), 2);
        outcomes[0].send(Some(Ok(()))).expect("it is waited for");
        assert!(first.wait_for(Option::is_some).await.is_ok() && second.wait_for(Option::is_some).await.is_ok());
        assert!(third.borrow().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_begin_at_intervals() {
        let rounds = Rounds::default();
        let since = Instant::now();
        for _ in 0..=10 {
            rounds.begin().await;
        }
        assert_eq!(since.elapsed(), 10 * ROUND_INTERVAL);
    }
}
