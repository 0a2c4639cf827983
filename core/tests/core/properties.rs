//! Whatever commands come, sensible or not: apply never panics, the rows are the state, and the checker finds nothing.

mod strokes;

use goat_core::codec;
use goat_core::model::{ClusterId, RequestId};
use goat_core::orchestrator::{Planner, Policy};
use goat_core::state::command::{Action, Command};
use goat_core::state::{At, State};
use proptest::prelude::*;

use crate::support::Leader;
use strokes::{strike, stroke};

/// The rows written one by one, the live state's rows, and those of a state loaded from them are the same; and so is
/// what a planner makes of them.
fn assert_rows_are_the_state(leader: &Leader) {
    let live: Vec<_> = leader.state.rows().into_iter().filter_map(|row| Some((row.key, row.value?))).collect();
    let written: Vec<_> = leader.rows.clone().into_iter().collect();
    assert_eq!(written, live);
    let loaded = leader.reload();
    assert_eq!(goat_core::check::check_state(&loaded), []);
    assert_eq!((loaded.rows(), loaded.hash()), (leader.state.rows(), leader.state.hash()));
    let plan = |state: &State| Planner::new(state, leader.policy).plan(state, leader.now_ms, 3);
    assert_eq!(plan(&loaded), plan(&leader.state));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_command_breaks_the_state_and_its_rows_tell_all(
        strokes in prop::collection::vec((stroke(), 0_u64..60), 1..120),
        is_first in prop::bool::weighted(0.2),
    ) {
        let mut leader = if is_first { Leader::of_the_first_format(Policy::default()) } else { Leader::new() };
        leader.nodes(2);
        let mut log = Vec::new();
        for (number, (stroke, request)) in strokes.iter().enumerate() {
            // Few request ids, so that some come again.
            let request = (*request < 12).then(|| RequestId::from_random(*request));
            strike(&mut leader, stroke, request, &mut log);
            if number % 40 == 0 {
                assert_rows_are_the_state(&leader);
            }
        }
        assert_rows_are_the_state(&leader);
        assert!(strokes.len() < 10 || !log.is_empty());
    }

    #[test]
    fn the_same_commands_make_the_same_state_also_after_a_passage_through_bytes_and_a_restart_in_between(
        strokes in prop::collection::vec(stroke(), 1..60),
        restart_at in 0_usize..60,
    ) {
        let mut leader = Leader::new();
        let mut log = Vec::new();
        for stroke in &strokes {
            strike(&mut leader, stroke, None, &mut log);
        }
        let init = Command { now_ms: 1_000_000, request: None, action: Action::InitCluster { id: ClusterId::from_random(1) } };
        let mut follower = State::new();
        let raise = Command { action: Action::SetFormat { format: codec::FORMAT }, ..init.clone() };
        for (number, command) in [&init, &raise].into_iter().chain(&log).enumerate() {
            if number == restart_at {
                let rows = follower.rows().into_iter().filter_map(|row| Some((row.key, row.value?)));
                follower = State::from_rows(rows).expect("its own rows");
            }
            let copied: Command = codec::decode("command", &codec::encode(command)).expect("what was encoded");
            prop_assert_eq!(&copied, command);
            follower.apply(At { index: number as u64 + 1, term: 1 }, &copied, &mut Vec::new());
        }
        prop_assert_eq!(follower.hash(), leader.state.hash());
        prop_assert_eq!(follower.rows(), leader.state.rows());
    }

    #[test]
    fn bytes_that_are_no_rows_are_refused_and_not_believed(
        key in prop::collection::vec(any::<u8>(), 0..20),
        table in 0_u8..8,
        value in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let _ = State::from_rows([(key.clone(), value.clone())]);
        let mut key = key;
        key.insert(0, table);
        let _ = State::from_rows([(key, value.clone())]);
        let _ = codec::decode::<Command>("command", &value);
    }
}
