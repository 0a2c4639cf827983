//! Whether a change has succeeded: tasks have to run for a while, and those that do not are named with what they printed.

use std::time::{Duration, Instant};

use crate::fake::{Fate, World};
use crate::run::goatctl;
use crate::server::Manager;

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_is_named_with_its_last_output_and_not_told_over_and_over() {
    let world = World::new();
    world.change(|state| state.fate = Fate::Crash(3));
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "run --name web --replicas 2 echo:1").await;
    assert_eq!((ended.code, ended.stdout.as_str()), (6, ""), "{ended:?}");
    for text in [
        "error: web does not stay up: ",
        "failed",
        "(exit code 3)",
        "last output of web.",
        "    | to out",
        "    | to err",
        "hint: the service stays",
    ] {
        assert!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
    }
    let asked = world.state.lock().log_requests.clone();
    assert!(matches!(&asked[..], [only] if only.tail == Some(10) && !only.follow), "{asked:?}");
    // Dozens of looks saw dozens of tasks, each with an id of its own in its error.
    assert!(ended.stderr.lines().filter(|line| line.contains("running")).count() <= 5, "{}", ended.stderr);
    assert_eq!(world.state.lock().services.len(), 1, "it stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_whose_tasks_crash_is_named_as_failed() {
    let world = World::new().with_service("web", 1);
    world.change(|state| state.fate = Fate::Crash(1));
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "service update web --image echo:2 -q").await;
    assert_eq!(ended.code, 6, "{ended:?}");
    for text in ["error: the update of web fails: ", "nothing is rolled back"] {
        assert!(ended.stderr.contains(text), "{text}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_tasks_are_watched_for_the_monitor_time_and_old_ones_are_not() {
    let world = World::new();
    let manager = Manager::start(&world);
    let started = Instant::now();
    let ended = goatctl(&manager.address, "run --name web --monitor 1s echo:1").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(started.elapsed() >= Duration::from_secs(2), "a second, and one for what is on its way");
    assert!(ended.stderr.contains("web: 1 of 1 running; watching whether they stay up"), "{ended:?}");

    // Nothing is started, so that nothing is watched: else the deadline of the test would be over.
    let ended = goatctl(&manager.address, "service scale web 1 --monitor 10m").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("watching"), "{ended:?}");
}
