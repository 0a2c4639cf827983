//! The directory says the same as the state, and is read while the state is locked.

use goat_core::codec;
use goat_core::model::{NodeId, Secret, Standing};
use goat_core::state::command::{Action, Command};
use goat_manager::machine::{Machine, View};
use goat_raft_store::{EntryId, RowChanges, StateMachine};

const NODE: NodeId = NodeId::from_random(1);

fn manager(name: &str, address: &str) -> Action {
    Action::AddManager { name: name.into(), address: address.into() }
}

fn commands() -> Vec<Action> {
    let node = |name: &str| Action::RegisterNode {
        node: NODE,
        name: name.into(),
        address: "127.0.0.1".into(),
        labels: Default::default(),
        inventory: Default::default(),
        running: Vec::new(),
    };
    vec![
        manager("m1", "127.0.0.1:1"),
        manager("m2", "127.0.0.1:2"),
        Action::SetManagerAddress { id: 2, address: "127.0.0.1:3".into() },
        node("w1"),
        // Refused: it is not down. Then it is, and its certificate with it.
        Action::RemoveNode { node: NODE },
        Action::SetManager { id: 2, standing: Standing::Removed },
        manager("m3", "127.0.0.1:4"),
    ]
}

/// The guard of the state is held all the while: a directory that took the lock would be a second guard, which is refused.
fn assert_same(view: &View, after: usize) {
    let state = view.read();
    let directory = view.directory();
    assert_eq!(directory.format(), state.format(), "after {after} commands");
    for id in 0..6 {
        assert_eq!(
            directory.is_removed_manager(id),
            state.is_removed_manager(id),
            "manager {id} after {after} commands"
        );
        let known = state.manager(id).map(|manager| (manager.name.as_str(), manager.address.as_str()));
        assert_eq!(directory.name(id).zip(directory.address(id)), known, "manager {id} after {after} commands");
    }
    assert_eq!(directory.is_revoked(NODE), state.is_revoked(NODE), "after {after} commands");
}

#[test]
fn after_each_command_the_directory_says_what_the_state_says() {
    let view = View::new();
    let mut machine = Machine::new(view.clone());
    assert_same(&view, 0);
    for (number, action) in commands().into_iter().enumerate() {
        let command = Command { now_ms: 1_000, request: None, action };
        let at = EntryId { term: 1, index: number as u64 + 1 };
        machine.apply(at, &codec::encode(&command), &mut RowChanges::default());
        machine.published(at);
        assert_same(&view, number + 1);
    }
    assert!(view.directory().is_removed_manager(2) && !view.directory().is_removed_manager(3));
}

#[test]
fn a_removed_node_is_revoked_for_those_who_ask_the_directory() {
    let view = View::new();
    let mut machine = Machine::new(view.clone());
    let authority = goat_core::model::Authority { certificate: "c".into(), key: Secret::new("k".into()) };
    let secrets = goat_core::model::JoinSecrets { manager: Secret::new("a".into()), worker: Secret::new("b".into()) };
    let mut actions = commands();
    actions.truncate(4);
    actions.insert(0, Action::InitSecurity { authority, secrets });
    let mut index = 0;
    let mut apply = |action: Action| {
        index += 1;
        let at = EntryId { term: 1, index };
        machine.apply(
            at,
            &codec::encode(&Command { now_ms: 1_000, request: None, action }),
            &mut RowChanges::default(),
        );
    };
    actions.into_iter().for_each(&mut apply);
    assert!(!view.directory().is_revoked(NODE));
    let seen_version = view.read().node(NODE).expect("it has registered").version;
    apply(Action::SetNodeState { node: NODE, seen_version, state: goat_core::model::NodeState::Down });
    apply(Action::RemoveNode { node: NODE });
    assert!(view.directory().is_revoked(NODE));
    assert_same(&view, 7);
}
