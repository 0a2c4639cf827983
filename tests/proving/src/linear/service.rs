//! One service by its name, as a user sees it: there, with a value and a count, or not. A removed one lingers until what
//! runs it has ended, and goes by itself.

use super::Model;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    Absent,
    Live {
        value: String,
        replicas: u32,
    },
    /// Removed, and still holding its name.
    Going {
        value: String,
        replicas: u32,
    },
}

/// What was asked, with what was answered. Without an answer it is as if it had worked, or never was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Create {
        value: String,
        replicas: u32,
    },
    Update {
        value: String,
        replicas: u32,
    },
    Scale {
        replicas: u32,
    },
    Remove,
    /// What was read.
    Saw(State),
    /// Creation was refused: the name is taken.
    Taken,
    /// A change was refused: there is none.
    Missing,
    /// A change was refused: it is being removed.
    BeingRemoved,
    /// An answer is not known. The call may have been refused as well.
    Maybe(Box<Call>),
}

/// A service that is not there at first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Service;

impl Model for Service {
    type State = State;
    type Call = Call;

    fn initial(&self) -> State {
        State::Absent
    }

    fn step(&self, state: &State, call: &Call) -> Vec<State> {
        let mut from = vec![state.clone()];
        if matches!(state, State::Going { .. }) {
            from.push(State::Absent);
        }
        from.into_iter().filter_map(|state| next(state, call)).collect()
    }
}

fn next(state: State, call: &Call) -> Option<State> {
    match (call, state) {
        (Call::Create { value, replicas }, State::Absent) | (Call::Update { value, replicas }, State::Live { .. }) => {
            Some(State::Live { value: value.clone(), replicas: *replicas })
        }
        (Call::Scale { replicas }, State::Live { value, .. }) => Some(State::Live { value, replicas: *replicas }),
        // Removing what is being removed is answered as if it were removed now.
        (Call::Remove, State::Live { value, replicas } | State::Going { value, replicas }) => {
            Some(State::Going { value, replicas })
        }
        (Call::Saw(seen), state) => (*seen == state).then_some(state),
        (Call::Taken, state @ (State::Live { .. } | State::Going { .. })) => Some(state),
        (Call::Missing, State::Absent) => Some(State::Absent),
        (Call::BeingRemoved, state @ State::Going { .. }) => Some(state),
        (Call::Maybe(call), state) => Some(next(state.clone(), call).unwrap_or(state)),
        _ => None,
    }
}
