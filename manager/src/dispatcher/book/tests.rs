//! Batches of assignments as messages: their sizes, their specs, and older workers.

use std::collections::{BTreeMap, BTreeSet};

use goat_core::model::{ClusterId, Driver, Inventory, Mode, NodeId, Resources, ServiceId, TaskId};
use goat_core::orchestrator::{Planner, Policy};
use goat_core::state::At;
use goat_core::state::command::{Action, Command};

use super::*;

const NODE: NodeId = NodeId::from_random(1);

/// A state with one node, and services that it runs: each with so many replicas and so many bytes of environment.
fn state(services: &[(u64, u32, usize)]) -> State {
    let mut state = State::new();
    let mut index = 0;
    let mut apply = |state: &mut State, action: Action| {
        index += 1;
        let command = Command { now_ms: 1_000, request: None, action };
        state.apply(At { index, term: 1 }, &command, &mut Vec::new()).0
    };
    apply(&mut state, Action::InitCluster { id: ClusterId::from_random(1) });
    let total = Resources { cpu_millis: 64_000, memory_bytes: 1 << 40, disk_bytes: 1 << 40 };
    let inventory =
        Inventory { total, drivers: [Driver::Docker].into(), disk_free_bytes: 1 << 40, ..Inventory::default() };
    let (name, address, labels) = ("w1".to_owned(), "127.0.0.1".to_owned(), BTreeMap::new());
    apply(&mut state, Action::RegisterNode { node: NODE, name, address, labels, inventory, running: Vec::new() });
    for (number, replicas, bytes) in services {
        let spec = ServiceSpec {
            name: format!("s{number}"),
            image: "a:1".into(),
            mode: Mode::Replicated { replicas: *replicas },
            env: [("A".to_owned(), "a".repeat(*bytes))].into(),
            ..ServiceSpec::default()
        };
        apply(&mut state, Action::CreateService { id: ServiceId::from_random(*number), spec: Box::new(spec) });
    }
    let mut planner = Planner::new(&state, Policy { max_steps: 100_000, max_looks: 1_000_000, ..Policy::default() });
    let steps = planner.plan(&state, 1_000, 7).steps;
    apply(&mut state, Action::Plan { steps });
    state
}

fn messages(book: &mut Book, mut batch: Batch) -> Vec<manager_message::Message> {
    std::iter::from_fn(|| book.next_message(&mut batch).expect("it fits")).collect()
}

fn sets(messages: Vec<manager_message::Message>) -> Vec<v1::Assignments> {
    let set = |message| match message {
        manager_message::Message::Assignments(set) => set,
        other => panic!("no full set: {other:?}"),
    };
    messages.into_iter().map(set).collect()
}

#[test]
fn a_large_full_set_comes_in_small_messages_with_each_spec_once_in_a_message() {
    let state = state(&[(1, 300, 60_000), (2, 200, 100), (3, 1, 60_000)]);
    let mut book = Book::new(NODE, true);
    let batch = book.full(&state, &Traced::default());
    let sets = sets(messages(&mut book, batch));
    assert!(sets.len() > 1);
    let (mut tasks, mut bytes) = (BTreeSet::new(), 0);
    for (at, set) in sets.iter().enumerate() {
        assert!(set.encoded_len() <= CHUNK_BYTES + 70_000, "{} bytes", set.encoded_len());
        assert_eq!((set.continues, set.more), (at > 0, at + 1 < sets.len()));
        assert_eq!(set.sequence, at as u64 + 1);
        let specs: BTreeSet<_> = set.specs.iter().map(|spec| (spec.service_id.clone(), spec.spec_version)).collect();
        assert_eq!(specs.len(), set.specs.len(), "no spec twice");
        for task in &set.tasks {
            assert!(task.spec.is_none() && specs.contains(&(task.service_id.clone(), task.spec_version)));
            tasks.insert(task.task_id.clone());
        }
        bytes += set.encoded_len();
    }
    assert_eq!(tasks.len(), 501);
    assert!(bytes < 400_000, "{bytes} bytes where 500 specs would have been 18 MB");
}

#[test]
fn an_older_worker_gets_whole_specs_in_one_message_or_hears_why_not() {
    let small = state(&[(1, 100, 10_000)]);
    let mut book = Book::new(NODE, false);
    let batch = book.full(&small, &Traced::default());
    let sets = sets(messages(&mut book, batch));
    assert_eq!(sets.len(), 1);
    assert_eq!((sets[0].tasks.len(), sets[0].continues, sets[0].more), (100, false, false));
    assert!(sets[0].tasks.iter().all(|task| task.spec.is_some()) && sets[0].specs.is_empty());

    let large = state(&[(1, 200, 60_000)]);
    let mut book = Book::new(NODE, false);
    let mut batch = book.full(&large, &Traced::default());
    let error = book.next_message(&mut batch).expect_err("12 MB").to_string();
    assert!(error.contains("over the limit of 8388608") && error.contains("upgrade goat-worker"), "{error}");
}

#[test]
fn changes_are_divided_for_every_worker() {
    let state = state(&[(1, 200, 60_000)]);
    for is_chunked in [false, true] {
        let mut book = Book::new(NODE, is_chunked);
        let dirty: Vec<TaskId> = state.tasks_of_node(NODE).map(|task| task.id).collect();
        let batch = book.changes(&state, dirty.clone(), &Traced::default());
        let messages = messages(&mut book, batch);
        let (mut seen, mut sequence) = (0, 0);
        for message in messages {
            let manager_message::Message::Changes(changes) = message else { panic!("no changes") };
            assert_eq!((changes.sequence, changes.removed.len()), (sequence + 1, 0));
            assert!(changes.encoded_len() <= CHUNK_BYTES + 70_000);
            assert_eq!(changes.set.iter().all(|task| task.spec.is_some()), !is_chunked);
            (seen, sequence) = (seen + changes.set.len(), changes.sequence);
        }
        assert_eq!(seen, 200);
        assert_eq!(book.changes(&state, dirty, &Traced::default()).set.len(), 0, "told once");
    }
}

#[test]
fn removed_tasks_are_divided_and_an_empty_full_set_is_one_message() {
    let empty = state(&[]);
    let mut book = Book::new(NODE, true);
    let batch = book.full(&empty, &Traced::default());
    assert_eq!(sets(messages(&mut book, batch)), [v1::Assignments { sequence: 1, ..Default::default() }]);
    let ids: Vec<TaskId> = (0..12_000).map(TaskId::from_random).collect();
    let told = Told { desired: Desired::Running, on_disconnect: OnDisconnect::Keep };
    book.told = ids.iter().map(|id| (*id, told)).collect();
    let batch = book.changes(&empty, ids, &Traced::default());
    let removed = messages(&mut book, batch).into_iter().map(|message| match message {
        manager_message::Message::Changes(changes) => changes.removed.len(),
        other => panic!("no changes: {other:?}"),
    });
    assert_eq!(removed.collect::<Vec<_>>(), [5_000, 5_000, 2_000]);
}
