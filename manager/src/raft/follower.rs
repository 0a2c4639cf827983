//! A follower's side of appends.
//!
//! openraft answers an append when everything that the follower has accepted is durable, even an append without entries:
//! then a heartbeat would wait for the fsync of entries that came before it. What a heartbeat's answer claims is less: the
//! follower follows this leader, and its log is durable up to the entry that the heartbeat names. If an earlier answer
//! claimed that much already, a heartbeat is answered as soon as Raft has handled it.

use goat_raft_store::TypeConfig;
use openraft::RaftState;
use openraft::alias::{LogIdOf, VoteOf};
use openraft::entry::RaftEntry as _;
use openraft::errors::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Group;
use crate::clock;

type Vote = VoteOf<TypeConfig>;
type LogId = LogIdOf<TypeConfig>;

/// How far this manager has told a leader that its log is durable.
#[derive(Debug, Default)]
pub(super) struct Acknowledged(Mutex<Option<(Vote, Option<LogId>)>>);

impl Acknowledged {
    fn covers(&self, leader: &Vote, entry: Option<LogId>) -> bool {
        self.0.lock().is_some_and(|(vote, upto)| vote == *leader && entry <= upto)
    }

    fn record(&self, leader: Vote, upto: Option<LogId>) {
        let mut acknowledged = self.0.lock();
        let earlier = acknowledged.filter(|(vote, _)| *vote == leader).and_then(|(_, upto)| upto);
        *acknowledged = Some((leader, upto.max(earlier)));
    }
}

impl Group {
    /// Handles a leader's append. The answer says what is durable, as above.
    pub(super) async fn append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RaftError<TypeConfig>> {
        let (leader, previous) = (request.vote, request.prev_log_id);
        let last = request.entries.last().map(|entry| entry.log_id()).or(previous);
        let is_answered_early = request.entries.is_empty() && self.inner.acknowledged.covers(&leader, previous);
        self.record_contact(&leader);
        let mut durable = std::pin::pin!(self.raft().append_entries(request));
        let reply = if is_answered_early {
            tokio::select! {
                // Raft gets the append first, and the question about its vote after that.
                biased;
                reply = &mut durable => reply?,
                follows = self.follows(leader) => match follows {
                    true => AppendEntriesResponse::Success,
                    false => durable.await?,
                },
            }
        } else {
            durable.await?
        };
        if matches!(reply, AppendEntriesResponse::Success) {
            self.record_contact(&leader);
            self.heard_leader();
            if !is_answered_early {
                self.inner.acknowledged.record(leader, last);
            }
        }
        Ok(reply)
    }

    /// Whether Raft's vote is for this leader, after everything that was sent to Raft before the call.
    pub(super) async fn follows(&self, leader: Vote) -> bool {
        // `with_raft_state` logs an error if its caller has stopped waiting.
        let (answer, follows) = oneshot::channel();
        let question = move |state: &RaftState<TypeConfig>| {
            let _ = answer.send(*state.vote_ref() == leader);
        };
        self.raft().external_request(question).await.is_ok() && follows.await.unwrap_or(false)
    }

    /// Resets the election timer if the sender is the leader that this manager follows.
    fn record_contact(&self, leader: &Vote) {
        let follows = self.with_metrics(|metrics| metrics.vote == *leader);
        if follows {
            self.inner.network.contact.record(*leader, clock::boot_ms());
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::impls::leader_id_std::LeaderId;
    use openraft::vote::RaftLeaderId as _;

    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(LeaderId::new(term, 1).to_committed(), index)
    }

    #[test]
    fn only_what_was_durable_under_the_same_leader_is_acknowledged_early() {
        let acknowledged = Acknowledged::default();
        let (first, second) = (Vote::new_committed(1, 1), Vote::new_committed(2, 2));
        assert!(!acknowledged.covers(&first, None));
        acknowledged.record(first, Some(id(1, 7)));
        assert!(acknowledged.covers(&first, None) && acknowledged.covers(&first, Some(id(1, 7))));
        assert!(!acknowledged.covers(&first, Some(id(1, 8))));
        assert!(!acknowledged.covers(&second, Some(id(1, 7))), "another leader may have cut the log");
        acknowledged.record(first, Some(id(1, 5)));
        assert!(acknowledged.covers(&first, Some(id(1, 7))), "answers may overtake each other");
        acknowledged.record(second, Some(id(1, 3)));
        assert!(!acknowledged.covers(&first, None) && !acknowledged.covers(&second, Some(id(1, 7))));
    }
}
