//! Every command of goatctl on a real cluster: three managers, three workers, real tasks. The process runtime always; with
//! Docker what only Docker does, where a daemon answers.

#[allow(dead_code, reason = "each of these files uses its part of it")]
mod world;

use serde_json::Value;
use world::World;

/// A program that says where it is and stays.
const STAYS: &str = "echo slot $GOAT_SLOT on $GOAT_NODE token $GOAT_FENCING_TOKEN; exec sleep 1000";

fn states(tasks: &Value) -> Vec<(u64, String)> {
    let tasks = tasks.as_array().expect("a list");
    let state =
        |task: &Value| (task["slot"].as_u64().expect("a number"), task["state"].as_str().expect("a word").to_owned());
    tasks.iter().map(state).collect()
}

#[test]
fn a_service_lives_through_all_commands() {
    let world = World::up("process", &[]);
    let created = world.ok(&[
        "service",
        "create",
        "--name",
        "web",
        "--driver",
        "process",
        "--replicas",
        "3",
        "/bin/sh",
        "--",
        "-c",
        STAYS,
    ]);
    assert!(created.contains("3/3 running"), "{created}");

    let services = world.json(&["service", "ls"]);
    assert_eq!(services[0]["name"], "web");
    assert_eq!((&services[0]["replicas_desired"], &services[0]["replicas_running"]), (&3.into(), &3.into()));
    let tasks = world.json(&["service", "ps", "web"]);
    assert_eq!(states(&tasks), [1, 2, 3].map(|slot| (slot, "running".to_owned())));
    let nodes: std::collections::BTreeSet<_> =
        tasks.as_array().expect("a list").iter().map(|task| task["node"].to_string()).collect();
    assert_eq!(nodes.len(), 3, "spread over the nodes: {tasks}");
    assert!(world.ok(&["service", "inspect", "web"]).contains("web"));

    let task = tasks[0]["id"].as_str().expect("an id");
    let logs = world.ok(&["task", "logs", task]);
    assert!(logs.starts_with("slot 1 on w") && logs.contains(" token "), "{logs}");
    assert!(world.ok(&["task", "inspect", task]).contains("Fencing token"));
    assert_eq!(world.json(&["task", "ls"]).as_array().map(Vec::len), Some(3));

    assert!(world.ok(&["service", "scale", "web", "5"]).contains("5/5 running"));
    assert!(world.ok(&["service", "scale", "web", "2"]).contains("2/2 running"));

    let node = world.json(&["service", "ps", "web"])[0]["node"].as_str().expect("a name").to_owned();
    world.ok(&["node", "drain", &node]);
    let left: Vec<Value> = world.json(&["task", "ls"]).as_array().expect("a list").clone();
    assert!(left.iter().all(|task| task["node"] != Value::String(node.clone())), "{left:?}");
    assert_eq!(left.len(), 2);
    assert!(world.ok(&["node", "inspect", &node]).contains("drain"));
    world.ok(&["node", "activate", &node]);
    let drained = world.json(&["node", "ls"]);
    assert!(drained.as_array().expect("a list").iter().all(|node| node["availability"] == "active"), "{drained}");

    let events = world.ok(&["events"]);
    for part in ["service  web  created", "web.1  assigned -> starting", "web.1  starting -> running", "leads"] {
        assert!(events.contains(part), "{part} in {events}");
    }
    assert!(world.ok(&["service", "rm", "web"]).contains("removed"));
    assert_eq!(world.json(&["service", "ls"]), Value::Array(Vec::new()));
    assert_eq!(world.json(&["task", "ls"]), Value::Array(Vec::new()));
}

#[test]
fn managers_are_listed_lose_their_leader_and_hand_over() {
    let world = World::up("process", &[]);
    let peers = world.json(&["operator", "raft", "list-peers"]);
    let peers = peers.as_array().expect("a list");
    assert_eq!(peers.iter().filter(|peer| peer["role"] == "leader").count(), 1);
    assert!(peers.iter().all(|peer| peer["reachable"] == true), "{peers:?}");

    let status = world.json(&["status"]);
    let leader = status["leader"].as_str().expect("a name").to_owned();
    let to = if leader == "m1" { "m2" } else { "m1" };
    assert!(world.ok(&["operator", "raft", "transfer-leader", "--to", to]).contains(to));
    assert_eq!(world.json(&["status"])["leader"], *to);

    world.ok(&["run", "--name", "kept", "--driver", "process", "/bin/sleep", "1000"]);
    let before = world.json(&["service", "ps", "kept"]);
    world.testcluster(&["kill", "leader"]);
    assert!(world.ok(&["service", "scale", "kept", "2"]).contains("2/2 running"));
    let after = world.json(&["service", "ps", "kept"]);
    assert_eq!(before[0]["id"], after[0]["id"], "a manager's failure restarts no task");
    assert_ne!(world.json(&["status"])["leader"], *to);
}

#[test]
fn tasks_that_end_are_restarted_by_their_policy() {
    let world = World::up("process", &["--managers", "1", "--workers", "1"]);
    // No policy: it ends, and that is all.
    let (code, _, said) =
        world.run(&["run", "--name", "once", "--driver", "process", "--restart", "no", "/bin/sh", "-c", "exit 3"]);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("exit code 3"), "{said}");
    assert_eq!(states(&world.json(&["service", "ps", "once"])), [(1, "failed".to_owned())]);

    world.ok(&["run", "--name", "again", "--driver", "process", "/bin/sleep", "1000"]);
    let first = world.json(&["service", "ps", "again"])[0].clone();
    world.kill_task(first["container_id"].as_str().expect("a container"));
    let second = world.until("it runs again", || {
        let now = world.json(&["service", "ps", "again"])[0].clone();
        (now["state"] == "running" && now["id"] != first["id"]).then_some(now)
    });
    assert_eq!((&second["slot"], &second["attempt"]), (&1.into(), &2.into()));
}

#[test]
fn an_agents_death_leaves_its_tasks_alone_and_the_next_one_adopts_them() {
    let world = World::up("process", &["--managers", "1", "--workers", "1"]);
    world.ok(&["run", "--name", "kept", "--driver", "process", "/bin/sleep", "1000"]);
    let before = world.json(&["service", "ps", "kept"]);
    world.testcluster(&["kill", "w1"]);
    world.testcluster(&["start", "w1"]);
    world.until("the agent is back", || (world.json(&["node", "ls"])[0]["state"] == "ready").then_some(()));
    let after = world.json(&["service", "ps", "kept"]);
    assert_eq!((&before[0]["id"], &before[0]["container_id"]), (&after[0]["id"], &after[0]["container_id"]));
    assert_eq!(after[0]["state"], "running");
}

#[test]
fn bad_input_is_one_clear_error_with_its_exit_code_and_changes_nothing() {
    let world = World::up("process", &["--managers", "1", "--workers", "1"]);
    let create = ["service", "create", "-d", "--driver", "process"];
    world.ok(&[&create[..], &["--name", "taken", "--replicas", "0", "/bin/true"]].concat());
    let refused = |code: i32, args: &[&str], part: &str| {
        let (found, _, said) = world.run(args);
        assert_eq!(found, code, "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {part:?} in {said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{args:?}: {said}");
    };
    refused(1, &[&create[..], &["--name", "taken", "/bin/true"]].concat(), "a service named \"taken\" exists already");
    refused(2, &[&create[..], &["--colour", "red", "/bin/true"]].concat(), "--colour");
    refused(2, &["service", "create", "-d", "--name", "x", "--cpu=-1", "img"], "cpu");
    refused(2, &["service", "create", "-d", "--name", "x", "--memory", "9999999TiB", "img"], "--memory");
    refused(2, &["service", "create", "-d", "--name", "x", "UPPER CASE!"], "image");
    refused(1, &["service", "ps", "nosuch"], "no service \"nosuch\"");
    refused(1, &["task", "inspect", "zzzz"], "no task \"zzzz\"");
    refused(1, &["node", "drain", "w9"], "no node \"w9\"");
    refused(3, &["run", "--name", "huge", "--driver", "process", "--cpu", "1000", "/bin/true"], "lack CPU");
    // One word of a command line may have 128 KiB.
    let variables: Vec<String> = (0..12).map(|number| format!("V{number}={}", "x".repeat(100_000))).collect();
    let variables = variables.iter().flat_map(|variable| ["-e", variable]);
    let large: Vec<&str> =
        create.into_iter().chain(["--name", "large"]).chain(variables).chain(["/bin/true"]).collect();
    refused(2, &large, "bytes");
    let (code, _, said) = world.run_at("127.0.0.1:1", &["--timeout", "2s", "service", "ls"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
    let names: Vec<String> =
        world.json(&["service", "ls"]).as_array().expect("a list").iter().map(|s| s["name"].to_string()).collect();
    assert_eq!(names, ["\"huge\"", "\"taken\""], "what was refused left nothing, and what cannot be placed waits");
}

#[test]
fn containers_run_are_adopted_killed_and_replaced() {
    if !world::has_docker() {
        eprintln!("no Docker daemon answers: nothing is tried here");
        return;
    }
    let world = World::up("docker", &["--managers", "1", "--workers", "2"]);
    let created = world.ok(&["run", "--name", "web", "--replicas", "2", "-e", "GREETING=hi", "goat-echo:1"]);
    assert!(created.contains("2/2 running"), "{created}");
    let task = world.json(&["service", "ps", "web"])[0].clone();
    let container = task["container_id"].as_str().expect("a container");
    let policy = world::docker(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}} {{.Name}}", container]);
    let expected = format!("no /goat-web-1-{}", task["id"].as_str().expect("an id"));
    assert_eq!(policy.trim(), expected, "GOAT restarts, not Docker");

    let worker = task["node"].as_str().expect("a name");
    world.testcluster(&["kill", worker]);
    world.testcluster(&["start", worker]);
    world.until("the agent is back", || {
        let nodes = world.json(&["node", "ls"]);
        nodes.as_array().expect("a list").iter().all(|node| node["state"] == "ready").then_some(())
    });
    assert_eq!(world.json(&["service", "ps", "web"])[0]["container_id"], *container, "adopted, and not restarted");

    world::docker(&["kill", container]);
    let next = world.until("it runs again", || {
        let now = world.json(&["service", "ps", "web"])[0].clone();
        (now["state"] == "running" && now["id"] != task["id"]).then_some(now)
    });
    assert_eq!(next["attempt"], 2);

    let (code, _, said) = world.run(&["run", "--name", "absent", "--wait-timeout", "3s", "goat-no-such-image:1"]);
    assert!([4, 6].contains(&code), "{code}: {said}");
    assert!(
        said.contains("registry-unreachable") || said.contains("image-not-found") || said.contains("pull-denied"),
        "{said}"
    );
}
