//! Certificates in a whole cluster: the authority is replaced while it serves, and a removed node is told so.

#[allow(dead_code, reason = "each of these files uses its part of it")]
mod world;

use serde_json::Value;
use world::World;

fn running(world: &World) -> Vec<String> {
    let tasks = world.json(&["task", "ls"]);
    let id = |task: &Value| task["id"].as_str().expect("it has one").to_owned();
    let mut ids: Vec<_> =
        tasks.as_array().expect("a list").iter().filter(|task| task["state"] == "running").map(id).collect();
    ids.sort();
    ids
}

#[test]
fn the_authority_is_replaced_and_nothing_notices() {
    let world = World::up("process", &["--spare-managers", "1"]);
    world.ok(&["run", "--name", "web", "--driver", "process", "--replicas", "3", "/bin/sleep", "1000"]);
    let before = running(&world);
    let (old, term) = (world.json(&["cluster", "ca"]), world.json(&["status"])["term"].clone());
    let old_token = world.ok(&["cluster", "join-token", "manager", "-q"]);
    // Another user, who does not look meanwhile.
    let other = world.path("other.pem").display().to_string();
    world.ok(&["cluster", "issue-client", "other", "-f", &other]);
    world.ok(&["--credentials", &other, "status"]);

    world.ok(&["cluster", "ca", "rotate"]);
    let new = world.json(&["cluster", "ca"]);
    assert_ne!(new["signer"], old["signer"]);
    assert_eq!((&new["rotation"], new["believed"].as_array().map(Vec::len)), (&"none".into(), Some(1)));
    let (code, _, text) = world.run(&["--credentials", &other, "--timeout", "2s", "status"]);
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("was rotated away"), "{text}");
    assert_ne!(world.ok(&["cluster", "join-token", "manager", "-q"]), old_token);

    // New connections are made with the new certificates: between managers, of agents, of newcomers.
    world.testcluster(&["restart", "m2"]);
    world.testcluster(&["restart", "w1"]);
    world.testcluster(&["join", "m4"]);
    world.until("all are back", || {
        let peers = world.json(&["manager", "ls"]);
        let votes =
            |peer: &&Value| peer["reachable"] == true && (peer["role"] == "leader" || peer["role"] == "follower");
        let managers = peers.as_array().expect("a list").iter().filter(votes).count();
        let nodes = world.json(&["node", "ls"]);
        let ready = nodes.as_array().expect("a list").iter().filter(|node| node["state"] == "ready").count();
        (managers == 4 && ready == 3).then_some(())
    });
    assert_eq!(running(&world), before, "a task was restarted");
    assert_eq!(world.json(&["status"])["term"], term, "there was an election");
}

#[test]
fn a_removed_node_stops_what_it_runs_and_is_told_to_join_anew() {
    let world = World::up("process", &["--workers", "2"]);
    world.ok(&["run", "--name", "web", "--driver", "process", "--replicas", "2", "/bin/sleep", "98761"]);
    world.testcluster(&["pause", "w2"]);
    world.until("it is down", || {
        let node = world.json(&["node", "inspect", "w2"]);
        (node["state"] == "down").then_some(())
    });
    world.until("its task runs elsewhere too", || (sleepers() == 3).then_some(()));
    world.ok(&["node", "rm", "w2"]);
    world.testcluster(&["resume", "w2"]);
    let log = world.path("logs/w2.log");
    world.until("it ends", || {
        let log = std::fs::read_to_string(&log).expect("it has a log");
        log.contains("and its tasks were stopped: to let this machine take part again").then_some(())
    });
    let status = world.testcluster(&["status", "--json"]);
    let status: Value = serde_json::from_str(&status).expect("it is JSON");
    let members = status["members"].as_array().expect("a list");
    let w2 = members.iter().find(|member| member["name"] == "w2").expect("it is there");
    assert!(w2["condition"]["ended"].as_str().is_some_and(|how| how.contains('3')), "{w2}");
    assert_eq!(sleepers(), 2, "its task still runs");
}

#[test]
fn a_removed_managers_disk_opens_nothing_after_one_command() {
    let world = World::up("process", &[]);
    let secret = ["run", "--name", "vault", "--driver", "process", "--env", "KEY=1", "/bin/sleep", "1000"];
    world.ok(&secret);
    world.ok(&["run", "--name", "web", "--driver", "process", "/bin/sleep", "1000"]);
    let before = running(&world);
    let tokens = || ["manager", "worker"].map(|role| world.ok(&["cluster", "join-token", role, "-q"]));
    let (old_tokens, old_authority) = (tokens(), world.json(&["cluster", "ca"]));
    let leader = world.json(&["status"])["leader"].clone();
    let removed = ["m1", "m2", "m3"].into_iter().find(|name| leader != *name).expect("two others");
    let stolen = world.path("stolen.pem");
    std::fs::copy(world.path(&format!("{removed}/identity.pem")), &stolen).expect("it has one");
    let stolen = stolen.display().to_string();
    world.ok(&["--credentials", &stolen, "status"]);

    let (code, _, told) = world.run(&["manager", "rm", "--compromised", removed]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("vault") && !told.contains("web"), "services with an environment are named: {told}");
    assert_ne!(world.json(&["cluster", "ca"])["signer"], old_authority["signer"]);
    let new_tokens = tokens();
    assert!(old_tokens.iter().zip(&new_tokens).all(|(old, new)| old != new));
    let (code, _, refused) = world.run(&["--credentials", &stolen, "--timeout", "2s", "status"]);
    assert_eq!(code, 5, "{refused}");
    assert_eq!(running(&world), before, "a task was restarted");
}

/// Processes of this test's service.
fn sleepers() -> usize {
    let processes = std::fs::read_dir("/proc").expect("it is there").filter_map(Result::ok);
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with(b"/bin/sleep\0") && line.ends_with(b"98761\0")).count()
}
