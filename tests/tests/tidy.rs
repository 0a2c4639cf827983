//! The tree itself, measured: sizes, headers, which crate may use which, and words that stay out. What is over an aim is on
//! a list with its number; a number on a list may only fall, and the list has to follow it down.

use std::collections::{BTreeMap, BTreeSet};

use goat_tests::functions::functions;
use goat_tests::manifest::{dependencies, members};
use goat_tests::ratchet::differences;
use goat_tests::tree::{Source, paths, root, sources};

const MAX_FILE_LINES: usize = 600;
const AIM_FILE_LINES: usize = 300;
const MAX_FUNCTION_LINES: usize = 70;
const AIM_FUNCTION_LINES: usize = 40;
const MAX_PARAMETERS: usize = 6;

/// Files over [`AIM_FILE_LINES`].
const LONG_FILES: &[(&str, usize)] = &[
    ("core/src/lease/leader/tests.rs", 306),
    ("core/src/orchestrator/mod.rs", 329),
    ("core/src/state/command.rs", 312),
    ("core/src/state/mod.rs", 316),
    ("core/src/state/nodes.rs", 358),
    ("core/tests/core/restored.rs", 378),
    ("core/tests/core/security.rs", 338),
    ("core/tests/core/stories.rs", 303),
    ("core/tests/core/support.rs", 311),
    ("ctl/tests/ctl/control.rs", 344),
    ("ctl/tests/ctl/reads.rs", 320),
    ("manager/src/control/cluster.rs", 327),
    ("manager/src/dispatcher/mod.rs", 337),
    ("manager/src/dispatcher/session.rs", 302),
    ("manager/src/identity.rs", 352),
    ("manager/src/raft/mod.rs", 353),
    ("manager/src/raft/network.rs", 370),
    ("manager/tests/manager/security.rs", 326),
    ("raft-store/src/log/mod.rs", 325),
    ("raft-store/src/machine.rs", 343),
    ("testcluster/src/bin/echo.rs", 414),
    ("tests/tests/tidy.rs", 316),
    ("tls/src/accept.rs", 330),
    ("tls/tests/connections.rs", 310),
    ("worker/src/reconciler/service.rs", 391),
    ("worker/src/runtime/process/mod.rs", 372),
];

/// Functions over [`AIM_FUNCTION_LINES`].
const LONG_FUNCTIONS: &[(&str, usize)] = &[
    ("core/src/model/validate.rs: validate_image", 50),
    ("core/src/scheduler/filter.rs: explain", 45),
    ("core/src/state/apply.rs: act", 46),
    ("core/src/state/rows.rs: load_row", 42),
    ("core/tests/core/extremes.rs: action", 53),
    ("core/tests/core/refusals.rs: commands_are_refused_with_what_to_do", 53),
    ("core/tests/core/restored.rs: whatever_happened_after_it_was_saved_nothing_runs_twice_and_what_fits_runs_on", 46),
    ("ctl/src/client.rs: ask", 44),
    ("ctl/src/cmd/events.rs: events", 44),
    ("manager/src/backup/schedule.rs: run", 42),
    ("manager/src/control/cluster.rs: get_status_", 49),
    ("manager/src/control/logs.rs: task_logs_", 42),
    ("manager/src/dispatcher/leases.rs: run", 42),
    ("manager/src/events.rs: describe", 42),
    ("manager/src/metrics/mod.rs: show_raft", 44),
    ("manager/src/raft/election.rs: run", 42),
    ("manager/src/raft/mod.rs: start", 56),
    ("manager/src/raft/snapshot_transfer.rs: send_snapshot", 43),
    ("manager/tests/manager/restore.rs: all_managers_are_lost_and_the_cluster_goes_on_from_a_file", 48),
    ("manager/tests/manager/restore.rs: managers_save_the_state_by_themselves_and_keep_the_newest", 43),
    ("raft-store/tests/store/cluster.rs: a_group_replicates_brings_a_newcomer_up_and_comes_back_from_disk", 47),
    ("raft-store/tests/store/crash.rs: child", 41),
    ("testcluster/src/bin/echo.rs: read", 56),
    ("testcluster/src/detach.rs: up", 44),
    ("testcluster/src/drill/mod.rs: play", 43),
    ("testcluster/tests/commands.rs: a_cluster_comes_up_echoes_survives_what_is_done_to_it_and_leaves_nothing", 52),
    ("tests/clustersim/src/manager.rs: run", 42),
    ("tests/tests/goatctl.rs: a_service_lives_through_all_commands", 55),
    ("worker/src/agent.rs: run", 66),
    ("worker/src/runtime/process/mod.rs: launch", 42),
    ("worker/src/session/ask.rs: open", 41),
    ("worker/src/session/dial.rs: round", 70),
];

/// Sleeps in tests: each is inside something that waits for a condition with a deadline, beats as a worker does, or is how
/// long a fault lasts.
const SLEEPS: &[(&str, usize)] = &[
    ("manager/tests/manager/cluster.rs", 1),
    // That nothing is saved where nothing has changed takes time to see.
    ("manager/tests/manager/restore.rs", 1),
    ("manager/tests/manager/worker.rs", 1),
    ("raft-store/tests/store/common/cluster.rs", 1),
    ("raft-store/tests/store/common/mod.rs", 1),
    ("testcluster/tests/common/mod.rs", 1),
    // How late a daemon is, and as long again.
    ("testcluster/tests/docker_host.rs", 2),
    ("testcluster/tests/drills.rs", 1),
    // Simulated programs, in simulated time.
    ("tests/clustersim/src/client.rs", 2),
    ("tests/clustersim/src/kernel.rs", 1),
    ("tests/clustersim/src/disk.rs", 1),
    ("tests/clustersim/src/machine.rs", 2),
    ("tests/clustersim/src/manager.rs", 1),
    ("tests/clustersim/src/worker.rs", 1),
    ("tests/proving/tests/clocks.rs", 1),
    // Its other half waits for the machines; the planner has a step of that name.
    ("tests/simulator/src/campaign.rs", 1),
    ("tests/simulator/src/leading/planner.rs", 3),
    ("tests/proving/examples/drifting.rs", 1),
    ("tests/proving/src/chaos/control.rs", 3),
    ("tests/proving/src/chaos/ground.rs", 3),
    ("tests/proving/src/chaos/hands.rs", 2),
    ("tests/proving/src/chaos/heal.rs", 1),
    ("tests/proving/src/chaos/members.rs", 2),
    ("tests/proving/src/chaos/mind.rs", 1),
    ("tests/proving/src/chaos/rest.rs", 4),
    ("tests/proving/src/chaos/round.rs", 3),
    ("tests/proving/src/chaos/services.rs", 1),
    ("tests/proving/src/faults.rs", 8),
    ("tests/proving/src/faults/members.rs", 2),
    ("tests/proving/src/power.rs", 2),
    ("tests/proving/src/power/cut.rs", 1),
    ("tests/proving/src/power/damage.rs", 1),
    ("tests/proving/src/round.rs", 1),
    ("tests/proving/src/workload.rs", 3),
    ("tests/tests/world/mod.rs", 1),
    ("worker/tests/docker/processes.rs", 1),
    ("worker/tests/docker/worker.rs", 1),
    ("worker/tests/supervise.rs", 1),
];

/// Tasks outside of a task set. The server runs on beside the set, which is stopped before it; main hears signals; what
/// takes connections ends with the stream of them.
const SPAWNS: &[(&str, usize)] = &[("manager/src/main.rs", 1), ("manager/src/server.rs", 1), ("tls/src/accept.rs", 1)];

/// Which crates of ours each may depend on, its tests included.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("raft-store", &[]),
    ("proto", &["goat-core"]),
    ("tls", &[]),
    ("observe", &[]),
    ("system", &[]),
    ("manager", &["goat-core", "goat-observe", "goat-proto", "goat-raft-store", "goat-system", "goat-tls"]),
    ("worker", &["goat-core", "goat-observe", "goat-proto", "goat-system", "goat-tls"]),
    ("ctl", &["goat-core", "goat-observe", "goat-proto", "goat-system", "goat-tls"]),
    ("testcluster", &["goat-proto", "goat-tls"]),
];
/// It, and the crates in its folder, may use everything.
const ABOVE_ALL: &str = "tests";

/// What core must not know, so that its purity is a compile error and not a habit.
const NOT_IN_CORE: &[&str] = &["tokio", "tonic", "rocksdb", "bollard", "tracing", "rand", "openraft"];

const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".git",
    ".gitignore",
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "core",
    "ctl",
    "deploy",
    "docs",
    "justfile",
    "manager",
    "observe",
    "proto",
    "raft-store",
    "rustfmt.toml",
    "system",
    "target",
    "testcluster",
    "tests",
    "tls",
    "worker",
];

/// Where people and build machines keep their things: a path below is one machine's. In halves, for this file is searched
/// as well.
const MACHINES: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

fn assert_as_listed(what: &str, measured: &BTreeMap<String, usize>, known: &[(&str, usize)]) {
    let text = differences(measured, known);
    assert!(text.is_empty(), "{what} (tests/tests/tidy.rs):\n{text}");
}

/// How often any of `words` stands in a part of each file; files without are left out.
fn counted(words: &[&str], part: fn(&Source) -> &str) -> BTreeMap<String, usize> {
    let count = |source: &Source| words.iter().map(|word| part(source).matches(word).count()).sum();
    let found = sources(".rs").into_iter().map(|source| (source.path.clone(), count(&source)));
    found.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn files_are_short_enough_to_be_read() {
    let lengths: BTreeMap<String, usize> =
        sources(".rs").into_iter().map(|source| (source.path, source.text.lines().count())).collect();
    let too_long: Vec<_> = lengths.iter().filter(|(_, lines)| **lines > MAX_FILE_LINES).collect();
    assert!(too_long.is_empty(), "over {MAX_FILE_LINES} lines: {too_long:?}");
    let long = lengths.into_iter().filter(|(_, lines)| *lines > AIM_FILE_LINES).collect();
    assert_as_listed("files over 300 lines, LONG_FILES", &long, LONG_FILES);
}

#[test]
fn files_begin_with_what_they_own() {
    let bare: Vec<_> =
        sources(".rs").into_iter().filter(|file| !file.text.starts_with("//!")).map(|file| file.path).collect();
    assert!(bare.is_empty(), "no `//!` at the beginning: {bare:?}");
}

#[test]
fn functions_are_short_enough_to_be_read_and_have_few_parameters() {
    let (mut long, mut bad) = (BTreeMap::new(), Vec::new());
    for Source { path, text } in sources(".rs") {
        for function in functions(&text) {
            let name = format!("{path}: {}", function.name);
            if function.lines > MAX_FUNCTION_LINES {
                bad.push(format!("{name} has {} lines, {MAX_FUNCTION_LINES} at most", function.lines));
            }
            if function.parameters > MAX_PARAMETERS {
                bad.push(format!("{name} has {} parameters, {MAX_PARAMETERS} at most", function.parameters));
            }
            if function.lines > AIM_FUNCTION_LINES {
                // Of several of one name, the longest counts.
                let lines: &mut usize = long.entry(name).or_default();
                *lines = function.lines.max(*lines);
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
    assert_as_listed("functions over 40 lines, LONG_FUNCTIONS", &long, LONG_FUNCTIONS);
}

#[test]
fn crates_use_only_what_they_may() {
    let manifest = |dir: &str| std::fs::read_to_string(root().join(dir).join("Cargo.toml")).expect("it has a manifest");
    let known: BTreeSet<_> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut found = members(&manifest(""));
    found.retain(|member| member.split('/').next() != Some(ABOVE_ALL));
    assert_eq!(found, known, "each member of the workspace has its arrows in ARROWS");
    for (name, allowed) in ARROWS {
        let used = dependencies(&manifest(name));
        let is_ours = |name: &str| name.starts_with("goat-") || name == "goatctl";
        let bad: Vec<_> = used.iter().filter(|name| is_ours(name) && !allowed.contains(&name.as_str())).collect();
        assert!(bad.is_empty(), "{name} may use {allowed:?}, and not {bad:?}");
    }
    let core = dependencies(&manifest("core"));
    let impure: Vec<_> = NOT_IN_CORE.iter().filter(|name| core.contains(**name)).collect();
    assert!(impure.is_empty(), "core must stay pure, and uses {impure:?}");
}

#[test]
fn the_top_level_holds_only_what_was_decided() {
    let names = paths().into_iter().map(|path| path.split('/').next().unwrap_or_default().to_owned());
    let mut strange: Vec<_> = names.filter(|name| !TOP_LEVEL.contains(&name.as_str())).collect();
    strange.dedup();
    assert!(strange.is_empty(), "not decided on (docs/decisions): {strange:?}");
}

#[test]
fn production_code_spawns_through_a_task_set_and_says_why_it_may_unwrap() {
    let spawn = [concat!("tokio::", "spawn("), concat!("tokio::task::", "spawn("), concat!("use tokio::", "spawn")];
    let mut spawns = counted(&spawn, Source::code);
    spawns.retain(|path, _| !path.ends_with("/taskset.rs"));
    assert_as_listed("bare spawns, use TaskSet (or SPAWNS)", &spawns, SPAWNS);
    let unwraps = counted(&[concat!(".unwr", "ap()")], Source::code);
    assert!(unwraps.is_empty(), "unwrap without a reason; use expect, or an error: {unwraps:#?}");
}

#[test]
fn tests_are_all_run_and_wait_for_conditions() {
    let ignored = sources(".rs").into_iter().filter(|file| file.text.contains(concat!("#[", "ignore")));
    let ignored: Vec<_> = ignored.map(|file| file.path).collect();
    assert!(ignored.is_empty(), "tests that are left out: {ignored:?}");
    let sleeps = counted(&[concat!("sleep", "("), concat!("sleep_", "until(")], Source::tests);
    assert_as_listed("sleeps in tests, wait for a condition with a deadline (or SLEEPS)", &sleeps, SLEEPS);
    // That something took at least so long holds on a busy machine too; that it took at most so long does not.
    let hurried = counted(&[concat!(".elapsed() ", "<")], Source::tests);
    assert!(hurried.is_empty(), "a test that fails on a slow machine: {hurried:#?}");
}

#[test]
fn nothing_depends_on_one_machines_paths() {
    let mut found = Vec::new();
    for Source { path, text } in sources("") {
        for (number, line) in text.lines().enumerate() {
            for machine in MACHINES {
                // A part of a longer path, or of an address, is nobody's home.
                let begins = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "./-_}>*~".contains(c));
                if line.match_indices(machine).any(|(at, _)| begins(at)) {
                    found.push(format!("{path}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    for Source { path, text } in sources(".md") {
        let dir = root().join(&path).parent().expect("it is in a directory").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            let is_here = !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
            if is_here && !dir.join(target).exists() {
                broken.push(format!("{path}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
