//! How Raft's membership comes to be what the managers' rows say: one step at a time, each harmless if the next never
//! comes.
//!
//! ```text
//! joined ─► learner ─ caught up ─► voter ─ demoted ─► learner
//!              └───────────────────── removed ──────────┴────► no member
//! ```
//! The leader takes these steps while it leads. Raft needs one change to be settled before the next.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Manager, Standing};

/// Raft's membership as the leader knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    pub leader: u64,
    pub voters: BTreeSet<u64>,
    pub learners: BTreeSet<u64>,
    /// A change is half done: its two sets of voters must both agree to everything.
    pub is_joint: bool,
    /// Those that answer, the leader included.
    pub reached: BTreeSet<u64>,
    /// Those that have nearly all of the log, the leader included.
    pub caught_up: BTreeSet<u64>,
    /// Where Raft's membership says that each is.
    pub addresses: BTreeMap<u64, String>,
}

/// One change of the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Finish the change that another leader began.
    Settle,
    /// Where its row says that it is.
    Readdress(u64),
    /// A learner from now on.
    Add(u64),
    /// A voter from now on.
    Promote(u64),
    /// A learner from now on.
    Demote(u64),
    /// No member any more.
    Remove(u64),
    /// The leader is to lose its vote: that is for the next leader to do, which is this one.
    HandOver(u64),
}

/// The next step; None where all is as it should be, or where it has to be waited for somebody.
pub fn next<'a>(managers: impl Iterator<Item = &'a Manager>, group: &Group) -> Option<Step> {
    if group.is_joint {
        return Some(Step::Settle);
    }
    let managers: Vec<_> = managers.collect();
    let standing = |id: &u64| managers.iter().find(|manager| manager.id == *id).map(|manager| manager.standing);
    let is_removed = |id: &u64| standing(id) == Some(Standing::Removed);
    let is_unwanted = |id: &u64| matches!(standing(id), Some(Standing::Learner | Standing::Removed));
    let leaving = |id: u64| if is_removed(&id) { Step::Remove(id) } else { Step::Demote(id) };

    let has_moved = |manager: &&&Manager| {
        manager.is_member() && group.addresses.get(&manager.id).is_some_and(|known| *known != manager.address)
    };
    if let Some(moved) = managers.iter().find(has_moved) {
        return Some(Step::Readdress(moved.id));
    }
    if let Some(learner) = group.learners.iter().find(|id| is_removed(id)) {
        return Some(Step::Remove(*learner));
    }
    // The dead first: each that is gone from the voters makes the majority of those that live more certain.
    let mut unwanted = group.voters.iter().copied().filter(is_unwanted);
    if let Some(dead) = unwanted.clone().find(|id| !group.reached.contains(id)) {
        return Some(leaving(dead));
    }
    let is_known = |id: &u64| group.voters.contains(id) || group.learners.contains(id);
    if let Some(new) = managers.iter().find(|manager| manager.is_member() && !is_known(&manager.id)) {
        return Some(Step::Add(new.id));
    }
    let is_fit = |id: &u64| group.reached.contains(id) && group.caught_up.contains(id);
    if let Some(ready) = group.learners.iter().find(|id| standing(id) == Some(Standing::Voter) && is_fit(id)) {
        return Some(Step::Promote(*ready));
    }
    if let Some(other) = unwanted.clone().find(|id| *id != group.leader) {
        return Some(leaving(other));
    }
    unwanted.find(|id| *id == group.leader)?;
    let successor = group.voters.iter().find(|id| **id != group.leader && !is_unwanted(id) && is_fit(id))?;
    Some(Step::HandOver(*successor))
}

/// What is to be said of a number of voters, where there is something.
pub fn advice(voters: usize) -> Option<String> {
    match voters {
        0 | 1 => Some("one manager only: when it is lost, so is the cluster; add two more".into()),
        even if even % 2 == 0 => Some(format!(
            "{even} voting managers survive the loss of {}, just as {} would: add one, or demote one",
            (even - 1) / 2,
            even - 1
        )),
        _ => None,
    }
}

/// Whether `reached` of `voters` can still decide anything.
pub const fn is_quorum(reached: usize, voters: usize) -> bool {
    reached > voters / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(id: u64, standing: Standing) -> Manager {
        Manager { id, name: format!("m{id}"), address: format!("h:{id}"), standing, joined_at_ms: 0, version: 0 }
    }

    fn group(leader: u64, voters: &[u64], learners: &[u64]) -> Group {
        let all: BTreeSet<u64> = voters.iter().chain(learners).copied().collect();
        Group {
            leader,
            voters: voters.iter().copied().collect(),
            learners: learners.iter().copied().collect(),
            is_joint: false,
            reached: all.clone(),
            addresses: all.iter().map(|id| (*id, format!("h:{id}"))).collect(),
            caught_up: all,
        }
    }

    fn taken(group: &mut Group, step: Step) {
        match step {
            Step::Settle => group.is_joint = false,
            Step::Readdress(id) => drop(group.addresses.insert(id, "elsewhere:1".into())),
            Step::Add(id) => drop(group.learners.insert(id)),
            Step::Promote(id) => {
                group.learners.remove(&id);
                group.voters.insert(id);
            }
            Step::Demote(id) => {
                group.voters.remove(&id);
                group.learners.insert(id);
            }
            Step::Remove(id) => {
                group.voters.remove(&id);
                group.learners.remove(&id);
            }
            Step::HandOver(id) => group.leader = id,
        }
        group.reached.extend(group.learners.clone());
        group.caught_up.extend(group.learners.clone());
    }

    fn settled(managers: &[Manager], mut group: Group) -> (Group, Vec<Step>) {
        let mut steps = Vec::new();
        while let Some(step) = next(managers.iter(), &group) {
            assert!(steps.len() < 20, "no end: {steps:?}");
            taken(&mut group, step);
            steps.push(step);
        }
        (group, steps)
    }

    #[test]
    fn a_newcomer_learns_before_it_votes() {
        let managers = [manager(1, Standing::Voter), manager(2, Standing::Voter)];
        let mut behind = group(1, &[1], &[2]);
        behind.caught_up.remove(&2);
        assert_eq!(next(managers.iter(), &behind), None);
        let (_, steps) = settled(&managers, group(1, &[1], &[]));
        assert_eq!(steps, [Step::Add(2), Step::Promote(2)]);
    }

    #[test]
    fn a_leader_hands_over_before_it_goes() {
        let managers = [manager(1, Standing::Removed), manager(2, Standing::Voter), manager(3, Standing::Voter)];
        let mut before = group(1, &[1, 2, 3], &[]);
        before.reached.remove(&2);
        let (after, steps) = settled(&managers, before);
        assert_eq!(steps, [Step::HandOver(3), Step::Remove(1)]);
        assert_eq!(after.voters, BTreeSet::from([2, 3]));
    }

    #[test]
    fn a_dead_one_goes_first_and_a_newcomer_votes_before_a_living_one_goes() {
        let standings = [Standing::Voter, Standing::Removed, Standing::Removed, Standing::Voter];
        let managers: Vec<_> = (1..).zip(standings).map(|(id, standing)| manager(id, standing)).collect();
        let mut before = group(1, &[1, 2, 3], &[]);
        before.reached.remove(&3);
        let (after, steps) = settled(&managers, before);
        assert_eq!(steps, [Step::Remove(3), Step::Add(4), Step::Promote(4), Step::Remove(2)]);
        assert_eq!(after.voters, BTreeSet::from([1, 4]));
    }

    #[test]
    fn a_leader_with_nobody_to_hand_over_to_stays() {
        let managers = [manager(1, Standing::Learner), manager(2, Standing::Voter)];
        let mut alone = group(1, &[1, 2], &[]);
        alone.caught_up.remove(&2);
        assert_eq!(next(managers.iter(), &alone), None);
    }

    #[test]
    fn a_change_that_is_half_done_is_finished_first() {
        let managers = [manager(1, Standing::Voter), manager(2, Standing::Removed)];
        let joint = Group { is_joint: true, ..group(1, &[1, 2], &[]) };
        assert_eq!(next(managers.iter(), &joint), Some(Step::Settle));
    }

    #[test]
    fn where_a_manager_has_moved_is_told_first() {
        let mut managers = [manager(1, Standing::Voter), manager(2, Standing::Voter)];
        managers[1].address = "elsewhere:1".into();
        let mut before = group(1, &[1, 2], &[]);
        before.reached.remove(&2);
        let (_, steps) = settled(&managers, before);
        assert_eq!(steps, [Step::Readdress(2)]);
    }

    #[test]
    fn a_voter_without_a_row_is_left_alone() {
        assert_eq!(next([].iter(), &group(1, &[1, 2, 3], &[])), None);
    }
}
