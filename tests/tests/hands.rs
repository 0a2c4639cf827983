//! goatctl as people use it by hand, on a real cluster: short references, changes at the same time, fewer replicas, other
//! constraints, tasks that fail over and over.

#[allow(dead_code, reason = "each of these files uses its part of it")]
mod world;

use std::collections::BTreeSet;

use serde_json::Value;
use world::World;

fn rows(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().expect("it is text")
}

fn sleeper(world: &World, name: &str, more: &[&str]) {
    let run = ["run", "--name", name, "--driver", "process", "--stop-grace", "1s"];
    world.ok(&[&run[..], more, &["/bin/sleep", "100000"]].concat());
}

#[test]
fn the_beginning_of_an_id_reads_and_never_changes() {
    let world = World::up("process", &["--managers", "1", "--workers", "1"]);
    // No id holds a dash: no beginning of one is a name.
    let create = ["run", "-d", "-q", "--replicas", "0", "--driver", "process"];
    let ids: Vec<String> = (0..30)
        .map(|number| {
            world.ok(&[&create[..], &["--name", &format!("s-{number}"), "/bin/true"]].concat()).trim().to_owned()
        })
        .collect();
    let node = text(&rows(&world.json(&["node", "ls"]))[0], "id").to_owned();
    for (id, length) in ids.iter().flat_map(|id| [2, 5, 6, 11].map(|length| (id, length))).take(40) {
        let short = &id[..length];
        for change in [
            &["service", "rm", short][..],
            &["service", "scale", short, "0"],
            &["service", "update", short, "-e", "A=1"],
        ] {
            let (code, out, said) = world.run(change);
            assert_eq!((code, out.as_str()), (1, ""), "{change:?}: {said}");
            assert!(said.contains(&format!("no service {short:?}")), "{change:?}: {said}");
        }
        let (code, out, said) = world.run(&["service", "inspect", short]);
        assert_eq!(code, i32::from(length < 6), "{short}: {out}{said}");
    }
    for change in [&["node", "drain", &node[..8]][..], &["node", "rm", &node[..8]], &["node", "activate", &node[..8]]] {
        let (code, out, said) = world.run(change);
        assert_eq!((code, out.as_str()), (1, ""), "{change:?}: {said}");
    }
    assert_eq!(rows(&world.json(&["service", "ls"])).len(), 30, "nothing was removed");
    assert_eq!(world.json(&["service", "inspect", "s-7"])["spec"]["env"], serde_json::json!({}), "nothing was changed");
    assert_eq!(world.ok(&["service", "rm", &ids[7]]), format!("{}  s-7  removed\n", ids[7]), "a full id, and its name");
}

#[test]
fn twenty_updates_at_once_all_take_effect() {
    let world = World::up("process", &[]);
    world.ok(&["run", "--name", "web", "--driver", "process", "--replicas", "0", "/bin/true"]);
    let outcomes: Vec<(i32, String)> = std::thread::scope(|scope| {
        let update = |number: usize| {
            let variable = format!("K{number}={number}");
            let world = &world;
            scope.spawn(move || {
                let (code, _, said) = world.run(&["service", "update", "web", "-d", "--env", &variable]);
                (code, said)
            })
        };
        let running: Vec<_> = (0..20).map(update).collect();
        running.into_iter().map(|thread| thread.join().expect("no test thread panics")).collect()
    });
    let failed: Vec<_> = outcomes.iter().filter(|(code, _)| *code != 0).collect();
    assert!(failed.is_empty(), "{} of 20: {failed:?}", failed.len());
    let inspected = world.json(&["service", "inspect", "web"]);
    assert_eq!(inspected["spec"]["env"].as_object().map(serde_json::Map::len), Some(20), "{inspected}");
}

#[test]
fn scaling_down_stops_what_does_not_run() {
    let world = World::up("process", &[]);
    sleeper(&world, "v", &["--replicas", "3", "--max-per-node", "1"]);
    let before = world.json(&["service", "ps", "v", "--current"]);
    let running: Vec<&str> = rows(&before)[1..].iter().map(|row| text(row, "id")).collect();
    world.ok(&["node", "drain", text(&before[0], "node")]);
    let said = world.ok(&["service", "scale", "v", "2"]);
    assert!(said.contains("v  converged  2/2 running"), "{said}");
    let after = world.json(&["service", "ps", "v", "--current"]);
    let left: Vec<&str> = rows(&after).iter().map(|row| text(row, "id")).collect();
    assert_eq!(left, running, "those that ran before: {after}");
}

#[test]
fn a_changed_constraint_moves_what_runs_or_says_that_it_cannot() {
    let world = World::up("process", &[]);
    sleeper(&world, "z", &["--replicas", "3"]);
    let said = world.ok(&["service", "update", "z", "--constraint", "node.name==w2"]);
    assert!(said.contains("3/3 running"), "{said}");
    let nodes = |world: &World| -> BTreeSet<String> {
        rows(&world.json(&["service", "ps", "z", "--current"])).iter().map(|row| text(row, "node").to_owned()).collect()
    };
    assert_eq!(nodes(&world), BTreeSet::from(["w2".to_owned()]));
    let (code, out, said) = world.run(&["service", "update", "z", "--max-per-node", "1"]);
    assert_eq!((code, out.as_str()), (3, ""), "{said}");
    assert!(said.contains("3 of 3 tasks of z run where its placement excludes them"), "{said}");
    world.ok(&["service", "update", "z", "--constraint", "node.name!=w9"]);
    assert_eq!(nodes(&world).len(), 3, "one on each");
}

#[test]
fn the_output_of_a_crash_loop_is_shown_while_the_next_attempt_waits() {
    let world = World::up("process", &["--managers", "1", "--workers", "1"]);
    let fails = "echo attempt of $GOAT_SERVICE; exit 1";
    let (code, _, said) =
        world.run(&["run", "--name", "k", "--driver", "process", "--restart-delay", "1m", "/bin/sh", "-c", fails]);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("k.1 failed 2 times") && said.contains("| attempt of k"), "{said}");
    let waiting = world.json(&["service", "ps", "k", "--current"]);
    assert_eq!(text(&waiting[0], "state"), "pending", "{waiting}");
    for reference in ["k.1", "k"] {
        assert_eq!(world.ok(&["task", "logs", reference]), "attempt of k\n", "{reference}");
    }
    sleeper(&world, "two", &["--replicas", "2"]);
    let (code, _, said) = world.run(&["task", "logs", "two"]);
    assert!(code == 1 && said.contains("as two.1"), "{code}: {said}");
}

#[test]
fn wrong_values_are_refused_in_the_words_that_were_typed() {
    let world = World::up("process", &["--managers", "1", "--workers", "1"]);
    let refused = |more: &[&str], part: &str| {
        let (code, out, said) = world.run(&[&["run", "-d"][..], more, &["bb:1"]].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{more:?}: {said}");
        assert!(said.contains(part), "{more:?}: {said}");
    };
    refused(&["--limit-memory", "1MiB"], "error: --limit-memory: 1048576 is below");
    refused(
        &["--health-tcp", "80", "--health-timeout", "20s"],
        "error: --health-timeout: 20000 ms must be above 0 and at most --health-interval",
    );
    refused(&["--name", "X"], "error: --name: \"X\" is not a name");
    for source in ["./data", "data/sub", "~/x"] {
        refused(
            &["--mount", &format!("{source}:/d")],
            &format!("error: --mount: the source {source:?} is neither an absolute path"),
        );
    }
    refused(&["--replica", "3"], "unexpected argument '--replica'");
    assert_eq!(rows(&world.json(&["service", "ls"])).len(), 0);

    // A name whose service is on its way out.
    let stubborn = "trap '' TERM; while :; do sleep 1; done";
    world.ok(&["run", "--name", "w37", "--driver", "process", "--stop-grace", "20s", "/bin/sh", "-c", stubborn]);
    world.ok(&["service", "rm", "-d", "w37"]);
    let (code, _, said) = world.run(&["run", "-d", "--name", "w37", "--driver", "process", "/bin/true"]);
    assert!(
        code == 1 && said.contains("is being removed, and its name is free when its last task has ended"),
        "{said}"
    );
}
