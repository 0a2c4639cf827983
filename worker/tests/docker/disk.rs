//! A disk that fills up: under a pull, under a start, and by itself.

use std::io::Write;
use std::path::PathBuf;

use goat_worker::clock;

use crate::daemon::{self, Daemon, Options};
use crate::processes;
use crate::registry::{Access, Registry};
use crate::worker::{Job, Worker, eventually};

const MIB: u64 = 1 << 20;

fn filler(daemon: &Daemon) -> PathBuf {
    daemon.root().join("filler")
}

/// Leaves so much free, and no more.
fn fill(daemon: &Daemon, leave: u64) {
    let _ = std::fs::remove_file(filler(daemon));
    let mut file = std::fs::File::create(filler(daemon)).expect("made");
    let free = || goat_worker::disk::Room::measure(&daemon.root()).expect("it is mounted").free_bytes;
    let chunk = vec![0; 64 << 10];
    while free() > leave {
        let size = chunk.len().min(free() as usize);
        // The last blocks may be the file system's own.
        if file.write_all(&chunk[..size]).and_then(|()| file.sync_data()).is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_is_told_as_such_until_there_is_room() {
    let Some(daemon) = daemon::start(Options { disk_mib: Some(192), ..Options::default() }) else { return };
    let registry = Registry::start(&daemon, Access::Everybody);
    daemon.build("small:1", 1).await;
    daemon.build("big:1", 48 << 20).await;
    daemon.give_to(&registry, "big:1", "big", "1").await;
    let root = tempfile::tempdir().expect("a directory");
    let mut worker = Worker::start(&daemon, root.path(), 20 * MIB).await;
    assert!(worker.inventory.borrow().conditions.is_empty());

    // A pull that does not fit, with more free than the threshold before and after.
    fill(&daemon, 40 * MIB);
    let big = Job::endless(&registry.image("big:1"));
    assert_eq!(worker.fails(big.clone()).await, "disk-full");
    worker.until_condition("disk-pressure", true).await;
    std::fs::remove_file(filler(&daemon)).expect("removed");
    worker.until_condition("disk-pressure", false).await;
    let id = worker.run(big).await;
    worker.until(&id, "running").await;

    // A start without any room.
    fill(&daemon, 0);
    assert_eq!(worker.fails(Job::endless("small:1")).await, "disk-full");
    worker.until_condition("disk-pressure", true).await;
    assert_eq!(worker.report(&id).await.expect("it is known").state, "running", "what runs is left alone");
    std::fs::remove_file(filler(&daemon)).expect("removed");
    worker.until_condition("disk-pressure", false).await;

    // Room that goes without any task's doing.
    fill(&daemon, 10 * MIB);
    worker.until_condition("disk-pressure", true).await;
}

/// While the agent is away and the daemon's disk is full, a task ends: the daemon cannot write that down, and lists it as
/// running from then on (Docker 20.10.24).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_ended_on_a_full_disk_is_not_taken_for_running() {
    let Some(daemon) = daemon::start(Options { disk_mib: Some(192), ..Options::default() }) else { return };
    daemon.build("small:1", 1).await;
    let root = tempfile::tempdir().expect("a directory");
    let mut worker = Worker::start(&daemon, root.path(), 0).await;
    let (ends, stays) = (worker.run(Job::endless("small:1")).await, worker.run(Job::endless("small:1")).await);
    let container = worker.until(&ends, "running").await.container_id;
    worker.until(&stays, "running").await;
    let assigned = worker.stop().await;

    fill(&daemon, 0);
    let client = daemon.client();
    let pid = daemon::state(&client, &container).await.pid.expect("it runs") as i32;
    processes::send(pid, nix::sys::signal::Signal::SIGKILL);
    // So long ago that no agent asks for that event any more.
    eventually("the daemon has known of the end for a while", async || {
        let ended_ms = clock::parse_time_ms(&daemon::state(&client, &container).await.finished_at?)?;
        (ended_ms + 4_000 < clock::now_ms()).then_some(())
    })
    .await;
    std::fs::remove_file(filler(&daemon)).expect("removed");

    let mut worker = Worker::start(&daemon, root.path(), 0).await;
    worker.assign_again(assigned).await;
    let report = worker.until(&ends, "failed").await;
    assert_eq!(report.exit_code, Some(137), "{report:?}");
    assert_eq!(worker.report(&stays).await.expect("it is known").state, "running");
}
