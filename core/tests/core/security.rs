//! Certificate authorities and join secrets in the state.

use std::collections::BTreeMap;

use goat_core::model::{Authority, Availability, Invited, JoinSecrets, NodeId, NodeState, Secret};
use goat_core::orchestrator::Policy;
use goat_core::state::command::{Action, Command, Outcome, Refusal};
use goat_core::state::{At, MAX_REVOKED, Rotation, Security, State};

use crate::support::{Leader, roomy};

fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}

fn authority(name: &str) -> Authority {
    Authority { certificate: format!("certificate {name}\n"), key: secret(&format!("key {name}")) }
}

fn secrets() -> JoinSecrets {
    JoinSecrets { manager: secret("for managers"), worker: secret("for workers") }
}

fn begun() -> Leader {
    let mut leader = Leader::new();
    leader.done(Action::InitSecurity { authority: authority("one"), secrets: secrets() });
    leader
}

fn security(leader: &Leader) -> &Security {
    leader.state.security().expect("there is one")
}

fn advance(leader: &mut Leader) {
    let seen_version = security(leader).version;
    leader.done(Action::AdvanceRotation { seen_version });
}

#[test]
fn a_cluster_gets_its_authority_once() {
    let mut leader = begun();
    let refused = leader.refused(Action::InitSecurity { authority: authority("two"), secrets: secrets() });
    assert!(matches!(refused, Refusal::Impossible { .. }), "{refused:?}");
    assert_eq!(security(&leader).signer(), &authority("one"));
    assert_eq!(security(&leader).rotation(), Rotation::None);
}

#[test]
fn an_authority_is_believed_before_it_signs_and_the_old_one_after_it_signed() {
    let mut leader = begun();
    leader.done(Action::AnnounceAuthority { authority: authority("two") });
    assert_eq!(security(&leader).rotation(), Rotation::Announced);
    assert_eq!(security(&leader).signer(), &authority("one"));
    assert_eq!(security(&leader).believed(), "certificate one\ncertificate two\n");
    leader.refused(Action::AnnounceAuthority { authority: authority("three") });

    advance(&mut leader);
    assert_eq!(security(&leader).rotation(), Rotation::Signing);
    assert_eq!(security(&leader).signer(), &authority("two"));
    assert_eq!(security(&leader).believed(), "certificate one\ncertificate two\n");

    advance(&mut leader);
    assert_eq!(security(&leader).rotation(), Rotation::None);
    assert_eq!(security(&leader).believed(), "certificate two\n");
    let seen_version = security(&leader).version;
    leader.refused(Action::AdvanceRotation { seen_version });
}

#[test]
fn a_step_that_was_meant_for_an_earlier_look_is_refused() {
    let mut leader = begun();
    leader.done(Action::AnnounceAuthority { authority: authority("two") });
    let seen_version = security(&leader).version;
    leader.done(Action::AdvanceRotation { seen_version });
    let refused = leader.refused(Action::AdvanceRotation { seen_version });
    assert!(matches!(refused, Refusal::Stale { .. }), "{refused:?}");
    assert_eq!(security(&leader).rotation(), Rotation::Signing);
}

#[test]
fn each_kind_of_token_is_rotated_alone() {
    let mut leader = begun();
    leader.done(Action::RotateJoinSecret { invited: Invited::Worker, secret: secret("new") });
    assert_eq!(security(&leader).secrets.worker, secret("new"));
    assert_eq!(security(&leader).secrets.manager, secrets().manager);
    for bad in [String::new(), "x".repeat(1_000)] {
        let refused = leader.refused(Action::RotateJoinSecret { invited: Invited::Manager, secret: Secret::new(bad) });
        assert!(matches!(refused, Refusal::Invalid { .. }), "{refused:?}");
    }
}

#[test]
fn nothing_is_rotated_where_there_is_nothing() {
    let mut leader = Leader::new();
    leader.refused(Action::RotateJoinSecret { invited: Invited::Worker, secret: secret("new") });
    leader.refused(Action::AnnounceAuthority { authority: authority("two") });
    leader.refused(Action::AdvanceRotation { seen_version: 0 });
    assert!(leader.state.security().is_none());
}

#[test]
fn the_row_is_read_as_it_was_written_and_secrets_are_not_printed() {
    let leader = begun();
    let rows = leader.state.rows().into_iter().filter_map(|row| Some((row.key, row.value?)));
    let read = State::from_rows(rows).expect("its own rows");
    assert_eq!(read.security(), leader.state.security());
    assert_eq!(read.hash(), leader.state.hash());
    let printed =
        format!("{:?} {:?}", read.security(), Action::InitSecurity { authority: authority("one"), secrets: secrets() });
    for hidden in ["key one", "for managers", "for workers"] {
        assert!(!printed.contains(hidden), "{printed}");
    }
}

const YEAR_MS: u64 = 365 * 24 * 3_600_000;

fn remove(leader: &mut Leader, number: u64) -> NodeId {
    let node = leader.node(number, roomy());
    leader.set_state(node, NodeState::Disconnected);
    leader.set_state(node, NodeState::Down);
    leader.done(Action::RemoveNode { node });
    node
}

fn hello(node: NodeId) -> Action {
    let (name, address) = ("w1".into(), "127.0.0.1".into());
    Action::RegisterNode { node, name, address, labels: BTreeMap::new(), inventory: roomy(), running: Vec::new() }
}

#[test]
fn a_removed_node_is_refused_whatever_one_manager_s_clock_says() {
    let mut leader = begun();
    let node = remove(&mut leader, 1);
    assert!(leader.state.is_revoked(node) && leader.reload().is_revoked(node));
    let refused = leader.refused(hello(node));
    assert!(matches!(refused, Refusal::NodeRemoved { id } if id == node), "{refused}");
    // One request comes by a manager that is years ahead.
    let now_ms = leader.now_ms + 3 * YEAR_MS;
    let request = Action::RotateJoinSecret { invited: Invited::Worker, secret: secret("new") };
    leader.command(&Command { now_ms, request: None, action: request });
    let other = remove(&mut leader, 2);
    assert!(leader.state.is_revoked(node) && leader.state.is_revoked(other));
    leader.refused(hello(node));
}

#[test]
fn a_rotation_of_the_authority_forgets_the_nodes_that_were_removed_before_the_new_one_signed() {
    let mut leader = begun();
    let before = remove(&mut leader, 1);
    leader.done(Action::AnnounceAuthority { authority: authority("two") });
    let announced = remove(&mut leader, 2);
    advance(&mut leader);
    let signing = remove(&mut leader, 3);
    assert!([before, announced, signing].into_iter().all(|node| leader.state.is_revoked(node)));
    advance(&mut leader);
    assert_eq!(security(&leader).rotation(), Rotation::None);
    let revoked = |state: &State| [before, announced, signing].map(|node| state.is_revoked(node));
    assert_eq!(revoked(&leader.state), [false, false, true], "the new authority may have signed for the third");
    assert_eq!(revoked(&leader.reload()), [false, false, true]);
}

#[test]
fn under_the_first_format_a_removed_node_is_forgotten_after_four_months() {
    let mut leader = Leader::of_the_first_format(Policy::default());
    leader.done(Action::InitSecurity { authority: authority("one"), secrets: secrets() });
    let node = remove(&mut leader, 1);
    leader.pass(121 * 24 * 3_600_000);
    let other = remove(&mut leader, 2);
    assert!(!leader.state.is_revoked(node) && leader.state.is_revoked(other));
}

#[test]
fn more_removed_nodes_than_may_be_remembered_are_refused_until_a_rotation_has_ended() {
    let mut leader = begun();
    let mut state = leader.reload();
    let now_ms = leader.now_ms;
    let mut apply = |action| {
        let at = At { index: state.applied_index() + 1, term: 1 };
        let outcome = state.apply(at, &Command { now_ms, request: None, action }, &mut Vec::new()).0;
        (outcome, state.security().map_or(0, |security| security.version))
    };
    let mut removed = |number: u64| {
        let node = NodeId::from_random(number);
        apply(hello(node));
        apply(Action::SetAvailability { node, availability: Availability::Drain });
        apply(Action::RemoveNode { node }).0
    };
    let most = MAX_REVOKED as u64;
    assert!((1..=most).all(|number| matches!(removed(number), Outcome::Done(_))));
    let Outcome::Refused(refused) = removed(most + 1) else { panic!("one more is removed") };
    assert!(refused.to_string().contains("goatctl cluster ca rotate"), "{refused}");
    let (_, seen_version) = apply(Action::AnnounceAuthority { authority: authority("two") });
    let (_, seen_version) = apply(Action::AdvanceRotation { seen_version });
    apply(Action::AdvanceRotation { seen_version });
    let again = Action::RemoveNode { node: NodeId::from_random(most + 1) };
    assert!(matches!(apply(again).0, Outcome::Done(_)));
    leader.assert_settled();
}
