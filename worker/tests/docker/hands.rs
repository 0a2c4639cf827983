//! People's hands on a task's container: restarted, started, stopped, killed, paused, copied, removed, by Docker's own commands.

use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{
    ContainerConfig, ContainerCreateBody, ContainerUpdateBody, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters as query;
use futures::StreamExt;
use goat_proto::v1;

use crate::daemon::{self, Daemon, Options};
use crate::worker::{Job, Worker, eventually};

const IMAGE: &str = "built:1";

async fn ready() -> Option<(Daemon, Worker, tempfile::TempDir)> {
    ready_on(Options::default()).await
}

async fn ready_on(options: Options) -> Option<(Daemon, Worker, tempfile::TempDir)> {
    let daemon = daemon::start(options)?;
    daemon.build(IMAGE, 1).await;
    let root = tempfile::tempdir().expect("a directory");
    let worker = Worker::start(&daemon, root.path(), 0).await;
    Some((daemon, worker, root))
}

async fn running(worker: &mut Worker, job: Job) -> (String, v1::TaskReport) {
    let id = worker.run(job).await;
    let report = worker.until(&id, "running").await;
    (id, report)
}

async fn is_running(client: &Docker, container: &str) -> bool {
    daemon::state(client, container).await.running == Some(true)
}

async fn restart(client: &Docker, container: &str) -> Result<(), bollard::errors::Error> {
    let options = query::RestartContainerOptionsBuilder::default().t(0).build();
    client.restart_container(container, Some(options)).await
}

async fn start(client: &Docker, container: &str) -> Result<(), bollard::errors::Error> {
    client.start_container(container, None::<query::StartContainerOptions>).await
}

/// Waits until a restart by hand has ended the task. From then on its container must not run.
async fn restarted_and_ended(worker: &Worker, client: &Docker, id: &str, container: &str) -> v1::TaskReport {
    let hand = tokio::spawn({
        let (client, container) = (client.clone(), container.to_owned());
        async move { restart(&client, &container).await }
    });
    let report = worker.until(id, "failed").await;
    assert!(!is_running(client, container).await, "a successor may run from now on");
    // That the restart fails is as good as that what it started was killed.
    let _ = hand.await.expect("it does not panic");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leased_tasks_container_cannot_be_started_again() {
    let Some((daemon, mut worker, _root)) = ready().await else { return };
    let client = daemon.client();
    for _ in 0..5 {
        let (id, report) = running(&mut worker, Job::endless(IMAGE).leased()).await;
        let report = restarted_and_ended(&worker, &client, &id, &report.container_id).await;
        assert_eq!(report.reason, "killed-externally", "{report:?}");
        assert!(start(&client, &report.container_id).await.is_err(), "nobody starts it again");
        assert!(!is_running(&client, &report.container_id).await);
    }
    // One that ended by itself, and one that was stopped on request.
    let id = worker.run(Job::new(IMAGE, &["sh", "-c", "exit 0"]).leased()).await;
    let report = worker.until(&id, "complete").await;
    assert!(start(&client, &report.container_id).await.is_err(), "nobody starts it again");
    let (id, report) = running(&mut worker, Job::endless(IMAGE).leased()).await;
    worker.stop_task(&id).await;
    worker.until(&id, "stopped").await;
    assert!(start(&client, &report.container_id).await.is_err(), "nobody starts it again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_task_that_somebody_starts_again_is_ended() {
    let Some((daemon, mut worker, root)) = ready().await else { return };
    let client = daemon.client();
    let (id, report) = running(&mut worker, Job::endless(IMAGE)).await;
    let container = report.container_id;
    restart(&client, &container).await.expect("restarted");
    worker.until(&id, "failed").await;
    let ended = async || (!is_running(&client, &container).await).then_some(());
    eventually("the restarted container is ended", ended).await;
    start(&client, &container).await.expect("started");
    eventually("the started container is ended", ended).await;
    // Somebody starts it while no agent lives.
    let assigned = worker.stop().await;
    start(&client, &container).await.expect("started");
    let mut worker = Worker::start(&daemon, root.path(), 0).await;
    worker.assign_again(assigned).await;
    eventually("the next agent ends it", ended).await;
    assert_eq!(worker.report(&id).await.expect("it is known").state, "failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_policy_that_somebody_set_is_taken_back() {
    let Some((daemon, mut worker, _root)) = ready().await else { return };
    let client = daemon.client();
    let (id, report) = running(&mut worker, Job::endless(IMAGE).leased()).await;
    let always = RestartPolicy { name: Some(RestartPolicyNameEnum::ALWAYS), maximum_retry_count: None };
    let body = ContainerUpdateBody { restart_policy: Some(always), ..ContainerUpdateBody::default() };
    client.update_container(&report.container_id, body).await.expect("updated");
    eventually("the policy is `no` again", async || {
        let inspected = client.inspect_container(&report.container_id, None).await.expect("it is there");
        let name = inspected.host_config?.restart_policy?.name?;
        (name == RestartPolicyNameEnum::NO).then_some(())
    })
    .await;
    assert_eq!(worker.report(&id).await.expect("it is known").state, "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_tasks_container_is_not_the_task() {
    let Some((daemon, mut worker, _root)) = ready().await else { return };
    let client = daemon.client();
    for job in [Job::endless(IMAGE), Job::endless(IMAGE).leased()] {
        let (id, report) = running(&mut worker, job).await;
        let options = query::CommitContainerOptionsBuilder::default();
        let options = options.container(&report.container_id).repo("copy").tag("1").build();
        client.commit_container(options, ContainerConfig::default()).await.expect("committed");
        let body = ContainerCreateBody { image: Some("copy:1".into()), ..ContainerCreateBody::default() };
        let copy = client.create_container(None::<query::CreateContainerOptions>, body).await.expect("created").id;
        start(&client, &copy).await.expect("started");
        eventually("the copy is ended", async || (!is_running(&client, &copy).await).then_some(())).await;
        assert_eq!(worker.report(&id).await, Some(report.clone()), "the end of a copy is not the task's");
        assert!(is_running(&client, &report.container_id).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_says_that_somebody_else_ended_it() {
    let Some((daemon, mut worker, _root)) = ready().await else { return };
    let client = daemon.client();
    // It ends with 0 when it is asked to: that is no completion.
    let (id, report) = running(&mut worker, Job::endless(IMAGE)).await;
    client.stop_container(&report.container_id, None::<query::StopContainerOptions>).await.expect("stopped");
    let stopped = worker.until(&id, "failed").await;
    assert_eq!((stopped.reason.as_str(), stopped.exit_code), ("killed-externally", Some(0)));
    assert!(stopped.error.contains("SIGTERM"), "{}", stopped.error);
    let (id, report) = running(&mut worker, Job::endless(IMAGE).leased()).await;
    let options = query::RemoveContainerOptionsBuilder::default().force(true).build();
    client.remove_container(&report.container_id, Some(options)).await.expect("removed");
    let removed = worker.until(&id, "failed").await;
    assert_eq!((removed.reason.as_str(), removed.exit_code), ("killed-externally", Some(137)));
    assert!(removed.error.contains("SIGKILL"), "{}", removed.error);
    let (id, _) = running(&mut worker, Job::endless(IMAGE)).await;
    worker.stop_task(&id).await;
    assert_eq!(worker.until(&id, "stopped").await.reason, "stop-requested", "that was this worker");
}

/// The signals that a program with this trap has received, and when (s).
async fn output(client: &Docker, container: &str) -> Vec<String> {
    let options = query::LogsOptionsBuilder::default().stdout(true).build();
    let chunks: Vec<_> = client.logs(container, Some(options)).collect().await;
    let text: String = chunks.into_iter().flatten().map(|chunk| chunk.to_string()).collect();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_asked_to_end_once_and_with_its_images_signal() {
    let options = Options { has_live_restore: true, ..Options::default() };
    let Some((mut daemon, mut worker, _root)) = ready_on(options).await else { return };
    let client = daemon.client();
    let script = "trap 'echo INT' INT; trap 'echo TERM' TERM; while true; do sleep 0.1; done";
    daemon.build_with("signal:1", 1, "STOPSIGNAL SIGINT").await;
    let short = Job { stop_grace_ms: Some(900), ..Job::new("signal:1", &["sh", "-c", script]) };
    let (id, report) = running(&mut worker, short).await;
    let began = Instant::now();
    worker.stop_task(&id).await;
    worker.until(&id, "stopped").await;
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(output(&client, &report.container_id).await, ["INT"]);
    // The daemon goes away while the task has its grace.
    let long = Job { stop_grace_ms: Some(15_000), ..Job::new(IMAGE, &["sh", "-c", script]) };
    let (id, report) = running(&mut worker, long).await;
    let began = Instant::now();
    worker.stop_task(&id).await;
    eventually("it is asked", async || (!output(&client, &report.container_id).await.is_empty()).then_some(())).await;
    daemon.kill();
    worker.until_condition("runtime-down", true).await;
    daemon.launch();
    worker.until(&id, "stopped").await;
    assert_eq!(output(&client, &report.container_id).await, ["TERM"], "asked once");
    assert!(began.elapsed() >= Duration::from_secs(14), "it had its grace: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_somebody_pauses_fails_after_a_while_and_says_so() {
    let Some((daemon, mut worker, _root)) = ready().await else { return };
    let client = daemon.client();
    let (id, report) = running(&mut worker, Job::endless(IMAGE)).await;
    client.pause_container(&report.container_id).await.expect("paused");
    let paused = worker.until(&id, "failed").await;
    assert_eq!(paused.reason, "paused");
    assert!(!is_running(&client, &report.container_id).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_output_of_a_removed_container_is_said_to_be_gone() {
    let Some((daemon, mut worker, _root)) = ready().await else { return };
    let id = worker.run(Job::new(IMAGE, &["sh", "-c", "exit 1"])).await;
    let report = worker.until(&id, "failed").await;
    let client = daemon.client();
    let none = None::<query::RemoveContainerOptions>;
    client.remove_container(&report.container_id, none).await.expect("removed");
    let told = worker.logs_error(&id).await;
    assert!(told.contains("was removed"), "{told}");
}
