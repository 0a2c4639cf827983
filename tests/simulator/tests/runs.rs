//! A share of what the simulator runs for hours, and whether the simulator itself is to be believed.

use std::fs;
use std::path::Path;

use goat_simulator::coverage::Coverage;
use goat_simulator::script::{Bug, Script, Shape};
use goat_simulator::shrink::shrink;
use goat_simulator::world::{Ended, World};

fn run(seed: u64) -> Ended {
    // Shown when the test fails.
    println!("goat-simulator --seed {seed}");
    World::new(Script::drawn(seed)).run()
}

#[test]
fn whatever_is_done_nothing_happens_that_must_not_and_in_the_end_there_is_rest() {
    let mut coverage = Coverage::default();
    for seed in 1..=150 {
        let ended = run(seed);
        assert_eq!(ended.failure, None, "seed {seed}");
        coverage.merge(&ended.coverage);
    }
    assert_eq!(coverage.missing(), [""; 0], "nothing of this was exercised:\n{coverage}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..=20 {
        let [one, other] = [run(seed), run(seed)];
        assert_eq!((one.simulated_ms, one.hash), (other.simulated_ms, other.hash), "seed {seed}");
        assert_eq!(one.coverage, other.coverage, "seed {seed}");
    }
}

#[test]
fn a_script_is_the_same_after_a_passage_through_its_text() {
    for seed in 1..=50 {
        let script = Script::drawn(seed);
        assert_eq!(Script::from_text(&script.to_text()).expect("its own text"), script);
    }
}

/// Else a run without a failure would prove nothing.
#[test]
fn what_is_wrong_in_a_world_is_found_out() {
    // Those that are left out need more seeds than a test has time for; the campaign has them.
    let is_soon_found = |bug: &Bug| !matches!(bug, Bug::GapNotNoticed | Bug::NoQuorumCheck);
    for bug in Bug::ALL.into_iter().filter(is_soon_found) {
        let fails = |seed: &u64| {
            let shape = Shape { bug: Some(bug), ..Shape::drawn(*seed) };
            World::new(Script::of(shape)).run().failure.is_some()
        };
        let found = (1..=1_000).find(fails);
        println!("{bug:?}: found by seed {found:?}");
        assert!(found.is_some(), "{bug:?}");
    }
}

#[test]
fn a_failure_is_shrunk_to_a_short_script_that_fails_alike() {
    let failing = |seed: u64| Script::of(Shape { bug: Some(Bug::NoWatchdog), ..Shape::drawn(seed) });
    let script = (1..=400).map(failing).find(|script| World::new(script.clone()).run().failure.is_some());
    let script = script.expect("some seed finds it");
    let (short, failure) = shrink(&script, |_, _| {}).expect("it fails");
    assert!(short.events.len() * 2 <= script.events.len(), "{} of {}", short.events.len(), script.events.len());
    assert_eq!(World::new(short).run().failure, Some(failure));
}

/// Each was a failure once.
#[test]
fn what_was_found_once_stays_mended() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "script")) {
        let text = fs::read_to_string(file).expect("readable");
        let script = Script::from_text(&text).expect("a script");
        assert_eq!(World::new(script).run().failure, None, "{}", file.display());
    }
}
