//! Every command of testcluster on a real cluster with the process runtime.

mod common;

use common::{World, is_running, left_over, testcluster, text, wait_for};

#[test]
fn a_cluster_comes_up_echoes_survives_what_is_done_to_it_and_leaves_nothing() {
    let world = World::new();
    let printed = world.up(&[]);
    assert!(printed.contains(&format!("curl -X POST localhost:{}/", world.port)), "{printed}");
    wait_for("echo answers", || world.echoes("hello"));
    assert!(world.ok(&["env"]).starts_with("export GOAT_ADDR=127."));
    assert!(world.fails(&["up", "-d", "--runtime", "process"], 1).contains("a cluster runs in"));

    let leader = world.ok(&["kill", "leader"]).trim().trim_start_matches("killed ").to_owned();
    assert_eq!(world.condition(&leader), "stopped");
    assert!(world.echoes("without a leader"), "managers are not in the way of echo");
    assert!(world.fails(&["kill", &leader], 1).contains("does not run"));
    world.ok(&["start", &leader]);
    assert!(world.fails(&["start", &leader], 1).contains("runs already"));

    world.ok(&["pause", "w1"]);
    assert_eq!(world.condition("w1"), "paused");
    world.ok(&["resume", "w1"]);
    assert_eq!(world.condition("w1"), "running");

    world.ok(&["cut", "w1", "m1"]);
    world.ok(&["cut", "m2", "m3", "--one-way"]);
    world.ok(&["delay", "w2", "m2", "20"]);
    let status = world.ok(&["status"]);
    for line in ["m1 -> w1: cut", "w1 -> m1: cut", "m2 -> m3: cut", "w2 -> m2: 20 ms", "m2 -> w2: 20 ms"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert!(!status.contains("m3 -> m2"), "{status}");
    world.ok(&["heal"]);
    assert!(!world.ok(&["status"]).contains("link"));
    assert!(world.ok(&["isolate", "w1"]).contains("6 links cut"));
    assert!(world.ok(&["partition", "m1,w1", "/", "m2,m3,w2"]).contains("parted m1,w1 from m2,m3,w2 (6 links cut)"));
    assert!(world.fails(&["partition", "m1"], 2).contains("two groups are expected"));
    assert!(world.fails(&["partition", "m1 / m1,m2"], 2).contains("m1 is in both groups"));
    world.ok(&["heal"]);
    let logs = world.ok(&["logs", "m1", "--tail", "1000"]);
    assert!(logs.contains("listening"), "{logs}");

    world.ok(&["kill", "w1", "--with-tasks"]);
    wait_for("echo answers", || world.echoes("without w1"));
    world.ok(&["start", "w1"]);
    world.ok(&["restart", "follower"]);
    world.ok(&["stop", "w2"]);
    assert!(world.echoes("tasks outlive their agent"));

    let pids = world.pids();
    world.ok(&["down"]);
    assert!(pids.into_iter().all(|pid| !is_running(pid)));
    assert_eq!(left_over(&world.dir), Vec::<String>::new());
    assert!(!world.dir.exists());
    assert!(world.fails(&["status"], 1).contains("start one with `testcluster up`"));
}

#[test]
fn links_and_disks_are_slowed_down_and_fast_again() {
    let world = World::new();
    world.up(&["--workers", "1", "--no-echo", "--slow-disks"]);
    let shaped = world.ok(&["link", "managers", "managers", "--delay", "50ms", "--jitter", "20ms", "--loss", "1%"]);
    assert!(shaped.contains("3 links: 50 ms ± 20 ms, 1 % loss"), "{shaped}");
    world.ok(&["link", "w1", "m1,m2", "--rate", "1mbit", "--one-way"]);
    world.ok(&["slow-disk", "managers", "30ms"]);
    world.ok(&["slow-disk", "m2", "0ms"]);
    let status = world.ok(&["status"]);
    for line in ["m2 -> m1: 50 ms ± 20 ms, 1 % loss", "w1 -> m2: 1000 kbit/s", "disk  m3: 30 ms"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert!(!status.contains("m2 -> w1") && !status.contains("disk  m2"), "{status}");
    world.ok(&["link", "managers", "managers"]);
    assert!(!world.ok(&["status"]).contains("loss"));
    world.ok(&["heal"]);
    assert!(!world.ok(&["status"]).contains("link"));
    assert!(world.fails(&["link", "m1", "m1"], 2).contains("there is no link between m1 and m1"));
    assert!(world.fails(&["link", "m1", "m2", "--rate", "fast"], 2).contains("kbit, mbit or gbit"));
    assert!(world.fails(&["slow-disk", "w1", "1ms"], 2).contains("only the disks of managers"));
    assert!(world.fails(&["slow-disk", "m1", "11s"], 2).contains("is more than 10000 ms"));
    world.ok(&["down"]);
    assert_eq!(left_over(&world.dir), Vec::<String>::new());
}

#[test]
fn what_a_killed_supervisor_left_is_ended_by_the_next_one() {
    let world = World::new();
    world.up(&["--managers", "1", "--workers", "1"]);
    wait_for("echo answers", || world.echoes("hello"));
    let left = world.pids();
    let supervisor = world.status()["pid"].as_i64().expect("a number");
    world.kill(supervisor);
    assert!(left.iter().all(|pid| is_running(*pid)), "it could not take them along");
    world.up(&["--managers", "1", "--workers", "0", "--no-echo"]);
    assert!(left.into_iter().all(|pid| !is_running(pid)));
    world.ok(&["down"]);
    assert_eq!(left_over(&world.dir), Vec::<String>::new());
}

#[test]
fn what_a_killed_supervisor_left_is_ended_by_down() {
    let world = World::new();
    world.up(&["--managers", "1", "--workers", "1"]);
    let left = world.pids();
    world.kill(world.status()["pid"].as_i64().expect("a number"));
    let said = world.fails(&["status"], 1);
    assert!(said.contains("was killed; `testcluster --dir") && said.contains("down` ends what it left"), "{said}");
    assert!(left.iter().all(|pid| is_running(*pid)));
    assert!(world.ok(&["down"]).contains("the supervisor had been killed"));
    assert!(left.into_iter().all(|pid| !is_running(pid)));
    assert_eq!(left_over(&world.dir), Vec::<String>::new());
    assert!(!world.dir.exists() && !world.dir.with_extension("log").exists());
    assert!(world.fails(&["down"], 1).contains("no cluster runs in"));
}

#[test]
fn a_cluster_that_was_taken_down_and_kept_is_not_taken_for_a_killed_one() {
    let world = World::new();
    world.up(&["--managers", "1", "--workers", "0", "--no-echo"]);
    world.ok(&["down", "--keep"]);
    assert!(world.dir.join("logs/m1.log").exists());
    assert!(world.fails(&["status"], 1).contains("no cluster runs in"));
    assert!(world.fails(&["down"], 1).contains("no cluster runs in"));
}

#[test]
fn a_directory_that_others_can_write_to_is_not_believed() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    world.up(&["--managers", "1", "--workers", "0", "--no-echo"]);
    std::fs::set_permissions(&world.dir, std::fs::Permissions::from_mode(0o777)).expect("set");
    for command in ["env", "down"] {
        assert!(world.fails(&[command], 1).contains("can be written to by other users"), "{command}");
    }
    assert!(!left_over(&world.dir).is_empty(), "nothing was done");
    std::fs::set_permissions(&world.dir, std::fs::Permissions::from_mode(0o700)).expect("set");
    world.ok(&["down"]);
}

#[test]
fn wrong_usage_changes_nothing_and_says_what_is_right() {
    let world = World::new();
    assert!(world.fails(&["up", "--managers", "0"], 2).contains("0 is not in 1..=9"));
    assert!(world.fails(&["drill", "earthquake"], 2).contains("leader-kill"));
    assert!(world.fails(&["drill", "leader-kill", "--load", "0"], 2).contains("--load"));
    std::fs::create_dir_all(&world.dir).expect("made");
    std::fs::write(world.dir.join("precious"), "x").expect("written");
    let refused = world.fails(&["up", "--runtime", "process"], 2);
    assert!(refused.contains("is not empty and not a test cluster's"), "{refused}");
    assert!(world.dir.join("precious").exists());
    std::fs::remove_file(world.dir.join("precious")).expect("removed");

    world.up(&["--managers", "1", "--workers", "1", "--no-echo"]);
    assert!(world.fails(&["kill", "m7"], 2).contains("its members are m1, w1"));
    assert!(world.fails(&["kill", "m1", "--with-tasks"], 2).contains("is no worker"));
    assert!(world.fails(&["cut", "w1", "w1"], 2).contains("there is no link between w1 and w1"));
    assert_eq!(world.condition("m1"), "running");
    world.ok(&["down"]);
}

#[test]
fn the_port_of_echo_may_be_taken_and_that_is_said() {
    let world = World::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", world.port)).expect("it is free");
    let port = world.port.to_string();
    let said =
        world.fails(&["up", "-d", "--runtime", "process", "--managers", "1", "--workers", "1", "--port", &port], 1);
    assert!(said.contains("give another --port"), "{said}");
    drop(taken);
    assert_eq!(left_over(&world.dir), Vec::<String>::new());
}

#[test]
fn drills_are_listed() {
    let listed = testcluster(&["drill", "list"]);
    assert!(listed.status.success());
    let listed = text(&listed.stdout);
    for line in ["\nmanagers\n", "\nmachine and partitions\n", "  leader-kill ", "  worker-kill ", "  agent-restart "] {
        assert!(listed.contains(line), "{line} in {listed}");
    }
}
