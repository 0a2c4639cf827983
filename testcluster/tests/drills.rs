//! Each drill once, in a cluster of its own with the process runtime, and the checks of the drills themselves.

mod common;

use std::time::Duration;

use common::{World, testcluster, text, turn};
use goat_proto::v1::ServiceSpec;
use goat_testcluster::cluster::Options;
use goat_testcluster::drill::Checks;
use goat_testcluster::runtime::RuntimeKind;
use goat_testcluster::supervisor::Hosted;
use goat_testcluster::{Recorder, Remote, echo};
use serde_json::Value;
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(60);

fn passes(drill: &str, measures: &[&str]) {
    passes_with(drill, &[], measures);
}

/// There may be more measures.
fn passes_with(drill: &str, options: &[&str], measures: &[&str]) {
    let _turn = turn();
    let output = testcluster(&[&["drill", drill, "--runtime", "process", "-o", "json"], options].concat());
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)));
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["passed"], true, "{report:#}");
    for role in ["keep", "stop", "stop-if-isolated"] {
        assert!(report["doubled"][role].is_number(), "{report:#}");
    }
    assert!(report["acknowledged"].as_u64() > Some(0));
    let names: Vec<_> = report["measures"].as_array().expect("a list").iter().map(|measure| &measure["name"]).collect();
    assert!(measures.iter().all(|wanted| names.iter().any(|name| name == wanted)), "{measures:?} in {names:?}");
}

#[test]
fn a_killed_leader_is_followed_by_another_and_nothing_is_lost() {
    passes("leader-kill", &["SIGKILL to next accepted write", "SIGKILL to new leader seen"]);
}

#[test]
fn managers_that_are_far_apart_keep_their_leader_and_leases() {
    passes_with("slow-links", &["--seconds", "5"], &[]);
}

#[test]
fn strangers_keep_no_member_out_and_stop_no_write() {
    passes_with("stranger", &["--seconds", "3"], &["members back, requests held", "members back, connections held"]);
}

#[test]
fn a_killed_workers_tasks_run_elsewhere() {
    passes("worker-kill", &["replaced (keep)", "replaced (stop)", "replaced (stop-if-isolated)"]);
}

#[test]
fn an_agent_that_is_killed_and_comes_back_adopts_its_tasks() {
    passes("agent-restart", &["SIGKILL to adopted"]);
}

#[test]
fn an_agent_is_replaced_by_a_new_program_under_its_tasks() {
    passes("agent-upgrade", &["SIGTERM to adopted"]);
}

#[test]
fn a_dead_agents_leased_tasks_end_before_they_run_elsewhere() {
    passes("agent-kill", &["old ones stopped (stop)", "replaced (stop)", "replaced (stop-if-isolated)"]);
}

#[test]
fn a_worker_that_is_cut_off_never_has_a_task_that_runs_elsewhere_too() {
    passes_with("worker-cut", &["--seconds", "6"], &["healed to whole"]);
}

#[test]
fn a_crash_loop_keeps_its_waits_through_a_change_of_leader() {
    passes("crash-loop", &["attempt after its time had come, the latest"]);
}

#[test]
fn all_managers_restart_in_turn_without_a_failed_request_or_a_restarted_task() {
    passes(
        "managers-rolling-restart",
        &["write gap, follower restarted", "write gap, leader restarted", "all restarted, cluster whole"],
    );
}

#[test]
fn managers_restart_without_a_failed_request() {
    passes(
        "manager-restart",
        &["write gap, follower restarted", "write gap, leader restarted", "both restarted, cluster whole"],
    );
}

#[test]
fn leadership_moves_on_request() {
    passes("leader-transfer", &["write gap", "request to answer"]);
}

#[test]
fn a_cluster_comes_back_out_of_a_snapshot_that_a_manager_saved_by_itself() {
    passes("snapshot-restore", &["restoring itself", "restoring begun to whole, three managers"]);
}

#[test]
fn services_that_were_removed_or_changed_by_mistake_come_back() {
    passes("snapshot-undo", &["restore to whole, the longer"]);
}

#[test]
fn a_drill_can_use_a_running_cluster_and_leaves_it_as_it_was() {
    let world = World::new();
    world.up(&["--no-echo"]);
    let printed = world.ok(&["drill", "leader-transfer"]);
    assert!(printed.contains("PASS leader-transfer (1 of 1 repeats)"), "{printed}");
    assert_eq!(world.status()["members"].as_array().map(Vec::len), Some(6));
    world.ok(&["down"]);
}

/// Runs it while no other cluster of these tests is there.
fn alone(test: impl Future<Output = ()>) {
    let _turn = turn();
    tokio::runtime::Runtime::new().expect("a runtime").block_on(test);
}

/// A cluster in this process.
async fn hosted(dir: &std::path::Path, workers: u8) -> Hosted {
    let mut options = Options::new(dir.join("cluster"), RuntimeKind::Process).expect("this program has a place");
    (options.managers, options.workers) = (1, workers);
    Hosted::start(options).await.expect("it starts")
}

#[test]
fn a_recorder_sees_an_acknowledged_write_that_is_gone() {
    alone(async {
        let dir = tempfile::tempdir().expect("a directory");
        let hosted = hosted(dir.path(), 0).await;
        let client = hosted.formed().await.expect("it forms");
        let recorder = Recorder::start(&client, 1, 100.0);
        recorder.first_after(Instant::now(), SOON).await.expect("writes are accepted");
        let services = client.services().await.expect("listed");
        let stolen = services[0].spec.as_ref().expect("it has one").name.clone();
        client.remove_service(&stolen).await.expect("removed");
        let report = recorder.finish().await.expect("read back");
        assert!(report.violations.iter().any(|violation| violation.contains(&stolen)), "{report:?}");
        assert_eq!(report.failed, 0);
        hosted.end(false).await.expect("it ends");
    });
}

#[test]
fn the_checks_see_a_slot_without_a_task_and_a_dead_task_that_managers_count() {
    alone(async {
        let dir = tempfile::tempdir().expect("a directory");
        // While none is heard, none is given up.
        let hosted = hosted(dir.path(), 2).await;
        let client = hosted.formed().await.expect("it forms");
        let remote = Remote::open(&hosted.dir()).await.expect("it answers");
        let checks = Checks { remote: remote.clone(), client: client.clone() };
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_echo"));
        let spec = echo::spec("one", RuntimeKind::Process, 2, program);
        client.create_service(ServiceSpec { max_per_node: 1, ..spec }).await.expect("created");
        let unfilled = async |is_wanted: fn(Option<&str>) -> bool| {
            let deadline = Instant::now() + SOON;
            loop {
                let found = checks.unfilled().await.expect("answered");
                if is_wanted(found.as_deref()) {
                    return;
                }
                assert!(Instant::now() < deadline, "{found:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        unfilled(|found| found.is_none()).await;
        let tasks = client.tasks(false).await.expect("listed");
        let slot = tasks.iter().find(|task| task.node == "w1").expect("each has one").slot;
        // A dead agent tells nobody that its task is gone.
        remote.kill("w1", true).await.expect("killed");
        let found = checks.unfilled().await.expect("answered");
        let wanted = format!("managers say that one.{slot} on w1");
        assert!(found.as_ref().is_some_and(|why| why.contains(&wanted)), "{found:?}");
        // And a lost one has no place to go to.
        unfilled(|found| found.is_some_and(|why| why.contains("1 of 2 tasks running"))).await;
        hosted.end(false).await.expect("it ends");
    });
}
