//! Reading: the JSON that scripts rely on, ids alone, tables, and streams.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;

use goat_proto::v1::{Event, Peer};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tonic::Code;

use crate::fake::{CREATED_MS, Fate, LongLog, World};
use crate::run::{command, goatctl, start};
use crate::server::{Fault, KEEPALIVE, Manager};

fn fields(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("it is an object").keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_as_json_have_exactly_the_fields_that_scripts_rely_on() {
    let world = World::new().with_service("web", 1);
    world.change(|state| {
        state.peers.push(Peer { id: 1, name: "m1".into(), role: "leader".into(), ..Default::default() })
    });
    let manager = Manager::start(&world);
    let task = "id service slot node state desired attempt exit_code error created_at started_at container_id \
                cause reason finished_at next_attempt_at waits_for misplaced";
    let expected = [
        ("node ls", "id name state availability drain_until address labels tasks max_tasks problems"),
        ("task ls", task),
        ("service ps web", task),
        ("service ls", "id name replicas_desired replicas_running image"),
        (
            "operator raft list-peers",
            "id name address role standing reachable term last_log_index applied_index version format round_trip_us fsync_us problem",
        ),
    ];
    for (line, names) in expected {
        let json = goatctl(&manager.address, &format!("{line} -o json")).await.json();
        let rows = json.as_array().expect("it is a list");
        assert_eq!(rows.len(), 1, "{line}");
        assert_eq!(fields(&rows[0]), names.split_whitespace().collect(), "{line}");
    }
    let status = goatctl(&manager.address, "status -o json").await.json();
    let names = "cluster_id leader term managers nodes services tasks version format warnings";
    assert_eq!(fields(&status), names.split(' ').collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn absence_is_null_and_times_are_in_utc() {
    let world = World::new().with_service("web", 1);
    let manager = Manager::start(&world);
    let row = &goatctl(&manager.address, "task ls -o json").await.json()[0];
    assert_eq!(row["created_at"], "2023-11-14T22:13:20Z");
    assert_eq!(row["started_at"], "2023-11-14T22:13:21.5Z");
    assert_eq!((&row["exit_code"], &row["error"], &row["node"]), (&Value::Null, &Value::Null, &json!("w1")));
    world.change(|state| {
        state.fate = Fate::Stay("pending", "no node fits");
        state.settle();
        state.tasks[0].node.clear();
        state.tasks[0].started_at_ms = None;
    });
    let row = &goatctl(&manager.address, "task ls -o json").await.json()[0];
    assert_eq!((&row["node"], &row["started_at"], &row["error"]), (&Value::Null, &Value::Null, &json!("no node fits")));
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_lists_are_ids_or_names_one_a_line() {
    let world = World::new().with_service("web", 2);
    world.change(|state| state.peers.push(Peer { id: 1, name: "m1".into(), ..Default::default() }));
    let manager = Manager::start(&world);
    assert_eq!(goatctl(&manager.address, "service ls -q").await.lines(), ["service00101"]);
    assert_eq!(goatctl(&manager.address, "task ls -q").await.lines(), ["task00000102", "task00000103"]);
    assert_eq!(goatctl(&manager.address, "service ps web --quiet").await.lines(), ["task00000102", "task00000103"]);
    assert_eq!(goatctl(&manager.address, "node ls -q").await.lines(), ["w1"]);
    assert_eq!(goatctl(&manager.address, "operator raft list-peers -q").await.lines(), ["m1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_shows_what_was_before_and_when_the_next_attempt_is_due() {
    let world = World::new().with_service("web", 1);
    let soon_ms = 1_000 * (jiff::Timestamp::now().as_second() as u64 + 3_600);
    world.change(|state| {
        let mut earlier = state.tasks[0].clone();
        (earlier.id, earlier.state, earlier.exit_code) = ("earlier00000".into(), "failed".into(), Some(3));
        (earlier.reason, earlier.error) = ("unhealthy".into(), "status 503".into());
        earlier.finished_at_ms = Some(CREATED_MS + 2_000);
        let newest = &mut state.tasks[0];
        (newest.attempt, newest.cause) = (2, "health".into());
        newest.node.clear();
        newest.not_before_ms = soon_ms;
        state.tasks.insert(0, earlier);
        state.fate = Fate::Stay("pending", "");
    });
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "service ps web").await;
    let cells = cells(&ended);
    assert_eq!(cells[0], ["ID", "NAME", "ATTEMPT", "CAUSE", "NODE", "STATE", "SINCE", "EXIT CODE", "REASON", "DETAIL"]);
    assert_eq!(cells[1][..6], ["task00000102", "web.1", "2", "health", "-", "pending"]);
    assert!(cells[1][9].starts_with("next attempt in "), "{cells:?}");
    assert_eq!(cells[2][..6], ["earlier00000", "└ web.1", "1", "user", "w1", "failed"]);
    assert_eq!(cells[2][7..], ["3", "unhealthy", "status 503"]);
    assert_eq!(goatctl(&manager.address, "service ps web --current").await.lines().len(), 2);

    let rows = goatctl(&manager.address, "service ps web -o json").await.json();
    assert_eq!((&rows[0]["cause"], &rows[1]["reason"]), (&json!("health"), &json!("unhealthy")));
    assert_eq!(rows[1]["finished_at"], "2023-11-14T22:13:22Z");
    assert_eq!(
        rows[0]["next_attempt_at"],
        jiff::Timestamp::from_second(soon_ms as i64 / 1_000).expect("a time").to_string()
    );
    let page = goatctl(&manager.address, "task inspect task00000102").await;
    assert!(page.lines().iter().any(|line| line.starts_with("Next attempt:")), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_for_people_and_as_json_they_hold_everything() {
    let world = World::new().with_service("web", 1);
    let manager = Manager::start(&world);
    for line in ["service inspect web", "task inspect task00000102", "node inspect w1", "status"] {
        let page = goatctl(&manager.address, line).await;
        let lines = page.lines();
        assert!(lines.len() > 5 && lines.iter().all(|line| line.contains(':')), "{line}: {lines:?}");
    }
    let service = goatctl(&manager.address, "service inspect web -o json").await.json();
    assert_eq!((&service["name"], &service["spec"]["image"]), (&json!("web"), &json!("echo:1")));
    let task = goatctl(&manager.address, "task inspect task00000102 -o json").await.json();
    assert_eq!((&task["filters"][0]["nodes"], &task["history"][0]["slot"]), (&json!(3), &json!(1)));
    let node = goatctl(&manager.address, "node inspect w1 -o json").await.json();
    assert_eq!((&node["labels"]["zone"], &node["inventory"]["drivers"][0]), (&json!("a"), &json!("docker")));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_status_shows_what_a_manager_knows_and_fails() {
    let world = World::new();
    let manager = Manager::start(&world);
    manager.always(Some(Fault::Refuse(Code::Unavailable, "no leader: m2 and m3 do not answer")));
    let ended = goatctl(&manager.address, "status --timeout 1s -o json").await;
    assert_eq!(ended.code, 5);
    let status: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    assert_eq!((&status["leader"], &status["term"]), (&Value::Null, &json!(3)));
    assert!(ended.stderr.contains("last heard from a leader 4s ago"), "{ended:?}");
    assert!(ended.stderr.contains("no leader: m2 and m3 do not answer"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_go_to_the_stream_that_they_came_from() {
    let world = World::new().with_service("web", 1);
    let manager = Manager::start(&world);
    let ended = goatctl(&manager.address, "task logs web.1 --tail 5 -t").await;
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (0, "to out\n", "to err\n"));
    let request = world.state.lock().log_requests[0].clone();
    assert_eq!((request.reference.as_str(), request.tail, request.timestamps), ("web.1", Some(5), true));
}

fn event(index: u64, to: &str) -> Event {
    Event { index, kind: "task".into(), name: "web.1".into(), to: to.into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_at_another_manager_without_a_gap_or_a_repeat() {
    let world = World::new();
    let (first, second) = (Manager::start(&world), Manager::start(&world));
    world.emit([event(7, "assigned"), event(8, "running"), event(8, "other")]);
    let mut running = start(&format!("{},{}", first.address, second.address), "events -f --tail 2 -o json");
    let to = async |running: &mut crate::run::Running| {
        let line = running.next_line().await;
        let event: Value = serde_json::from_str(&line).expect("each line is an object");
        event["to"].as_str().expect("it is text").to_owned()
    };
    assert_eq!([to(&mut running).await, to(&mut running).await], ["running", "other"]);
    drop(first);
    world.emit([event(8, "third of 8"), event(9, "failed")]);
    assert_eq!([to(&mut running).await, to(&mut running).await], ["third of 8", "failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_past_end() {
    let world = World::new();
    let manager = Manager::start(&world);
    world.emit([event(7, "assigned"), event(8, "running")]);
    let ended = goatctl(&manager.address, "events --since-index 8").await;
    assert_eq!(ended.lines().len(), 1);
    assert!(ended.stdout.contains("web.1  running"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_early_ends_the_command_quietly() {
    let world = World::new().with_service("web", 1);
    let manager = Manager::start(&world);
    let (reader, writer) = std::io::pipe().expect("there are pipes");
    drop(reader);
    let output = command(&manager.address, "service ls").stdout(Stdio::from(writer)).output().await.expect("it starts");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// The header of a table and its rows, by columns that at least three blanks part.
fn cells(ended: &crate::run::Ended) -> Vec<Vec<&str>> {
    let mut rows = Vec::new();
    for line in ended.lines() {
        rows.push(line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect());
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_a_header_and_a_row_for_each() {
    let world = World::new().with_service("web", 1);
    world.change(|state| {
        let (name, address, role) = ("m1".into(), "127.0.0.1:1".into(), "leader".into());
        let progress = Peer { term: 3, last_log_index: 9, applied_index: 8, ..Peer::default() };
        let build = Peer { version: "0.1.0".into(), format: 1, ..progress };
        state.peers.push(Peer { id: 1, name, address, role, reachable: true, ..build });
        let (name, address, role) = ("m2".into(), "127.0.0.1:2".into(), "follower".into());
        state.peers.push(Peer { id: 2, name, address, role, ..Peer::default() });
    });
    let manager = Manager::start(&world);
    for (line, header, row) in [
        ("service ls", "ID NAME RUNNING IMAGE PORTS CREATED", vec!["service00101", "web", "1/1", "echo:1"]),
        ("task ls", "ID NAME NODE STATE WANTED SINCE ATTEMPT PROBLEM", vec!["task00000102", "web.1", "w1", "running"]),
        ("node ls", "ID NAME STATE AVAILABILITY ADDRESS TASKS CPU MEMORY SINCE PROBLEM", vec!["node0000000w1", "w1"]),
        (
            "operator raft list-peers",
            "ID|NAME|ADDRESS|ROLE|REACHABLE|TERM|LAST LOG INDEX|APPLIED INDEX|VERSION|FORMAT",
            vec!["1", "m1", "127.0.0.1:1", "leader", "yes", "3", "9", "8", "0.1.0", "1"],
        ),
    ] {
        let ended = goatctl(&manager.address, line).await;
        let cells = cells(&ended);
        assert_eq!(cells[0], header.split(if header.contains('|') { '|' } else { ' ' }).collect::<Vec<_>>(), "{line}");
        assert_eq!(&cells[1][..row.len()], &row[..], "{line}");
    }
    let ended = goatctl(&manager.address, "operator raft list-peers").await;
    assert_eq!(
        cells(&ended)[2][4..],
        ["no", "-", "-", "-", "-", "-"],
        "nothing is known of a manager that is not reached"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_says_what_it_ends() {
    let manager = Manager::start(&World::new());
    let upgraded = goatctl(&manager.address, "cluster upgrade").await.stdout;
    assert_eq!(upgraded, "format 2 is in use from now on; managers that read only format 1 are refused\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anything_a_list_is_a_header_an_empty_array_or_nothing() {
    let world = World::new();
    let manager = Manager::start(&world);
    assert_eq!(goatctl(&manager.address, "service ls").await.lines().len(), 1);
    assert_eq!(goatctl(&manager.address, "service ls -o json").await.json(), json!([]));
    assert_eq!(goatctl(&manager.address, "service ls -q").await.stdout, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_of_one_service_one_node_or_one_state() {
    let world = World::new().with_service("web", 1).with_service("api", 1);
    world.change(|state| {
        let mut ended = state.tasks[0].clone();
        (ended.id, ended.state, ended.node) = ("ended0000000".into(), "failed".into(), "w2".into());
        state.tasks.push(ended);
        state.nodes.push(crate::fake::node("w2", 0));
        state.nodes[1].state = "down".into();
    });
    let manager = Manager::start(&world);
    for (line, ids) in [
        ("task list -q", vec!["task00000104", "task00000102"]),
        ("task ls -q --all", vec!["task00000104", "ended0000000", "task00000102"]),
        ("task ls -q --service web", vec!["task00000102"]),
        ("task ls -q --node w2 -a", vec!["ended0000000"]),
        ("task ls -q --state failed", vec!["ended0000000"]),
        ("node ls -q", vec!["w1", "w2"]),
        ("node ls -q --state down", vec!["w2"]),
    ] {
        let mut found =
            goatctl(&manager.address, line).await.lines().iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let mut ids = ids;
        found.sort();
        ids.sort_unstable();
        assert_eq!(found, ids, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_read_says_whose_it_is_and_how_old() {
    let world = World::new();
    let manager = Manager::start(&world);
    manager.always(Some(Fault::Refuse(Code::Unavailable, "no leader")));
    let ended = goatctl(&manager.address, "status --stale -o json").await;
    assert_eq!(ended.json()["term"], json!(3));
    let expected = format!("stale: from {}, which last heard from the leader 4s ago\n", manager.address);
    assert_eq!(ended.stderr, expected);
}

/// As in `goatctl task logs big.1 | less`.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_pauses_gets_all_of_the_output() {
    let world = World::new().with_service("web", 1);
    let is_stalled = Arc::new(Notify::new());
    // Longer than the manager waits for the answer to a ping, and more than pipes and windows hold.
    let (line, lines_a_piece, pieces) = ("a line of output that is not very long\n", 1_000, 600);
    let stalled = 3 * KEEPALIVE;
    let long = LongLog { line, lines_a_piece, pieces, stalled, is_stalled: is_stalled.clone() };
    world.change(|state| state.long_log = Some(long));
    let manager = Manager::start(&world);
    let mut reader = command(&manager.address, "task logs web.1").spawn().expect("it starts");
    is_stalled.notified().await;
    let mut output = String::new();
    let mut stdout = reader.stdout.take().expect("it is piped");
    stdout.read_to_string(&mut output).await.expect("it is text");
    let mut errors = String::new();
    reader.stderr.take().expect("it is piped").read_to_string(&mut errors).await.expect("it is text");
    assert_eq!(output.lines().count(), lines_a_piece * pieces, "{errors}");
    assert!(reader.wait().await.expect("it ends").success(), "{errors}");
}
