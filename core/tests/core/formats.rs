//! Replicated bytes of several versions: what is written, and who can still read it.

use goat_core::codec::{self, BOUNDED_FORMAT, FIRST_FORMAT, FORMAT, Versioned as _};
use goat_core::model::ClusterId;
use goat_core::orchestrator::Policy;
use goat_core::state::command::{Action, Command, Outcome, Refusal};
use goat_core::state::{Freeze, State};

use crate::support::Leader;

fn command(action: Action) -> Command {
    Command { now_ms: 1, request: None, action }
}

fn rows_of(leader: &Leader) -> Vec<(Vec<u8>, Vec<u8>)> {
    leader.state.rows().into_iter().filter_map(|row| Some((row.key, row.value?))).collect()
}

#[test]
fn what_an_older_version_can_read_is_written_as_it_would_write_it() {
    let bytes = codec::encode(&command(Action::InitCluster { id: ClusterId::from_random(1) }));
    assert_eq!(bytes.first(), Some(&FIRST_FORMAT));
    let leader = Leader::of_the_first_format(Policy::default());
    assert_eq!(leader.state.format(), FIRST_FORMAT);
    assert!(rows_of(&leader).iter().all(|(_, value)| value.first() == Some(&FIRST_FORMAT)));
}

#[test]
fn a_format_is_raised_and_never_lowered() {
    let mut leader = Leader::of_the_first_format(Policy::default());
    for format in [0, FIRST_FORMAT] {
        let refused = leader.refused(Action::SetFormat { format });
        assert!(matches!(refused, Refusal::Impossible { .. }), "{refused:?}");
    }
    leader.done(Action::SetFormat { format: FIRST_FORMAT + 1 });
    assert_eq!(leader.state.format(), FIRST_FORMAT + 1);
    leader.refused(Action::SetFormat { format: FIRST_FORMAT });
}

/// A manager that is too old must not go on from what it cannot read.
#[test]
fn rows_of_a_newer_format_are_refused_with_what_to_do() {
    let mut leader = Leader::new();
    leader.done(Action::SetFormat { format: FORMAT + 1 });
    let error = State::from_rows(rows_of(&leader)).expect_err("it is too new").to_string();
    assert!(error.contains("upgrade this manager"), "{error}");
}

#[test]
fn an_outcome_of_a_newer_format_is_refused() {
    let mut bytes = codec::encode(&Outcome::Refused(Refusal::Impossible { what: String::new() }));
    bytes[0] = FORMAT + 1;
    assert!(matches!(codec::decode::<Outcome>("outcome", &bytes), Err(codec::Error::Newer { .. })));
}

#[test]
fn a_command_that_older_versions_do_not_know_needs_the_format_that_has_it() {
    assert_eq!(codec::encode(&command(Action::StopFreeze)).first(), Some(&BOUNDED_FORMAT));
    assert_eq!(command(Action::StopFreeze).format(), BOUNDED_FORMAT);
    assert_eq!(command(Action::Freeze { for_ms: 1 }).format(), FIRST_FORMAT);
}

#[test]
fn a_freeze_that_is_stopped_is_remembered_until_its_length_has_passed() {
    let mut leader = Leader::new();
    leader.refused(Action::StopFreeze);
    leader.done(Action::Freeze { for_ms: 60_000 });
    let announced = leader.state.freeze().expect("it is on");
    leader.done(Action::StopFreeze);
    let stopped = leader.reload().freeze().expect("longer leases may be out");
    assert_eq!(stopped, Freeze { stopped: true, ..announced });
    // Announced again: for as long as before at least, since that may have been granted.
    leader.done(Action::Freeze { for_ms: 1_000 });
    let again = leader.state.freeze().expect("it is on");
    assert_eq!((again.for_ms, again.stopped), (60_000, false));
    leader.done(Action::EndFreeze { seen_version: again.version });
    assert_eq!(leader.state.freeze(), None);
}
