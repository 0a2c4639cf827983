//! Certificate authorities and join secrets in the state.

use std::collections::BTreeMap;

use goat_core::codec::BOUNDED_FORMAT;
use goat_core::model::{Authority, Availability, Invited, JoinSecrets, MAX_OPERATOR_LABELS, NodeId, NodeState, Secret};
use goat_core::orchestrator::Policy;
use goat_core::state::command::{Action, Command, Outcome, Refusal};
use goat_core::state::{At, MAX_CLIENT_NAME_BYTES, MAX_CLIENTS, MAX_REVOKED, Rotation, Security, State};

use crate::support::{Leader, roomy};

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn hello(number: u64, name: &str, declared: BTreeMap<String, String>) -> Action {
    let (address, inventory) = ("127.0.0.1".to_owned(), roomy());
    let node = NodeId::from_random(number);
    Action::RegisterNode { node, name: name.into(), address, labels: declared, inventory, running: Vec::new() }
}

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

/// In the format from which names and labels need consent.
fn bounded() -> Leader {
    let mut leader = begun();
    if leader.state.format() < BOUNDED_FORMAT {
        leader.done(Action::SetFormat { format: BOUNDED_FORMAT });
    }
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

fn registers(node: NodeId) -> Action {
    let (name, address) = ("w1".into(), "127.0.0.1".into());
    Action::RegisterNode { node, name, address, labels: BTreeMap::new(), inventory: roomy(), running: Vec::new() }
}

#[test]
fn a_removed_node_is_refused_whatever_one_manager_s_clock_says() {
    let mut leader = begun();
    let node = remove(&mut leader, 1);
    assert!(leader.state.is_revoked(node) && leader.reload().is_revoked(node));
    let refused = leader.refused(registers(node));
    assert!(matches!(refused, Refusal::NodeRemoved { id } if id == node), "{refused}");
    // One request comes by a manager that is years ahead.
    let now_ms = leader.now_ms + 3 * YEAR_MS;
    let request = Action::RotateJoinSecret { invited: Invited::Worker, secret: secret("new") };
    leader.command(&Command { now_ms, request: None, action: request });
    let other = remove(&mut leader, 2);
    assert!(leader.state.is_revoked(node) && leader.state.is_revoked(other));
    leader.refused(registers(node));
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
        apply(registers(node));
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

fn names(leader: &Leader) -> Vec<&str> {
    leader.state.clients().map(|client| client.name.as_str()).collect()
}

fn issue(name: &str) -> Action {
    Action::IssueClient { name: name.into(), expires_at_ms: 9_000_000 }
}

fn revoke(name: &str) -> Action {
    Action::RevokeClient { name: name.into() }
}

#[test]
fn a_revoked_client_is_refused_and_not_issued_again() {
    let mut leader = begun();
    leader.done(issue("eve"));
    leader.done(issue("adam"));
    assert!(!leader.state.is_client_revoked("eve"));
    leader.done(revoke("eve"));
    leader.done(revoke("eve"));
    // Of an earlier version, which listed none.
    leader.done(revoke("old"));
    let refused = leader.refused(issue("eve"));
    assert!(refused.to_string().contains("client eve was revoked"), "{refused}");
    for state in [&leader.state, &leader.reload()] {
        assert_eq!(["adam", "eve", "old", "new"].map(|name| state.is_client_revoked(name)), [false, true, true, false]);
        assert_eq!(state.clients().len(), 3);
    }
}

#[test]
fn a_revocation_ends_with_the_authority_that_signed_the_certificate_and_not_before() {
    let mut leader = begun();
    for name in ["eve", "adam", "abel"] {
        leader.done(issue(name));
    }
    leader.done(revoke("eve"));
    leader.done(Action::AnnounceAuthority { authority: authority("two") });
    advance(&mut leader);
    // Renewed, so of the new authority; and one that was renewed before it was revoked.
    leader.done(issue("adam"));
    leader.done(issue("abel"));
    leader.done(revoke("abel"));
    assert!(leader.state.is_client_revoked("eve"));
    advance(&mut leader);
    assert_eq!(names(&leader), ["abel", "adam"]);
    assert!(leader.state.is_client_revoked("abel"));
    leader.done(issue("eve"));
    assert_eq!(leader.reload().clients().len(), 3);
}

#[test]
fn clients_names_are_bounded() {
    let mut leader = begun();
    for name in [String::new(), "x".repeat(MAX_CLIENT_NAME_BYTES + 1)] {
        let refused = leader.refused(issue(&name));
        assert!(matches!(refused, Refusal::Invalid { .. }), "{refused:?}");
    }
    for number in 0..MAX_CLIENTS {
        leader.done(issue(&format!("user{number}")));
    }
    let refused = leader.refused(issue("one-more"));
    assert!(refused.to_string().contains("10000 names of clients"), "{refused}");
    leader.done(issue("user0"));
}

#[test]
fn a_worker_gives_itself_no_label_of_an_operator() {
    let mut leader = bounded();
    let node = NodeId::from_random(1);
    let declared = labels([("zone", "a"), ("operator/vault", "yes")]);
    leader.done(hello(1, "w1", declared.clone()));
    assert_eq!(leader.state.node(node).expect("known").labels, labels([("zone", "a")]));
    let set = labels([("operator/pool", "web"), ("operator/old", "yes")]);
    leader.done(Action::SetNodeLabels { node, set, remove: Vec::new() });
    leader.done(Action::SetNodeLabels { node, set: BTreeMap::new(), remove: vec!["operator/old".into()] });
    // It says hello again, with another label of its own.
    leader.done(hello(1, "w1", labels([("zone", "b"), ("operator/pool", "vault")])));
    let kept = labels([("zone", "b"), ("operator/pool", "web")]);
    for state in [&leader.state, &leader.reload()] {
        assert_eq!(state.node(node).expect("known").labels, kept);
    }
    let many = (0..=MAX_OPERATOR_LABELS).map(|number| (format!("operator/{number}"), String::new())).collect();
    for set in [labels([("zone", "c")]), labels([("operator/", "c")]), many] {
        let refused = leader.refused(Action::SetNodeLabels { node, set, remove: Vec::new() });
        assert!(matches!(refused, Refusal::Invalid { .. }), "{refused:?}");
    }
    assert_eq!(leader.state.node(node).expect("known").labels, kept);
}

#[test]
fn a_node_that_is_known_does_not_take_the_name_of_one_that_is_down() {
    let mut leader = bounded();
    for (number, name) in [(1, "db"), (2, "web")] {
        leader.done(hello(number, name, BTreeMap::new()));
    }
    leader.set_state(NodeId::from_random(1), NodeState::Down);
    let refused = leader.refused(hello(2, "db", BTreeMap::new()));
    assert!(refused.to_string().contains("goatctl node rm"), "{refused}");
    assert_eq!(leader.state.node_by_name("db").expect("known").id, NodeId::from_random(1));
    // A machine that was set up again has joined with a token.
    leader.done(hello(3, "db", BTreeMap::new()));
}

#[test]
fn a_node_is_revoked_while_it_is_ready_and_removed_when_it_is_down() {
    let mut leader = bounded();
    let node = leader.node(1, roomy());
    leader.refused(Action::RemoveNode { node });
    leader.done(Action::RevokeNode { node });
    assert!(leader.state.is_revoked(node) && leader.reload().is_revoked(node));
    assert_eq!(leader.state.node(node).expect("its lease has not run out").state, NodeState::Ready);
    let refused = leader.refused(hello(1, "w1", BTreeMap::new()));
    assert!(matches!(refused, Refusal::NodeRemoved { .. }), "{refused:?}");
    leader.set_state(node, NodeState::Disconnected);
    leader.set_state(node, NodeState::Down);
    leader.done(Action::RemoveNode { node });
    assert!(leader.state.is_revoked(node));
}
