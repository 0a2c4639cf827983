//! Verdicts of goatctl on real deploys: programs that die sooner or later, or never, created and updated side by side. The
//! exit code has to be right each time.
//!
//! `GOAT_DEPLOYS` says how many (default: 12); the figure in docs/track-record.md is of 200.

#[allow(dead_code, reason = "each of these files uses its part of it")]
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use world::World;

/// Deploys at the same time.
const AT_ONCE: usize = 6;
/// When the program dies (s); `None`: never. In an order that mixes them.
const LIVES: [Option<&str>; 6] = [Some("0"), None, Some("4.9"), Some("0.3"), Some("1"), Some("3")];
const SUCCEEDED: i32 = 0;
const TASKS_FAIL: i32 = 6;

fn deploys() -> usize {
    std::env::var("GOAT_DEPLOYS").map_or(12, |count| count.parse().expect("GOAT_DEPLOYS is a number"))
}

/// A program that says when it will die, and does.
fn program(life: Option<&str>) -> String {
    match life {
        Some(life) => format!("echo dies after {life}; sleep {life}; exit 7"),
        None => "exec sleep 100000".to_owned(),
    }
}

/// Deploys once; what was wrong with the verdict.
fn deploy(world: &World, number: usize) -> Result<(), String> {
    let (name, life) = (format!("d{number}"), LIVES[number % LIVES.len()]);
    let is_update = number / LIVES.len() % 2 == 1;
    let program = program(life);
    let (code, out, said) = if is_update {
        world.ok(&["run", "--name", &name, "--driver", "process", "/bin/sh", "-c", "exec sleep 100000"]);
        world.run(&["service", "update", &name, "--", "-c", &program])
    } else {
        world.run(&["run", "--name", &name, "--driver", "process", "/bin/sh", "-c", &program])
    };
    world.ok(&["service", "rm", "-d", &name]);
    let expected = if life.is_some() { TASKS_FAIL } else { SUCCEEDED };
    if code != expected {
        return Err(format!("{name} dies after {life:?}, update {is_update}: exit code {code}: {out}{said}"));
    }
    let is_named = |life: &str| said.contains("exit code 7") && said.contains(&format!("| dies after {life}"));
    match life {
        Some(life) if !is_named(life) => Err(format!("{name}: not named with its output: {said}")),
        _ => Ok(()),
    }
}

#[test]
fn no_deploy_gets_a_wrong_verdict() {
    let world = World::up("process", &["--managers", "3", "--workers", "2"]);
    let (next, wrong, took) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= deploys() {
                        return;
                    }
                    let started = Instant::now();
                    if let Err(problem) = deploy(&world, number) {
                        wrong.lock().expect("no test thread panics").push(problem);
                    }
                    let mut took = took.lock().expect("no test thread panics");
                    let longest = took.entry(LIVES[number % LIVES.len()]).or_insert(0.0_f64);
                    *longest = longest.max(started.elapsed().as_secs_f64());
                }
            });
        }
    });
    let (wrong, took) = (wrong.into_inner().expect("no test thread panics"), took.into_inner());
    eprintln!("{} deploys; longest by when they die: {took:?}", deploys());
    assert!(wrong.is_empty(), "{} of {} verdicts are wrong:\n{}", wrong.len(), deploys(), wrong.join("\n"));
}
