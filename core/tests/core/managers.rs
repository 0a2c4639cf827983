//! Managers' rows: numbers are never used again, and the last voter stays.

use goat_core::model::Standing;
use goat_core::state::State;
use goat_core::state::command::{Action, Refusal};

use crate::support::Leader;

fn add(name: &str) -> Action {
    Action::AddManager { name: name.into(), address: format!("{name}.example:7700") }
}

fn set(id: u64, standing: Standing) -> Action {
    Action::SetManager { id, standing }
}

fn three() -> Leader {
    let mut leader = Leader::new();
    for name in ["m1", "m2", "m3"] {
        leader.done(add(name));
    }
    leader
}

fn numbers(leader: &Leader) -> Vec<u64> {
    leader.state.managers().filter(|manager| manager.is_member()).map(|manager| manager.id).collect()
}

#[test]
fn a_number_is_never_used_again() {
    let mut leader = three();
    leader.done(set(3, Standing::Removed));
    leader.done(add("m3"));
    assert_eq!(numbers(&leader), [1, 2, 4]);
    assert!(leader.state.is_removed_manager(3));
    // Nor when so many were removed that the first are forgotten.
    for round in 0..1_100 {
        leader.done(set(4 + round, Standing::Removed));
        leader.done(add("m3"));
    }
    assert_eq!(numbers(&leader), [1, 2, 1_104]);
    assert_eq!(leader.state.managers().count(), 1_003);
    assert!(leader.state.manager(3).is_none(), "it was removed before a thousand others");
}

#[test]
fn two_managers_share_neither_name_nor_address() {
    let mut leader = three();
    assert!(matches!(leader.refused(add("m1")), Refusal::ManagerNameTaken { id: 1, .. }));
    let same_address = Action::AddManager { name: "m4".into(), address: "m1.example:7700".into() };
    assert!(matches!(leader.refused(same_address), Refusal::ManagerAddressTaken { .. }));
    for address in ["", "host", ":1", "host:0", "host:70000", "http://host:1", "a b:1"] {
        let refused = leader.refused(Action::AddManager { name: "m4".into(), address: address.into() });
        assert!(matches!(refused, Refusal::Invalid { .. }), "{address}: {refused}");
    }
}

#[test]
fn a_manager_moves_to_an_address_that_is_nobody_elses() {
    let mut leader = three();
    let to = |id, address: &str| Action::SetManagerAddress { id, address: address.into() };
    leader.done(to(2, "elsewhere:7700"));
    assert_eq!(leader.state.manager(2).expect("it is there").address, "elsewhere:7700");
    assert!(matches!(leader.refused(to(1, "elsewhere:7700")), Refusal::ManagerAddressTaken { .. }));
    assert!(matches!(leader.refused(to(1, "elsewhere")), Refusal::Invalid { .. }));
    assert!(matches!(leader.refused(to(9, "ninth:7700")), Refusal::NoSuchManager { id: 9 }));
    leader.done(set(3, Standing::Removed));
    assert!(matches!(leader.refused(to(3, "third:7700")), Refusal::ManagerRemoved { .. }));
    leader.done(to(1, "m3.example:7700"));
}

#[test]
fn the_last_voter_neither_goes_nor_loses_its_vote() {
    let mut leader = three();
    leader.done(set(1, Standing::Learner));
    leader.done(set(2, Standing::Removed));
    for standing in [Standing::Learner, Standing::Removed] {
        assert!(matches!(leader.refused(set(3, standing)), Refusal::LastManager { .. }));
    }
    leader.done(set(1, Standing::Voter));
    leader.done(set(3, Standing::Removed));
    assert_eq!(numbers(&leader), [1]);
}

#[test]
fn who_was_removed_does_not_come_back_and_may_be_removed_twice() {
    let mut leader = three();
    leader.done(set(3, Standing::Removed));
    leader.done(set(3, Standing::Removed));
    assert!(matches!(leader.refused(set(3, Standing::Voter)), Refusal::ManagerRemoved { .. }));
    assert!(matches!(leader.refused(set(9, Standing::Voter)), Refusal::NoSuchManager { id: 9 }));
}

fn recover(survivor: u64, leap: u64) -> Action {
    Action::Recover { survivor, address: Some("new.example:1".into()), leap }
}

#[test]
fn a_manager_that_is_left_goes_on_alone_above_all_that_the_lost_ones_may_have_given_out() {
    let mut leader = three();
    leader.done(set(1, Standing::Learner));
    let before = leader.state.newest_version();
    leader.done(recover(1, 1_000));
    assert_eq!(numbers(&leader), [1]);
    let own = leader.state.manager(1).expect("it is left");
    assert_eq!((own.standing, own.address.as_str()), (Standing::Voter, "new.example:1"));
    assert_eq!(own.version, before + 1 + 1_000);
    // Those that are known, and those that joined the lost ones unseen.
    for lost in [2, 3, 4, 102] {
        assert!(leader.state.is_removed_manager(lost), "{lost}");
    }
    assert!(!leader.state.is_removed_manager(103));
    leader.done(add("m2"));
    assert_eq!(numbers(&leader), [1, 103]);
    assert_eq!(leader.state.newest_version(), before + 2 + 1_000);

    let rows = leader.state.rows().into_iter().map(|row| (row.key, row.value.expect("no row is deleted here")));
    assert_eq!(State::from_rows(rows).expect("its own rows").newest_version(), leader.state.newest_version());
}

#[test]
fn who_was_removed_or_is_not_known_does_not_go_on_alone() {
    let mut leader = three();
    leader.done(set(3, Standing::Removed));
    assert!(matches!(leader.refused(recover(3, 1)), Refusal::ManagerRemoved { .. }));
    assert!(matches!(leader.refused(recover(9, 1)), Refusal::NoSuchManager { id: 9 }));
    let absurd = Action::Recover { survivor: 1, address: Some("nowhere".into()), leap: 1 };
    assert!(matches!(leader.refused(absurd), Refusal::Invalid { .. }));
    assert_eq!(numbers(&leader), [1, 2]);
    // Whatever it is asked to skip: a command never stops a manager.
    leader.done(recover(1, u64::MAX));
}

#[test]
fn managers_are_in_the_rows() {
    let mut leader = three();
    leader.done(set(2, Standing::Removed));
    let rows = leader.state.rows().into_iter().map(|row| (row.key, row.value.expect("no row is deleted here")));
    let read = State::from_rows(rows).expect("its own rows");
    assert_eq!(read.hash(), leader.state.hash());
    assert_eq!(read.managers().collect::<Vec<_>>(), leader.state.managers().collect::<Vec<_>>());
}
