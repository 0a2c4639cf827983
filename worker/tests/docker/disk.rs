//! A disk that fills up: under a pull, under a start, and by itself.

use std::io::Write;
use std::path::PathBuf;

use crate::daemon::{self, Daemon, Options};
use crate::registry::{Access, Registry};
use crate::worker::{Job, Worker};

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
