//! What a running cluster shows of itself: health pages, metrics as documented, a bug report without secrets.

#[allow(dead_code, reason = "each file of tests uses a part")]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use goat_tests::tree::root;
use serde_json::Value;
use world::World;

const MANAGERS: [&str; 3] = ["m1", "m2", "m3"];
const PORT: u16 = 7790;

/// Where a member's pages are, by its number on the cluster's subnet.
fn pages(world: &World, name: &str) -> String {
    let first = world.addresses().split(',').next().expect("there is a manager");
    let subnet = first.rsplit_once('.').expect("an IPv4 address").0;
    let number: u8 = name[1..].parse().expect("a member's number");
    format!("{subnet}.{}:{PORT}", if name.starts_with('w') { 10 + number } else { number })
}

/// The status and the text of a page.
fn get(world: &World, name: &str, page: &str) -> (u16, String) {
    let address = pages(world, name);
    let mut stream = TcpStream::connect(&address).unwrap_or_else(|error| panic!("{name} at {address}: {error}"));
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    write!(stream, "GET {page} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("one answer a connection");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") { unchunked(body) } else { body.into() };
    (status, body)
}

fn unchunked(mut rest: &str) -> String {
    let mut text = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        text.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").unwrap_or_default();
    }
    text
}

/// Kind and labels.
type Declared = BTreeMap<String, (String, BTreeSet<String>)>;

/// The tables of docs/metrics.md below some headings.
fn documented(headings: &[&str]) -> Declared {
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).expect("it is in the tree");
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut found = Declared::new();
    let sections = page.split("\n## ").filter(|section| headings.iter().any(|heading| section.starts_with(heading)));
    for line in sections.flat_map(str::lines).filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').collect();
        let name = words(cells[1]).remove(0);
        found.insert(name, (cells[2].trim().to_owned(), words(cells[3]).into_iter().collect()));
    }
    found
}

/// What a scrape has.
fn shown(text: &str) -> Declared {
    let mut found = Declared::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').expect("name and kind");
            assert!(found.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new())).is_none(), "twice: {line}");
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
            value.parse::<f64>().unwrap_or_else(|error| panic!("{line}: {error}"));
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let name = stem.filter(|stem| found.contains_key(*stem)).unwrap_or(name);
            let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| Some(label.split_once("=\"")?.0));
            let known = &mut found.get_mut(name).unwrap_or_else(|| panic!("no TYPE before {line}")).1;
            known.extend(labels.filter(|label| *label != "le").map(str::to_owned));
        }
    }
    found
}

fn assert_as_documented(name: &str, text: &str, headings: &[&str]) {
    let (documented, shown) = (documented(headings), shown(text));
    let names = |declared: &Declared| declared.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&shown), names(&documented), "{name}");
    for (metric, (kind, labels)) in shown {
        let (documented_kind, documented_labels) = &documented[&metric];
        assert_eq!(kind, *documented_kind, "{metric}");
        // One without a value at the moment has no labels either.
        assert!(labels.is_empty() || labels == *documented_labels, "{metric}: {labels:?}");
    }
}

fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn every_member_shows_what_is_documented_and_says_when_it_cannot_serve() {
    let world = World::up("process", &["--managers", "3", "--workers", "1"]);
    let create = ["service", "create", "--name", "web", "--driver", "process", "--on-disconnect", "keep"];
    world.ok(&[&create[..], &["/bin/sleep", "1000"]].concat());
    let of_managers = MANAGERS.map(|name| get(&world, name, "/metrics").1);
    for (name, text) in MANAGERS.iter().zip(&of_managers) {
        assert_as_documented(name, text, &["Managers", "Every process"]);
        assert_eq!(value(text, "goat_tasks{state=\"running\"}"), Some(1.0), "{name}");
        assert_eq!(value(text, "goat_nodes{state=\"ready\"}"), Some(1.0), "{name}");
    }
    let leading: Vec<_> = of_managers.iter().filter(|text| value(text, "goat_raft_is_leader") == Some(1.0)).collect();
    let [leader] = leading[..] else { panic!("{} managers lead", leading.len()) };
    assert_eq!(value(leader, "goat_dispatcher_sessions"), Some(1.0));
    assert!(value(leader, "goat_raft_proposals_total{outcome=\"done\"}") > Some(0.0), "{leader}");
    let of_worker = get(&world, "w1", "/metrics").1;
    assert_as_documented("w1", &of_worker, &["Workers", "Every process"]);
    assert_eq!(value(&of_worker, "goat_worker_starts_total{outcome=\"started\"}"), Some(1.0));
    for name in [&MANAGERS[..], &["w1"]].concat() {
        assert_eq!(get(&world, name, "/healthz").0, 200, "{name}");
        world.until("it is ready", || (get(&world, name, "/readyz").0 == 200).then_some(()));
        assert_eq!(get(&world, name, "/other").0, 404);
    }

    world.testcluster(&["kill", "m2"]);
    world.testcluster(&["kill", "m3"]);
    let told = world.until("m1 says that it cannot serve, and whom it misses", || {
        let (status, text) = get(&world, "m1", "/readyz");
        (status == 503 && ["m2", "m3"].iter().all(|name| text.contains(name))).then_some(text)
    });
    assert!(told.starts_with("not ready: ") && told.contains("no quorum"), "{told}");
    assert_eq!(get(&world, "m1", "/healthz").0, 200, "it lives all the same");
    let told = world.until("the worker misses its leader", || {
        let (status, text) = get(&world, "w1", "/readyz");
        (status == 503).then_some(text)
    });
    assert_eq!(told, "not ready: no session with a leader\n");
    world.testcluster(&["start", "m2"]);
    world.until("two are enough", || (get(&world, "m1", "/readyz").0 == 200).then_some(()));
}

/// Names of metrics in an expression.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("goat_") || word.starts_with("process_")).map(str::to_owned).collect()
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| expressions(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn the_board_and_the_page_use_only_metrics_that_exist() {
    let documented = documented(&["Managers", "Workers", "Every process"]);
    let text = std::fs::read_to_string(root().join("deploy/grafana/goat.json")).expect("it is in the tree");
    let board: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut used = Vec::new();
    expressions(&board, &mut used);
    assert!(used.len() > 30, "{} expressions", used.len());
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).expect("it is in the tree");
    used.extend(page.split("## What to watch").nth(1).expect("the page has it").lines().map(str::to_owned));
    for expression in used {
        for name in metrics_in(&expression) {
            let is_histogram = |stem: &str| documented.get(stem).is_some_and(|(kind, _)| kind == "histogram");
            let of_histogram =
                ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end)).any(is_histogram);
            let is_known = of_histogram || (documented.contains_key(&name) && !is_histogram(&name));
            assert!(is_known, "no metric {name}: {expression}");
        }
    }
}

fn unpack(archive: &Path, dir: &Path) {
    let status = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(dir).status().expect("there is tar");
    assert!(status.success());
}

/// Every file below, with its text.
fn texts(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("it is there").path()) {
        match entry.is_dir() {
            true => found.extend(texts(&entry)),
            false => {
                let text = String::from_utf8(std::fs::read(&entry).expect("it can be read")).expect("text");
                found.push((entry.display().to_string(), text));
            }
        }
    }
    found
}

/// The lines of a PEM file's private keys.
fn key_lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let blocks = text.split("-----BEGIN PRIVATE KEY-----").skip(1);
    let lines = blocks.flat_map(|block| block.split("-----END").next().unwrap_or_default().lines());
    lines.map(str::trim).filter(|line| line.len() > 20).map(str::to_owned).collect()
}

const PLANTED: &str = "planted-secret-7c1f";

/// What no bug report may tell: a service's environment, join tokens, every private key that there is.
fn plant_secrets(world: &World) -> Vec<String> {
    let create = ["service", "create", "--name", "web", "--driver", "process", "--on-disconnect", "keep"];
    let env = format!("PASSWORD={PLANTED}");
    world.ok(&[&create[..], &["--env", &env, "/bin/sleep", "1000"]].concat());
    let tokens = ["manager", "worker"].map(|role| world.ok(&["cluster", "join-token", role, "-q"]));
    let saved = world.path("saved");
    world.ok(&["operator", "snapshot", "save", &saved.display().to_string()]);
    let authority = key_lines(&std::fs::read(saved).expect("it was saved"));
    assert!(!authority.is_empty(), "the authority's key is in the state");
    let secret_of = |token: &String| token.trim().rsplit('-').next().expect("it has parts").to_owned();
    let mut secrets: Vec<_> = tokens.iter().map(secret_of).chain([PLANTED.to_owned()]).chain(authority).collect();
    for file in ["m1/identity.pem", "m2/identity.pem", "w1/identity.pem", "client.pem"] {
        let keys = key_lines(&std::fs::read(world.path(file)).expect("it is there"));
        assert!(!keys.is_empty(), "{file}");
        secrets.extend(keys);
    }
    secrets
}

#[test]
fn a_bug_report_has_every_manager_that_answers_and_no_secret() {
    let world = World::up("process", &["--managers", "3", "--workers", "1"]);
    let secrets = plant_secrets(&world);
    world.testcluster(&["kill", "m3"]);
    let archive = world.path("report.tar.gz");
    let (code, out, err) = world.run(&["operator", "debug", "-f", &archive.display().to_string()]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("2 of 3 managers") && err.contains("m3"), "{out}{err}");
    let dir = tempfile::tempdir().expect("there is room");
    unpack(&archive, dir.path());
    let texts = texts(dir.path());
    let text = |name: &str| {
        let found = texts.iter().find(|(path, _)| path.ends_with(&format!("goat-debug/{name}")));
        found.map(|(_, text)| text.as_str()).unwrap_or_else(|| panic!("no {name}"))
    };
    assert!(text("summary.txt").contains("manager m3"), "{}", text("summary.txt"));
    for manager in ["m1", "m2"] {
        let of = |file: &str| text(&format!("managers/{manager}/{file}"));
        assert!(of("log.txt").contains("listening") && of("metrics.txt").contains("goat_raft_term "), "{manager}");
        assert!(of("options.txt").contains("lease_ttl_ms: 2500"), "{}", of("options.txt"));
        let raft: Value = serde_json::from_str(of("raft.json")).expect("it is JSON");
        assert!(raft["current_term"].as_u64() > Some(0), "{raft}");
        assert!(of("directories.txt").contains("snapshots"), "{}", of("directories.txt"));
    }
    for part in ["status", "peers", "nodes", "services", "tasks", "events"] {
        let value: Value = serde_json::from_str(text(&format!("cluster/{part}.json"))).expect("it is JSON");
        assert!(value.as_array().is_none_or(|items| !items.is_empty()), "{part} is empty");
    }
    for (path, text) in &texts {
        let told: Vec<_> = secrets.iter().filter(|secret| text.contains(secret.as_str())).collect();
        assert!(told.is_empty(), "{path} tells {told:?}");
    }
}

#[test]
fn a_bug_report_is_made_by_one_manager_alone_where_none_leads() {
    let world = World::up("process", &["--managers", "3", "--workers", "1"]);
    world.testcluster(&["kill", "m2"]);
    world.testcluster(&["kill", "m3"]);
    let archive = world.path("alone.tar.gz");
    let (code, out, err) = world.run(&["operator", "debug", "-f", &archive.display().to_string()]);
    assert!(code == 0 && out.contains("1 of 3 managers"), "{out}{err}");
    assert!(err.contains("m2") && err.contains("m3"), "{err}");
}
