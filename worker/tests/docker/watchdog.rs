//! The watchdog, where the Docker daemon does not answer.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use goat_core::lease::LeasePolicy;
use goat_worker::fence::FenceList;
use goat_worker::task::Assignment;

use crate::daemon::{self, Options};
use crate::processes;
use crate::worker::{Job, Worker};

/// Enough that, one after the other, each waiting for an answer to the one before, they would be late by seconds.
const TASKS: usize = 8;

/// As when a package is purged, or somebody removes a worker by hand. The lease would last for an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_directory_is_removed_leaves_nothing_running() {
    let Some(daemon) = daemon::start(Options::default()) else { return };
    daemon.build("small:1", 1).await;
    let base = tempfile::tempdir().expect("a directory");
    let root = base.path().join("w1");
    let mut worker = Worker::start(&daemon, &root, 0).await;
    let (leased, kept) =
        (worker.run(Job::endless("small:1").leased()).await, worker.run(Job::endless("small:1")).await);
    let (client, mut pids) = (daemon.client(), Vec::new());
    for task in [&leased, &kept] {
        let id = worker.until(task, "running").await.container_id;
        pids.push(daemon::state(&client, &id).await.pid.expect("it runs") as i32);
    }
    let node = std::fs::read_to_string(root.join("node.json")).expect("it has one");
    let (_, rest) = node.split_once("\"node_id\":\"").expect("it has an id");
    let node = rest.split('"').next().expect("it has an end");
    let mut watchdog = Command::new(env!("CARGO_BIN_EXE_goat-worker"));
    watchdog.arg("watchdog").arg(&root).args(["--node", node, "--docker-host", &daemon.socket()]);
    let mut watchdog = watchdog.stdin(Stdio::null()).spawn().expect("it can be started");
    processes::wait_for("it watches", || {
        std::fs::read_to_string(root.join("watchdog.lock")).is_ok_and(|text| !text.is_empty())
    });
    worker.stop().await;
    // Another worker that takes its place is not touched, and not taken for it.
    std::fs::remove_dir_all(&root).expect("removed");
    std::fs::create_dir(&root).expect("made");
    processes::wait_for("nothing runs", || !pids.iter().any(|pid| processes::is_running(*pid)));
    processes::wait_for("the watchdog ends", || watchdog.try_wait().expect("it is a child").is_some());
}

/// All of them are killed in time, however many they are: none waits for what Docker says of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_daemon_that_hangs_all_that_is_leased_ends_in_time() {
    let Some(daemon) = daemon::start(Options::default()) else { return };
    daemon.build("small:1", 1).await;
    let root = tempfile::tempdir().expect("a directory");
    let mut worker = Worker::start(&daemon, root.path(), 0).await;
    let mut tasks = Vec::new();
    for _ in 0..TASKS {
        tasks.push(worker.run(Job::endless("small:1")).await);
    }
    let (client, mut containers) = (daemon.client(), Vec::new());
    for task in &tasks {
        let id = worker.until(task, "running").await.container_id;
        let pid = daemon::state(&client, &id).await.pid.expect("it runs") as i32;
        containers.push((id, pid));
    }

    // Containers run on without their agent. An agent's directory without a lease: it has ended.
    let (assigned, fenced) = (worker.stop().await, tempfile::tempdir().expect("a directory"));
    let list = FenceList::open(fenced.path()).expect("opened");
    for (mut wire, (container, _)) in assigned.into_iter().zip(&containers) {
        wire.spec.as_mut().expect("it has one").on_disconnect = "stop".into();
        list.add(&Assignment::read(wire, None).expect("it is right").meta, container).expect("listed");
    }
    daemon.freeze();
    let mut watchdog = Command::new(env!("CARGO_BIN_EXE_goat-worker"));
    watchdog.arg("watchdog").arg(fenced.path()).args(["--node", "000000000001", "--docker-host", &daemon.socket()]);
    let mut watchdog = watchdog.stdin(Stdio::null()).spawn().expect("it can be started");
    let running = || containers.iter().filter(|(_, pid)| processes::is_running(*pid)).count();
    processes::wait_for("one is killed", || running() < TASKS);
    let first = Instant::now();
    processes::wait_for("all are killed", || running() == 0);
    let took = first.elapsed();
    watchdog.kill().and_then(|()| watchdog.wait()).expect("it is a child");
    daemon.thaw();
    assert!(
        took < Duration::from_millis(LeasePolicy::default().kill_ms),
        "the last was killed {took:?} after the first"
    );
}
