//! The checker of linearizability on histories that are known to be good, and on some that are known to be bad.

use goat_proving::linear::service::{Call, Service, State};
use goat_proving::linear::{Operation, Verdict, check};

const BUDGET: usize = 100_000;

fn op(invoked: u64, returned: u64, call: Call) -> Operation<Call> {
    Operation { invoked, returned: Some(returned), call }
}

fn lost(invoked: u64, call: Call) -> Operation<Call> {
    Operation { invoked, returned: None, call: Call::Maybe(Box::new(call)) }
}

fn create(value: &str) -> Call {
    Call::Create { value: value.into(), replicas: 1 }
}

fn update(value: &str) -> Call {
    Call::Update { value: value.into(), replicas: 1 }
}

fn live(value: &str) -> State {
    State::Live { value: value.into(), replicas: 1 }
}

fn saw(value: &str) -> Call {
    Call::Saw(live(value))
}

fn verdict(operations: &[Operation<Call>]) -> Verdict {
    check(&Service, operations, BUDGET)
}

#[test]
fn histories_that_have_an_order_are_linearizable() {
    let good = [
        vec![],
        vec![op(0, 1, Call::Saw(State::Absent)), op(2, 3, create("a")), op(4, 5, saw("a"))],
        // What overlaps may be in either order, and one read is before and one after.
        vec![op(0, 1, create("a")), op(2, 9, update("b")), op(3, 4, saw("a")), op(5, 6, saw("b"))],
        // A write whose answer was lost takes effect late, or never.
        vec![op(0, 1, create("a")), lost(2, update("b")), op(3, 4, saw("a")), op(50, 51, saw("b"))],
        vec![op(0, 1, create("a")), lost(2, update("b")), op(3, 4, saw("a")), op(50, 51, saw("a"))],
        // Two clients create at once: one of them is told that the name is taken.
        vec![op(0, 9, create("a")), op(1, 8, Call::Taken), op(10, 11, saw("a"))],
        // A removed service goes by itself, and can be made anew.
        vec![op(0, 1, create("a")), op(2, 3, Call::Remove), op(4, 5, Call::Taken), op(6, 7, create("b"))],
        vec![op(0, 1, create("a")), op(2, 3, Call::Remove), op(4, 5, Call::BeingRemoved), op(6, 7, Call::Missing)],
        vec![op(0, 1, create("a")), op(2, 3, Call::Scale { replicas: 2 }), op(4, 5, Call::Remove)],
    ];
    for (number, operations) in good.iter().enumerate() {
        assert_eq!(verdict(operations), Verdict::Linearizable, "history {number}");
    }
}

#[test]
fn histories_that_have_none_are_not() {
    let bad = [
        // A lost write, a stale read, a read of what was never written.
        vec![op(0, 1, create("a")), op(2, 3, Call::Saw(State::Absent))],
        vec![op(0, 1, create("a")), op(2, 3, update("b")), op(4, 5, saw("a"))],
        vec![op(0, 1, create("a")), op(4, 5, saw("b"))],
        // Two readers see two writes in different orders.
        vec![
            op(0, 1, create("a")),
            op(2, 20, update("b")),
            op(2, 20, update("c")),
            op(21, 22, saw("b")),
            op(23, 24, saw("c")),
        ],
        // Seen and then not any more, while the write is still on its way.
        vec![op(0, 1, create("a")), op(2, 30, update("b")), op(3, 4, saw("b")), op(5, 6, saw("a"))],
        // A repeated request took effect twice.
        vec![op(0, 1, create("a")), op(2, 3, update("b")), op(4, 5, update("c")), op(6, 7, saw("b"))],
        // Both were told that they made it.
        vec![op(0, 9, create("a")), op(1, 8, create("b"))],
        // Refused for no reason.
        vec![op(0, 1, Call::Taken)],
        vec![op(0, 1, create("a")), op(2, 3, Call::Missing)],
        vec![op(0, 1, create("a")), op(2, 3, Call::BeingRemoved)],
        // Back from the dead.
        vec![op(0, 1, create("a")), op(2, 3, Call::Remove), op(4, 5, saw("a"))],
        // What is unknown cannot be before it was asked for.
        vec![op(0, 1, create("a")), op(2, 3, saw("b")), lost(4, update("b"))],
    ];
    for (number, operations) in bad.iter().enumerate() {
        assert_eq!(verdict(operations), Verdict::Violated, "history {number}");
    }
}

#[test]
fn a_search_that_is_too_long_is_given_up_and_not_called_good() {
    let mut operations = vec![op(0, 1, create("a"))];
    operations.extend((0..30).map(|number| lost(2, update(&format!("b{number}")))));
    operations.push(op(3, 4, saw("never written")));
    assert_eq!(verdict(&operations), Verdict::Undecided);
}

#[test]
fn a_long_history_of_eight_clients_is_decided() {
    let mut operations = vec![op(0, 1, create("v0"))];
    for round in 1..60_u64 {
        let at = round * 10;
        let writes = (0..4).map(|client| op(at, at + 9, update(&format!("v{round}-{client}"))));
        operations.extend(writes);
        // What was read says which of the four was the last.
        operations.extend((0..4).map(|_| op(at + 9, at + 9, saw(&format!("v{round}-{}", round % 4)))));
    }
    assert_eq!(verdict(&operations), Verdict::Linearizable);
    operations.push(op(1_000, 1_001, saw("v0")));
    assert_ne!(verdict(&operations), Verdict::Linearizable);
}
