//! Pulling: what comes, what does not and why; images that are removed again; the memory limit.

use std::time::Duration;

use crate::daemon::{self, Daemon, Options};
use crate::registry::{Access, Registry};
use crate::worker::{Job, Worker, eventually};

const BALLAST: usize = 4 << 20;

/// The digest under which an image was pulled.
async fn digest(daemon: &Daemon, reference: &str) -> String {
    let image = daemon.client().inspect_image(reference).await.expect("it is there");
    image.repo_digests.expect("it was pulled").pop().expect("it has one")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_to_pull_are_told_apart() {
    let Some(daemon) = daemon::start(Options::default()) else { return };
    let (open, closed) = (Registry::start(&daemon, Access::Everybody), Registry::start(&daemon, Access::Nobody));
    daemon.build("built:1", BALLAST).await;
    daemon.give_to(&open, "built:1", "app", "1").await;
    let root = tempfile::tempdir().expect("a directory");
    let mut worker = Worker::start(&daemon, root.path(), 0).await;

    let image = open.image("app:1");
    let by_tag = worker.run(Job::endless(&image)).await;
    worker.until(&by_tag, "running").await;
    assert_eq!(worker.fails(Job::endless(&open.image("app:none"))).await, "image-not-found");
    assert_eq!(worker.fails(Job::endless(&open.image("denied/nothing:1"))).await, "image-not-found");
    assert_eq!(worker.fails(Job::endless(&closed.image("app:1"))).await, "pull-denied");
    let nowhere = format!("{}@sha256:{}", open.image("app"), "0".repeat(64));
    assert_eq!(worker.fails(Job::endless(&nowhere)).await, "image-not-found");

    // By digest alone: nothing of it is here, its tag included.
    let by_digest = digest(&daemon, &image).await;
    worker.drop_task(&by_tag).await;
    worker.until_gone(&by_tag).await;
    daemon.forget(&image).await;
    let tagged = by_digest.replace("app@", "app:1@");
    for reference in [&by_digest, &tagged] {
        let id = worker.run(Job::endless(reference)).await;
        worker.until(&id, "running").await;
    }
    let told = worker.inventory.wait_for(|told| told.images.iter().any(|image| image.reference == by_digest)).await;
    assert!(told.is_ok_and(|told| told.images.iter().all(|image| image.size_bytes > BALLAST as u64)));

    let gone = open.image("app:2");
    drop(open);
    assert_eq!(worker.fails(Job::endless(&gone)).await, "registry-unreachable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_was_pulled_for_tasks_is_pruned_and_only_when_nothing_uses_it() {
    let Some(daemon) = daemon::start(Options::default()) else { return };
    let registry = Registry::start(&daemon, Access::Everybody);
    let (image, local) = (registry.image("app:1"), "somebodys:1");
    daemon.build("built:1", BALLAST).await;
    daemon.give_to(&registry, "built:1", "app", "1").await;
    daemon.build(local, 1).await;
    let root = tempfile::tempdir().expect("a directory");
    let mut worker = Worker::start(&daemon, root.path(), 0).await;
    let (pulled, present) = (worker.run(Job::endless(&image)).await, worker.run(Job::endless(local)).await);
    worker.until(&pulled, "running").await;
    worker.until(&present, "running").await;
    let prune = async |worker: &Worker, unused_for: Duration| {
        use goat_worker::runtime::Runtime as _;
        worker.runtime.prune_images(unused_for).await.expect("the daemon answers")
    };
    assert!(prune(&worker, Duration::ZERO).await.is_empty(), "both are used");

    // What was pulled is known to the next agent; what is used is so without an agent's doing.
    let assigned = worker.stop().await;
    let mut worker = Worker::start(&daemon, root.path(), 0).await;
    worker.assign_again(assigned).await;
    worker.until(&pulled, "running").await;
    assert!(prune(&worker, Duration::ZERO).await.is_empty());
    for id in [&pulled, &present] {
        worker.drop_task(id).await;
        worker.until_gone(id).await;
    }
    assert!(prune(&worker, Duration::from_secs(3_600)).await.is_empty(), "it was used just now");
    let removed = eventually("the image is removed", async || {
        let removed = prune(&worker, Duration::ZERO).await;
        (!removed.is_empty()).then_some(removed)
    });
    assert_eq!(removed.await, std::slice::from_ref(&image));
    assert!(!daemon.has_image(&image).await && daemon.has_image(local).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_over_its_memory_limit_says_so() {
    let Some(daemon) = daemon::start(Options::default()) else { return };
    daemon.build("built:1", 1).await;
    let root = tempfile::tempdir().expect("a directory");
    let mut worker = Worker::start(&daemon, root.path(), 0).await;
    let greedy = Job::new("built:1", &["dd", "if=/dev/zero", "of=/dev/null", "bs=256M"]);
    assert_eq!(worker.fails(Job { memory_bytes: 32 << 20, ..greedy.clone() }).await, "oom-killed");
    // A kill is not the kernel's doing wherever there is a limit.
    let killed =
        Job { memory_bytes: 32 << 20, ..Job::new("built:1", &["sh", "-c", "sh -c 'kill -9 $PPID'; exit 137"]) };
    assert_eq!(worker.fails(killed).await, "exit");
}
