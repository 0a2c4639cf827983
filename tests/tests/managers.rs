//! Managers come and go, and workers keep up with that.

#[allow(dead_code, reason = "each of these files uses its part of it")]
mod world;

use serde_json::Value;
use world::World;

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array().expect("a list").iter().find(|row| row["name"] == name)
}

#[test]
fn a_worker_finds_managers_that_joined_while_it_held_one_session() {
    let world = World::up("process", &["--managers", "1", "--spare-managers", "2", "--workers", "1"]);
    world.ok(&["run", "--name", "web", "--driver", "process", "/bin/sleep", "1000"]);
    let task = world.json(&["task", "ls"])[0]["id"].clone();
    for name in ["m2", "m3"] {
        world.testcluster(&["join", name]);
        world.until("it votes", || {
            let peers = world.json(&["manager", "ls"]);
            named(&peers, name).is_some_and(|peer| peer["role"] == "follower").then_some(())
        });
    }
    // The only one that the worker was told of when it was started.
    world.testcluster(&["kill", "m1"]);
    world.until("another leads", || {
        let (code, out, _) = world.run(&["-o", "json", "status"]);
        (code == 0 && !out.contains(r#""leader": "m1""#)).then_some(())
    });
    world.until("the worker has a session again", || {
        let nodes = world.json(&["node", "ls"]);
        let node = named(&nodes, "w1").expect("it is known");
        assert_ne!(node["state"], "down", "its task has been given up");
        (node["state"] == "ready").then_some(())
    });
    // A new leader takes every node for ready until its time is over: what is new has to arrive there.
    world.ok(&["service", "scale", "web", "2"]);
    let tasks = world.json(&["task", "ls"]);
    assert!(tasks.as_array().expect("a list").iter().any(|known| known["id"] == task), "it was restarted");
}
