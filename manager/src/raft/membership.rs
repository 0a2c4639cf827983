//! The group's membership: who is in it, and the single steps that change it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use goat_core::membership::{Group as Seen, Step};
use goat_raft_store::Member;
use openraft::ChangeMembers;

use super::proposer::Error;
use super::{Group, PeerInfo};

/// A step is two commits.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(3);
/// So far behind, a newcomer is told the rest while it votes.
const NEARLY: u64 = 100;

impl Group {
    /// Whether that manager was removed: nothing that it says counts any more. One whose removal is only asked for is
    /// still a member, and may even lead.
    pub fn is_removed(&self, id: u64) -> bool {
        // Asked for each message of Raft's: the state's lock is not taken.
        id != 0 && self.view().directory().is_removed_manager(id) && !self.is_member(id)
    }

    /// Whether it takes part, as a voter or a learner.
    pub fn is_member(&self, id: u64) -> bool {
        self.with_metrics(|metrics| metrics.membership_config.membership().get_node(&id).is_some())
    }

    /// So far this manager, which has to lead, knows the other's log to reach.
    pub fn matched(&self, id: u64) -> Option<u64> {
        self.with_metrics(|metrics| {
            metrics.replication.as_ref()?.get(&id).copied().flatten().map(|log_id| log_id.index)
        })
    }

    /// All members, voters and learners.
    pub fn members(&self) -> Vec<PeerInfo> {
        self.with_metrics(|metrics| {
            let membership = metrics.membership_config.membership();
            let voters: BTreeSet<u64> = membership.voter_ids().collect();
            let members = membership.nodes().map(|(id, member)| PeerInfo {
                id: *id,
                name: member.name.clone(),
                address: member.address.clone(),
                is_voter: voters.contains(id),
            });
            members.collect()
        })
    }

    /// What the next step is decided on. Of the leader.
    pub fn seen(&self) -> Seen {
        let (own, reach) = (self.id(), &self.inner.network.reach);
        // A copy: whom Raft misses is behind a lock of its own.
        let metrics = self.with_metrics(Clone::clone);
        let membership = metrics.membership_config.membership();
        let last = metrics.last_log_index.unwrap_or(0);
        let matched = |id: u64| metrics.replication.as_ref()?.get(&id).copied().flatten().map(|log_id| log_id.index);
        let is_close = |id: &u64| matched(*id).is_some_and(|matched| matched + NEARLY >= last);
        let all = || membership.nodes().map(|(id, _)| *id);
        Seen {
            leader: own,
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            is_joint: membership.get_joint_config().len() > 1,
            reached: all().filter(|id| *id == own || (matched(*id).is_some() && !reach.is_missed(*id))).collect(),
            caught_up: all().filter(|id| *id == own || is_close(id)).collect(),
            addresses: membership.nodes().map(|(id, member)| (*id, member.address.clone())).collect(),
        }
    }

    /// Takes a step; this manager has to lead.
    pub async fn take(&self, step: Step) -> Result<(), Error> {
        let only = |id: u64| BTreeSet::from([id]);
        let member = |id: u64| {
            let state = self.view().read();
            let manager = state.manager(id)?;
            let member = Member { name: manager.name.clone(), address: manager.address.clone() };
            Some(BTreeMap::from([(id, member)]))
        };
        let (changes, retain) = match step {
            Step::HandOver(to) => return self.hand_over(to, HAND_OVER_TIMEOUT).await.map(drop),
            Step::Settle => (ChangeMembers::AddVoterIds(BTreeSet::new()), true),
            Step::Add(id) => match member(id) {
                Some(member) => (ChangeMembers::AddNodes(member), true),
                None => return Ok(()),
            },
            Step::Readdress(id) => match member(id) {
                Some(member) => (ChangeMembers::SetNodes(member), true),
                None => return Ok(()),
            },
            Step::Promote(id) => (ChangeMembers::AddVoterIds(only(id)), true),
            Step::Demote(id) => (ChangeMembers::RemoveVoters(only(id)), true),
            Step::Remove(id) if self.seen().learners.contains(&id) => (ChangeMembers::RemoveNodes(only(id)), true),
            Step::Remove(id) => (ChangeMembers::RemoveVoters(only(id)), false),
        };
        let change = self.raft().change_membership(changes, retain);
        match tokio::time::timeout(STEP_TIMEOUT, change).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Error::Membership(error.to_string())),
            Err(_) => Err(Error::NoQuorum),
        }
    }
}
