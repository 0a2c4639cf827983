//! A few seeds in CI; each in a process of its own. What a longer run found is kept here by its seed.

use std::process::Command;

fn clustersim(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_clustersim")).args(arguments).output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn nothing_that_must_never_be_is_found_in_the_first_seeds() {
    let (is_fine, output) = clustersim(&["--seeds=1..5", "--minutes=4"]);
    assert!(is_fine, "{output}");
}

#[test]
fn a_seed_gives_the_same_trace_twice() {
    let (is_fine, output) = clustersim(&["--seeds=100..103", "--minutes=2", "--twice"]);
    assert!(is_fine, "{output}");
    assert!(output.contains("3 of 3 seeds gave one trace twice"), "{output}");
}

/// Else the simulation would see nothing.
#[test]
fn disks_that_forget_what_they_have_synced_are_found_out() {
    let (is_fine, output) = clustersim(&["--seed=1", "--minutes=20", "--control"]);
    let is_found = ["is not let back in", "a request has no answer", "is not in the state"];
    assert!(!is_fine && is_found.iter().any(|what| output.contains(what)), "{output}");
}

#[test]
fn another_seed_gives_another_trace() {
    let digest = |seed: &str| {
        let (is_fine, output) = clustersim(&[seed, "--minutes=1"]);
        assert!(is_fine, "{output}");
        output.split("digest=").nth(1).and_then(|rest| rest.split(' ').next()).expect("a digest").to_owned()
    };
    assert_ne!(digest("--seed=7"), digest("--seed=8"));
}
