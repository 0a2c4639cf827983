//! Confirming that this manager still leads, in one round trip. Several confirmations may be under way at a time.
//!
//! openraft's own check waits for the heartbeat that is on its way to each follower and then for another one: two round
//! trips, one check at a time. A check of this kind asks each voter the same question as a heartbeat does: whether its vote
//! is for this leader. If a majority says yes after the check began, no other leader can have committed anything before
//! that.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use goat_raft_store::TypeConfig;
use openraft::ServerState;
use openraft::network::RaftNetworkFactory as _;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};

use super::Group;
use super::proposer::Error;

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
        let (is_leader, leader, sets, members) = self.with_metrics(|metrics| {
            let membership = metrics.membership_config.membership();
            let members: BTreeMap<_, _> = membership.nodes().map(|(id, member)| (*id, member.clone())).collect();
            (metrics.state == ServerState::Leader, metrics.vote, membership.get_joint_config().clone(), members)
        });
        if !is_leader {
            return Err(Error::NotLeader);
        }
        let mut quorums = Quorums { sets, confirmed: BTreeSet::new() };
        let others: BTreeSet<u64> = quorums.sets.iter().flatten().copied().filter(|id| *id != self.id()).collect();
        let mut asked = FuturesUnordered::new();
        for id in others {
            let Some(member) = members.get(&id) else { continue };
            let mut link = self.inner.network.clone().new_client(id, member).await;
            let request = AppendEntriesRequest::<TypeConfig> {
                vote: leader,
                prev_log_id: None,
                entries: Vec::new(),
                leader_commit: None,
            };
            asked.push(async move { (id, link.append_batch(&request).await) });
        }
        // This manager asks itself as well: it may have given its vote to another one.
        if self.follows(leader).await {
            quorums.confirmed.insert(self.id());
        }
        while !quorums.are_reached() {
            match asked.next().await {
                Some((id, Ok(AppendEntriesResponse::Success))) => drop(quorums.confirmed.insert(id)),
                // openraft's own heartbeats find out what that means.
                Some((_, Ok(AppendEntriesResponse::HigherVote(_)))) => return Err(Error::NotLeader),
                Some((_, Ok(_) | Err(_))) => {}
                None => return Err(Error::NoQuorum),
            }
        }
        Ok(())
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
}
