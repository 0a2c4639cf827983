//! Certificate authorities and join secrets in the state.

use std::collections::BTreeMap;

use goat_core::model::{Authority, Invited, JoinSecrets, NodeState, Secret};
use goat_core::state::command::{Action, Refusal};
use goat_core::state::{Rotation, Security, State};

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

#[test]
fn a_removed_node_is_refused_for_as_long_as_its_certificate_could_be_valid() {
    let mut leader = begun();
    let node = leader.node(1, roomy());
    leader.set_state(node, NodeState::Disconnected);
    leader.set_state(node, NodeState::Down);
    leader.done(Action::RemoveNode { node });
    assert!(leader.state.is_revoked(node) && leader.reload().is_revoked(node));
    let again = Action::RegisterNode {
        node,
        name: "w1".into(),
        address: "127.0.0.1".into(),
        labels: BTreeMap::new(),
        inventory: roomy(),
        running: Vec::new(),
    };
    let refused = leader.refused(again);
    assert!(matches!(refused, Refusal::NodeRemoved { id } if id == node), "{refused}");
    // Four months later nobody can have a valid certificate for it any more: the next removal forgets it.
    leader.pass(121 * 24 * 3_600_000);
    let other = leader.node(2, roomy());
    leader.set_state(other, NodeState::Disconnected);
    leader.set_state(other, NodeState::Down);
    leader.done(Action::RemoveNode { node: other });
    assert!(!leader.state.is_revoked(node) && leader.state.is_revoked(other));
}
