//! `goat-manager check`: what it finds, what it says of damage, and that it touches nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::{Cluster, request_id, said};

fn check(dir: &Path) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_goat-manager"))
        .args(["check", "--data-dir", &dir.display().to_string()])
        .output()
        .expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("it is there") {
        let path = entry.expect("it is there").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).expect("it is there"));
        }
    }
    found
}

/// A manager that has run twice, has a snapshot, and is stopped.
async fn used(cluster: &mut Cluster) -> PathBuf {
    cluster.settled().await;
    for number in 0..250 {
        cluster.create_anywhere(&format!("s{number}"), &request_id(number)).await;
    }
    for manager in &mut cluster.managers {
        manager.kill();
    }
    cluster.managers[0].start();
    // What the first life wrote is in tables now, and its log file is gone.
    cluster.managers[1].start();
    cluster.create_anywhere("again", &request_id(900)).await;
    cluster.managers[0].kill();
    cluster.managers[1].kill();
    cluster.managers[0].data_dir.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_store_is_told_and_a_running_manager_is_left_alone() {
    let mut cluster = Cluster::with(20, &["--snapshot-entries", "100"]);
    cluster.settled().await;
    let (code, _, error) = check(&cluster.managers[1].data_dir);
    assert_eq!(code, Some(1));
    assert!(error.contains("is in use by another process: stop that one first"), "{error}");

    let dir = used(&mut cluster).await;
    let before = files(&dir);
    let (code, text, error) = check(&dir);
    assert_eq!(code, Some(0), "{text}{error}");
    for line in
        ["manager    1\n", "services   251\n", "member     3 m3 at 127.84.20.3", ": whole, ", "nothing is damaged"]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(before, files(&dir), "it only reads");
    let json = Command::new(env!("CARGO_BIN_EXE_goat-manager"))
        .args(["check", "--json", "--data-dir", &dir.display().to_string()])
        .output()
        .expect("the binary starts");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!((&json["manager_id"], &json["store"]["services"]), (&1.into(), &251.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_in_any_file_of_the_store_is_found_and_changes_nothing() {
    let mut cluster = Cluster::with(21, &["--snapshot-entries", "100"]);
    let dir = used(&mut cluster).await;
    let whole = files(&dir);
    let mut tried = BTreeMap::<String, u32>::new();
    for (path, bytes) in &whole {
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        let kind = path.extension().map_or_else(|| name.clone(), |kind| kind.to_string_lossy().into_owned());
        // RocksDB has an IDENTITY of its own that means nothing.
        let is_ours = name == "IDENTITY" && path.parent() == Some(&dir);
        let is_guarded = kind == "sst" || name.starts_with("snapshot-") || is_ours || name.starts_with("MANIFEST");
        if !is_guarded || bytes.is_empty() {
            continue;
        }
        for part in 1..4 {
            let mut changed = bytes.clone();
            changed[bytes.len() * part / 5] ^= 0x10;
            fs::write(path, &changed).expect("there is room");
            let (code, text, error) = check(&dir);
            assert_eq!(code, Some(1), "{}, part {part}: {text}", path.display());
            let said = format!("{text}{error}");
            assert!(said.contains("damaged") || said.contains("snapshot"), "{}: {said}", path.display());
        }
        fs::write(path, bytes).expect("there is room");
        *tried.entry(kind).or_default() += 1;
    }
    assert!(tried.contains_key("sst") && tried.len() >= 4, "{tried:?}");
    assert_eq!(whole, files(&dir));
    assert_eq!(check(&dir).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_ahead_log_that_is_damaged_in_its_middle_and_a_cut_snapshot_are_found() {
    let mut cluster = Cluster::with(22, &["--snapshot-entries", "100"]);
    let dir = used(&mut cluster).await;
    let whole = files(&dir);
    let is_snapshot = |path: &&PathBuf| path.parent().is_some_and(|parent| parent.ends_with("snapshots"));
    let snapshot = whole.keys().find(is_snapshot).expect("it has taken one");
    fs::write(snapshot, &whole[snapshot][..whole[snapshot].len() - 9]).expect("there is room");
    let (code, text, error) = check(&dir);
    assert_eq!(code, Some(1), "{text}{error}");
    assert!(text.contains("DAMAGED") && text.contains("is no whole snapshot"), "{text}");
    assert!(text.contains("Nothing is lost by it"), "{text}");
    fs::write(snapshot, &whole[snapshot]).expect("there is room");

    let is_log = |path: &&PathBuf| path.extension().is_some_and(|kind| kind == "log");
    let log = whole.keys().filter(is_log).max_by_key(|path| whole[*path].len()).expect("it has written");
    let mut changed = whole[log].clone();
    changed[20] ^= 0x10;
    fs::write(log, changed).expect("there is room");
    let (code, text, error) = check(&dir);
    assert_eq!(code, Some(1), "{text}{error}");
    assert!(text.contains("is damaged"), "{text}{error}");
}

#[test]
fn what_is_no_data_directory_is_named_and_left_alone() {
    let dir = tempfile::tempdir().expect("there is room");
    let missing = dir.path().join("missing");
    for wrong in [missing.as_path(), dir.path()] {
        let (code, _, error) = check(wrong);
        assert_eq!(code, Some(1));
        assert!(error.contains("is no manager's data directory"), "{error}");
    }
    assert_eq!(fs::read_dir(dir.path()).expect("it is there").count(), 0);

    let data_dir = dir.path().join("m1");
    let place = data_dir.display().to_string();
    assert_eq!(said(&["init", "--name", "m1", "--advertise", "127.0.0.1:7700", "--data-dir", &place]).0, Some(0));
    assert_eq!(check(&data_dir).0, Some(0));
    let identity = data_dir.join("IDENTITY");
    let newer = fs::read_to_string(&identity).expect("it is there").replace("format 1", "format 9");
    fs::write(&identity, newer).expect("there is room");
    let (code, _, error) = check(&data_dir);
    assert_eq!(code, Some(1));
    assert!(error.contains("has format 9 and this build reads formats up to 1"), "{error}");
}
