//! The lease protocol, checked exhaustively: two managers, two workers, and one service with a single instance.
//!
//! Messages are late, lost or pass one way only, workers' agents freeze and thaw under a live watchdog, managers freeze and
//! are replaced at any time, and clocks are as wrong as they may be. Whatever comes of it, there must never be two live
//! instances, and after a loss the slot must not stay stuck. `world` says what a state is and why that is enough,
//! `model` what can happen in it,
//! `protocol` has the rules, `arithmetic` takes all lengths of time from `goat_core::lease`.
//!
//! Each part of the protocol is also left out once, and the checker must find two live instances then: else it would prove
//! nothing.

mod arithmetic;
mod model;
mod protocol;
mod world;

use std::collections::BTreeSet;

use goat_core::isolation::EVIDENCE_MS;
use goat_core::lease::LeasePolicy;
use stateright::{Checker, HasDiscoveries, Model};

use model::{NEVER_STUCK, NEVER_TWICE};
use protocol::{Broken, Protocol, Scene};
use world::Action;

/// Every state that can be reached is looked at. Fewer than so many say that the model does not move.
fn assert_holds(scene: Scene, at_least: usize) {
    let checker = Protocol::new(scene, Broken::Nothing).checker().threads(1).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{scene:?}: {states} states, {depth} steps deep");
    checker.assert_properties();
    assert!(checker.is_done() && states >= at_least, "{states} states");
}

/// How two instances come to live side by side, in the fewest steps.
fn counterexample(scene: Scene, broken: Broken) -> Vec<Action> {
    against(NEVER_TWICE, scene, broken)
}

fn against(property: &'static str, scene: Scene, broken: Broken) -> Vec<Action> {
    let wanted = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = Protocol::new(scene, broken).checker().threads(1).finish_when(wanted).spawn_bfs().join();
    let found = checker.discovery(property).unwrap_or_else(|| panic!("{scene:?}, {broken:?}: nothing is found"));
    let steps = found.into_actions();
    println!("{scene:?}, {broken:?}, {} states: {steps:?}", checker.unique_state_count());
    steps
}

#[test]
fn whatever_happens_a_stop_service_never_runs_twice_and_its_slot_is_never_stuck() {
    assert_holds(Scene::Stop, 100_000);
}

#[test]
fn a_renewal_without_a_quorum_is_found_out() {
    let steps = counterexample(Scene::Stop, Broken::RenewsWithoutAQuorum);
    assert!(steps.iter().any(|step| matches!(step, Action::GrantStale(_))));
}

#[test]
fn a_new_leader_that_does_not_wait_is_found_out() {
    let steps = counterexample(Scene::Stop, Broken::NewLeaderDoesNotWait);
    assert!(steps.iter().any(|step| matches!(step, Action::Elect(_))));
}

#[test]
fn a_worker_that_counts_from_the_receipt_of_the_grant_is_found_out() {
    counterexample(Scene::Stop, Broken::CountsFromReceipt);
}

#[test]
fn a_frozen_agent_without_a_watchdog_is_found_out() {
    let steps = counterexample(Scene::Stop, Broken::NoWatchdog);
    assert!(steps.iter().any(|step| matches!(step, Action::Freeze(_))));
}

#[test]
fn a_leader_that_leaves_out_a_part_of_its_wait_is_found_out() {
    counterexample(Scene::Stop, Broken::ForgetsTheKill);
    counterexample(Scene::Stop, Broken::ForgetsTheClocks);
}

#[test]
fn a_leader_that_gives_nobody_up_is_found_out() {
    against(NEVER_STUCK, Scene::Stop, Broken::NeverGivesUp);
}

/// Of the four ticks that a leader waits, one is for the other worker's word and one for killing.
const IN_TIME: u8 = 2;

/// The other may find a new leader as late as just before it would be given up itself: it would be a second one cut off.
#[test]
fn one_worker_that_is_cut_off_never_runs_a_stop_if_isolated_task_beside_another() {
    for finds_within in 1..=IN_TIME + 1 {
        assert_holds(Scene::OneIsCut { finds_within }, 20_000);
    }
}

/// Who is cut off learns of a new leader only from a worker that has found it.
#[test]
fn a_leader_that_counts_from_its_election_and_not_from_when_another_found_it_is_found_out() {
    counterexample(Scene::OneIsCut { finds_within: IN_TIME + 1 }, Broken::CountsFromElection);
}

/// The limit of that promise, in the lengths of time that are used: `docs/fencing.md` names it.
#[test]
fn by_default_a_grant_has_a_second_to_reach_the_worker_that_is_asked() {
    let policy = LeasePolicy::default();
    let (million, error) = (1_000_000, policy.rate_error_ppm);
    let leader_waits_ms = policy.manager_wait_ms() * million / (million + error);
    let word_counts_ms = (EVIDENCE_MS * million).div_ceil(million - error);
    assert_eq!(leader_waits_ms - word_counts_ms - policy.kill_ms, 1_001);
}

#[test]
fn a_word_of_another_worker_that_counts_for_ever_is_found_out() {
    counterexample(Scene::OneIsCut { finds_within: 1 }, Broken::BelievesForEver);
}

#[test]
fn the_parts_that_stop_needs_are_needed_by_stop_if_isolated_as_well() {
    // A new leader's wait is not among them: that for another worker's first grant is never shorter.
    use Broken::{CountsFromReceipt, ForgetsTheClocks, ForgetsTheKill, NoWatchdog};
    for broken in [CountsFromReceipt, NoWatchdog, ForgetsTheKill, ForgetsTheClocks] {
        counterexample(Scene::OneIsCut { finds_within: IN_TIME }, broken);
    }
}
