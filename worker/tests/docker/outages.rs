//! A daemon that is killed, ended, frozen and started again, with and without live-restore.

use bollard::Docker;
use bollard::query_parameters as query;
use goat_proto::v1;

use crate::daemon::{self, Daemon, Options};
use crate::processes;
use crate::worker::{Job, Worker, eventually};

const IMAGE: &str = "built:1";

/// A daemon with the image, and a worker on it.
async fn ready(options: Options) -> Option<(Daemon, Worker, tempfile::TempDir)> {
    let daemon = daemon::start(options)?;
    daemon.build(IMAGE, 1).await;
    let root = tempfile::tempdir().expect("a directory");
    let worker = Worker::start(&daemon, root.path(), 0).await;
    Some((daemon, worker, root))
}

async fn running(worker: &mut Worker) -> (String, v1::TaskReport) {
    let id = worker.run(Job::endless(IMAGE)).await;
    let report = worker.until(&id, "running").await;
    (id, report)
}

/// The process of a container, and when it was started.
async fn process(client: &Docker, report: &v1::TaskReport) -> (i32, String) {
    let state = daemon::state(client, &report.container_id).await;
    (state.pid.expect("it runs") as i32, state.started_at.expect("it was started"))
}

/// All containers there are, running or not.
async fn containers(client: &Docker) -> usize {
    let options = query::ListContainersOptionsBuilder::default().all(true).build();
    client.list_containers(Some(options)).await.expect("listed").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_live_restore_a_killed_daemon_costs_no_task() {
    let options = Options { has_live_restore: true, ..Options::default() };
    let Some((mut daemon, mut worker, root)) = ready(options).await else { return };
    let (id, report) = running(&mut worker).await;
    let before = process(&daemon.client(), &report).await;
    for _ in 0..2 {
        daemon.kill();
        worker.until_condition("runtime-down", true).await;
        daemon.launch();
        worker.until_condition("runtime-down", false).await;
        assert_eq!(worker.report(&id).await, Some(report.clone()));
        assert_eq!(process(&daemon.client(), &report).await, before, "it is the same run");
    }
    // An agent that comes while the daemon is away believes its journal, and finds the task afterwards.
    daemon.kill();
    let assigned = worker.stop().await;
    let mut worker = Worker::start(&daemon, root.path(), 0).await;
    worker.assign_again(assigned).await;
    worker.until_condition("runtime-down", true).await;
    assert_eq!(worker.until(&id, "running").await.container_id, report.container_id);
    daemon.launch();
    worker.until_condition("runtime-down", false).await;
    assert_eq!(worker.until(&id, "running").await.container_id, report.container_id);
    assert_eq!((process(&daemon.client(), &report).await, containers(&daemon.client()).await), (before, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_daemon_is_dead_only_what_certainly_ended_is_given_up() {
    let Some((mut daemon, mut worker, _root)) = ready(Options::default()).await else { return };
    let ((survivor, kept), (victim, lost)) = (running(&mut worker).await, running(&mut worker).await);
    let (client, pid) = (daemon.client(), process(&daemon.client(), &lost).await.0);
    let kept_pid = process(&client, &kept).await.0;
    daemon.kill();
    worker.until_condition("runtime-down", true).await;
    assert!(processes::is_running(pid), "without live-restore too, containers survive until the daemon returns");
    processes::send(pid, nix::sys::signal::Signal::SIGKILL);
    assert_eq!(worker.until(&victim, "failed").await.reason, "runtime-down");
    assert_eq!(worker.report(&survivor).await.expect("it is known").state, "running");
    assert!(processes::is_running(kept_pid));
    assert_eq!(worker.fails(Job::endless(IMAGE)).await, "runtime-down", "what cannot be started is told so");
    daemon.launch();
    // The daemon stops what it finds; that is no failure of the task's own.
    assert_eq!(worker.until(&survivor, "failed").await.reason, "runtime-down");
    worker.until_condition("runtime-down", false).await;
    running(&mut worker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_shuts_down_is_the_reason_why_its_tasks_end() {
    let Some((mut daemon, mut worker, _root)) = ready(Options::default()).await else { return };
    let (polite, _) = running(&mut worker).await;
    let stubborn = worker.run(Job::new(IMAGE, &["sleep", "1000"])).await;
    worker.until(&stubborn, "running").await;
    daemon.terminate();
    // One ends with exit code 0, which alone would count as done.
    assert_eq!(worker.until(&polite, "failed").await.reason, "runtime-down");
    assert!(worker.is_down() || worker.until(&stubborn, "failed").await.reason == "runtime-down");
    assert_eq!(worker.until(&stubborn, "failed").await.reason, "runtime-down");
    worker.until_condition("runtime-down", true).await;
    daemon.reap();
    daemon.launch();
    worker.until_condition("runtime-down", false).await;
    assert_eq!(worker.report(&polite).await.expect("it is known").state, "failed", "and is not begun again");
    running(&mut worker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_daemon_that_hangs_tasks_run_on_and_nothing_starts_twice() {
    let Some((daemon, mut worker, _root)) = ready(Options::default()).await else { return };
    let (id, report) = running(&mut worker).await;
    let before = process(&daemon.client(), &report).await;
    daemon.freeze();
    worker.until_condition("runtime-down", true).await;
    // Longer than what has certainly ended would be waited for.
    assert_eq!(worker.fails(Job::endless(IMAGE)).await, "runtime-down");
    assert_eq!(worker.report(&id).await, Some(report.clone()));
    daemon.thaw();
    worker.until_condition("runtime-down", false).await;
    assert_eq!(worker.report(&id).await, Some(report.clone()));
    assert_eq!(process(&daemon.client(), &report).await, before);
    // What was asked of it meanwhile it may have done: a container that nobody wants, and that never runs.
    eventually("only the task's container is left", async || (containers(&daemon.client()).await == 1).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_ends_beside_a_daemon_that_hangs_is_given_up_once() {
    let Some((daemon, mut worker, _root)) = ready(Options::default()).await else { return };
    let (id, report) = running(&mut worker).await;
    let pid = process(&daemon.client(), &report).await.0;
    daemon.freeze();
    worker.until_condition("runtime-down", true).await;
    processes::send(pid, nix::sys::signal::Signal::SIGKILL);
    let told = worker.until(&id, "failed").await;
    assert_eq!(told.reason, "runtime-down");
    daemon.thaw();
    worker.until_condition("runtime-down", false).await;
    assert_eq!(worker.report(&id).await, Some(told), "the late event changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_done_beside_a_daemon_that_hangs_is_done_and_not_run_again() {
    let Some(daemon) = daemon::start(Options::default()) else { return };
    daemon.build(IMAGE, 1).await;
    let root = tempfile::tempdir().expect("a directory");
    let mut worker = Worker::start_patient(&daemon, root.path()).await;
    let (id, report) = running(&mut worker).await;
    let pid = process(&daemon.client(), &report).await.0;
    daemon.freeze();
    worker.until_condition("runtime-down", true).await;
    processes::send(pid, nix::sys::signal::Signal::SIGTERM);
    processes::wait_for("it has ended", || !processes::is_running(pid));
    daemon.thaw();
    let told = worker.until(&id, "complete").await;
    assert_eq!((told.exit_code, told.reason.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_people_have_renamed_is_its_tasks_all_the_same() {
    let Some((daemon, mut worker, _root)) = ready(Options::default()).await else { return };
    let (id, report) = running(&mut worker).await;
    let client = daemon.client();
    let options = query::RenameContainerOptionsBuilder::default().name("mine").build();
    client.rename_container(&report.container_id, options).await.expect("renamed");
    assert_eq!(worker.report(&id).await, Some(report));
    worker.drop_task(&id).await;
    eventually("it is stopped and removed", async || (containers(&client).await == 0).then_some(())).await;
}

/// A leader to which an old word of this worker came late takes back what has ended here meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_forgotten_is_not_begun_once_more_by_the_next_agent() {
    let Some((daemon, mut worker, root)) = ready(Options::default()).await else { return };
    let (id, _) = running(&mut worker).await;
    worker.drop_task(&id).await;
    worker.until_gone(&id).await;
    worker.stop().await;
    let mut worker = Worker::start(&daemon, root.path(), 0).await;
    // Numbers begin anew with each worker of this test.
    assert_eq!(worker.run(Job::endless(IMAGE)).await, id);
    assert_eq!(worker.until(&id, "rejected").await.reason, "ended-here-before");
    assert_eq!(containers(&daemon.client()).await, 0);
}
