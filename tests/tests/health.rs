//! Health checks on a real cluster: readiness, hanging later, and what is shown of it.

#[allow(dead_code, reason = "each file of tests uses a part")]
mod world;

use serde_json::Value;
use world::World;

fn newest(world: &World, service: &str) -> Value {
    world.json(&["service", "ps", service])[0].clone()
}

fn start_agent(world: &World) {
    world.testcluster(&["start", "w1"]);
    world.until("the agent is back", || (world.json(&["node", "ls"])[0]["state"] == "ready").then_some(()));
}

#[test]
fn a_task_runs_once_it_is_healthy_and_is_replaced_when_it_is_not_any_more() {
    let world = World::up("process", &["--managers", "1", "--workers", "1"]);
    // It is healthy while this file is there.
    let dir = tempfile::tempdir().expect("a directory");
    let ready = dir.path().join("ready");
    let command = format!("test -e {}", ready.display());
    let check = ["--health-cmd", &command, "--health-interval", "200ms", "--health-start-period", "10m"];
    let what = ["service", "create", "-d", "--name", "web", "--driver", "process", "--stop-grace", "1s"];
    let keep = ["--on-disconnect", "keep"];
    world.ok(&[&what[..], &keep, &check, &["/bin/sleep", "1000"]].concat());
    let starting = world.until("its program is started", || {
        let task = newest(&world, "web");
        (task["state"] == "starting" && task["container_id"].is_string()).then_some(task)
    });

    // Another agent goes on probing what is not ready yet.
    world.testcluster(&["kill", "w1"]);
    start_agent(&world);
    assert_eq!(newest(&world, "web")["state"], "starting");
    std::fs::write(&ready, "").expect("it can be written");
    let running = world.until("it is ready", || Some(newest(&world, "web")).filter(|task| task["state"] == "running"));
    assert_eq!((&running["id"], &running["container_id"]), (&starting["id"], &starting["container_id"]));

    // And one that is ready.
    world.testcluster(&["kill", "w1"]);
    std::fs::remove_file(&ready).expect("it can be removed");
    start_agent(&world);
    let tasks = world.until("it is replaced", || {
        let tasks = world.json(&["service", "ps", "web"]);
        (tasks[0]["attempt"] == 2).then_some(tasks)
    });
    assert_eq!((&tasks[0]["cause"], &tasks[1]["id"]), (&"health".into(), &running["id"]));
    assert_eq!((&tasks[1]["state"], &tasks[1]["reason"]), (&"failed".into(), &"unhealthy".into()));
    let shown = world.ok(&["service", "ps", "web"]);
    assert!(shown.contains("└ web.1") && shown.contains("unhealthy"), "{shown}");
    assert!(world.ok(&["task", "inspect", "web.1"]).contains("unhealthy"), "by its slot, with what was before");
}

#[test]
fn what_never_gets_ready_or_cannot_be_started_backs_off_and_says_why() {
    let world = World::up("process", &["--managers", "1", "--workers", "1"]);
    let create = ["service", "create", "-d", "--driver", "process", "--stop-grace", "1s"];
    let check = ["--health-tcp", "1", "--health-interval", "100ms", "--health-retries", "2"];
    world.ok(&[&create[..], &["--name", "deaf"], &check, &["/bin/sleep", "1000"]].concat());
    world.ok(&[&create[..], &["--name", "absent", "/no/such/program"]].concat());
    for (service, reason, cause) in [("deaf", "never-ready", "health"), ("absent", "command-not-found", "exit")] {
        let tasks = world.until("it waits for its third attempt", || {
            let tasks = world.json(&["service", "ps", service]);
            let next = &tasks[0];
            (next["attempt"].as_u64() >= Some(3) && next["next_attempt_at"].is_string()).then_some(tasks)
        });
        assert_eq!((&tasks[0]["state"], &tasks[0]["cause"]), (&"pending".into(), &cause.into()), "{tasks}");
        for earlier in [&tasks[1], &tasks[2]] {
            assert_eq!((&earlier["state"], &earlier["reason"]), (&"failed".into(), &reason.into()), "{tasks}");
        }
    }
    let (code, _, said) = world
        .run(&[&create[..], &["--name", "x", "--health-tcp", "1"], &["--health-interval", "0s", "/bin/true"]].concat());
    assert!(code == 2 && said.contains("--health-interval: must be above 0"), "{said}");
    let late = ["--health-interval", "1s", "--health-timeout", "2s", "/bin/true"];
    let (code, _, said) = world.run(&[&create[..], &["--name", "x", "--health-tcp", "1"], &late].concat());
    assert!(code == 2 && said.contains("--health-timeout: 2000 ms must be"), "{said}");
}
