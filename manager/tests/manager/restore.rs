//! A saved file becomes the cluster again, in the place of managers that have lost everything; files that managers save by
//! themselves; and services that are brought back in one change.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use goat_proto::v1::{
    GetStatusRequest, ListPeersRequest, ListServicesRequest, RestoreServicesRequest, SaveSnapshotRequest,
    ServiceChange, ServiceSpec,
};
use tempfile::TempDir;
use tonic::Code;

use crate::cluster::{Cluster, Manager, request_id, said, until};

async fn save(cluster: &Cluster, at: usize, file: &Path) {
    let mut client = cluster.managers[at].client().await.expect("it runs");
    let mut pieces = client.save_snapshot(SaveSnapshotRequest {}).await.expect("a quorum is there").into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await.expect("it goes on to the end") {
        bytes.extend_from_slice(&piece.data);
    }
    fs::write(file, bytes).expect("there is room");
}

/// `goat-manager init --from-snapshot`: its exit code, and what it said on standard error.
fn restore(manager: &Manager, file: &Path) -> (Option<i32>, String) {
    let (file, dir) = (file.display().to_string(), manager.data_dir.display().to_string());
    let place = ["--name", &manager.name, "--advertise", &manager.address, "--data-dir", &dir, "--plaintext"];
    said(&[&["init", "--from-snapshot", &file], &place[..]].concat())
}

fn lose(cluster: &mut Cluster) {
    for manager in &mut cluster.managers {
        manager.kill();
        fs::remove_dir_all(&manager.data_dir).expect("it was there");
    }
}

async fn peers(cluster: &Cluster, at: usize) -> Option<Vec<(u64, String)>> {
    let reply = cluster.managers[at].client().await.ok()?.list_peers(ListPeersRequest {}).await.ok()?;
    Some(reply.into_inner().peers.into_iter().map(|peer| (peer.id, peer.role)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_managers_are_lost_and_the_cluster_goes_on_from_a_file() {
    let mut cluster = Cluster::new(40);
    cluster.settled().await;
    let file = cluster.managers[0].data_dir.with_file_name("saved");
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        cluster.create_anywhere(name, &request_id(number)).await;
    }
    save(&cluster, 0, &file).await;
    let first_answer = cluster.create_anywhere("c", &request_id(2)).await;
    cluster.create_anywhere("later", &request_id(9)).await;

    let (code, text) = restore(&Manager::beside(&cluster.managers[0], "m9"), &file);
    assert_eq!(code, Some(1));
    assert!(text.contains("runs at") && text.contains("snapshot restore"), "{text}");
    lose(&mut cluster);
    let (code, text) = restore(&cluster.managers[1], &file);
    assert_eq!(code, Some(0), "{text}");
    let dir = cluster.managers[1].data_dir.display().to_string();
    assert_eq!(said(&["check", "--data-dir", &dir]), (Some(0), String::new()));
    cluster.managers[1].start();
    let names = until("it leads alone", async || cluster.names(1).await.ok()).await;
    assert_eq!(names, ["a", "b", "c"]);
    let numbers = peers(&cluster, 1).await.expect("it answers");
    assert!(numbers.len() == 1 && numbers[0].0 >= 103 && numbers[0].1 == "leader", "{numbers:?}");
    // Retries from before are still answered, and what is new stands above everything that was given out.
    let retried = cluster.create(1, "c", &request_id(2)).await.expect("it was answered before");
    assert_eq!((retried.id, retried.version), (first_answer.id, first_answer.version));
    let new = cluster.create(1, "new", &request_id(20)).await.expect("it decides alone");
    assert!(new.version > first_answer.version + 1_000_000_000, "{} {}", new.version, first_answer.version);

    let (code, text) = restore(&cluster.managers[1], &file);
    assert_eq!(code, Some(1), "it is done already");
    assert!(["is in use", "already", "runs at"].iter().any(|why| text.contains(why)), "{text}");
    let asked = cluster.managers[1].address.clone();
    for lost in [0, 2] {
        cluster.managers[lost].join_fresh(&asked);
    }
    cluster.settled().await;
    cluster.create_anywhere("with-three", &request_id(500)).await;

    // Everything is lost once more, and the same old file is all that there is: what it gives out is above again.
    lose(&mut cluster);
    assert_eq!(restore(&cluster.managers[0], &file), (Some(0), String::new()));
    cluster.managers[0].start();
    until("it leads alone", async || cluster.names(0).await.ok()).await;
    let again = cluster.create(0, "again", &request_id(30)).await.expect("it decides alone");
    assert!(again.version > new.version, "{} {}", again.version, new.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_says_why_and_leaves_nothing() {
    let mut cluster = Cluster::new(41);
    cluster.settled().await;
    let dir = TempDir::new().expect("there is room");
    let file = dir.path().join("saved");
    save(&cluster, 1, &file).await;
    lose(&mut cluster);
    let whole = fs::read(&file).expect("it was saved");
    let with = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("there is room");
        path
    };
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    let mut newer = whole.clone();
    newer[8] = 9;
    for (path, expected) in [
        (with("cut", &whole[..whole.len() / 2]), "it ends too early"),
        (with("altered", &altered), "damaged"),
        (with("newer", &newer), "format 9"),
        (with("empty", &[]), "it is empty"),
        (with("text", b"hello, this is no snapshot at all"), "it is no snapshot"),
        (dir.path().to_path_buf(), "it cannot be read"),
        (dir.path().join("nowhere"), "cannot open"),
    ] {
        let (code, text) = restore(&cluster.managers[0], &path);
        assert_eq!(code, Some(1), "{expected}: {text}");
        assert!(text.contains(expected), "{expected}: {text}");
        assert!(!cluster.managers[0].data_dir.exists(), "{expected}");
    }
    assert_eq!(restore(&cluster.managers[0], &file), (Some(0), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn restoring_that_was_cut_off_is_repeated() {
    let mut cluster = Cluster::new(42);
    cluster.settled().await;
    cluster.create_anywhere("a", &request_id(1)).await;
    let file = cluster.managers[0].data_dir.with_file_name("saved");
    save(&cluster, 0, &file).await;
    lose(&mut cluster);
    assert_eq!(restore(&cluster.managers[0], &file), (Some(0), String::new()));
    let manager = &cluster.managers[0];
    // As if it had ended after it had marked the directory, and before anything else was in place.
    fs::remove_dir_all(manager.data_dir.join("db")).expect("it was there");
    fs::remove_dir_all(manager.data_dir.join("snapshots")).expect("it was there");
    fs::remove_file(manager.data_dir.join("PROMISED")).expect("it was there");
    assert_eq!(restore(manager, &file), (Some(0), String::new()));
    let (code, text) = restore(manager, &file);
    assert_eq!(code, Some(1), "nothing is left to do");
    assert!(text.contains("already"), "{text}");
    cluster.managers[0].start();
    let names = until("it leads alone", async || cluster.names(0).await.ok()).await;
    assert_eq!(names, ["a"]);
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("it can be read").path());
    let mut files: Vec<_> = entries.collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn managers_save_the_state_by_themselves_and_keep_the_newest() {
    let dir = TempDir::new().expect("there is room");
    let path = dir.path().display().to_string();
    let others = dir.path().join("notes.txt");
    fs::write(&others, "mine").expect("there is room");
    let mut cluster = Cluster::with(43, &["--backup-dir", &path, "--backup-every", "1s", "--backup-keep", "2"]);
    cluster.settled().await;
    let of = |name: &str| -> Vec<PathBuf> {
        let is_its = |path: &PathBuf| path.to_string_lossy().ends_with(&format!("-{name}.snapshot"));
        files(dir.path()).into_iter().filter(is_its).collect()
    };
    let mut number = 0;
    let newest = until("each has saved more than it keeps", async || {
        number += 1;
        cluster.create_anywhere(&format!("s{number}"), &request_id(number)).await;
        let counts: Vec<_> = ["m1", "m2", "m3"].iter().map(|name| of(name).len()).collect();
        assert!(counts.iter().all(|count| *count <= 3), "one more while it is being made: {counts:?}");
        (number > 40 && counts.iter().all(|count| *count >= 2)).then(|| of("m1").pop())
    });
    let newest = newest.await.expect("there is one");
    let mode = fs::metadata(&newest).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(others.exists());

    // Nothing is saved where nothing changes, and a restart alone is no reason either.
    let before = until("they come to rest", async || {
        let before = files(dir.path());
        tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
        (files(dir.path()) == before).then_some(before)
    });
    assert!(before.await.len() >= 7);

    // A directory that is gone is told, and harms nobody.
    fs::remove_dir_all(dir.path()).expect("it was there");
    let warned = until("it is told", async || {
        number += 1;
        cluster.create_anywhere(&format!("s{number}"), &request_id(number)).await;
        let reply = cluster.managers[0].client().await.ok()?.get_status(GetStatusRequest::default()).await.ok()?;
        reply.into_inner().warnings.into_iter().find(|warning| warning.contains("m2 saves no snapshots"))
    });
    assert!(warned.await.contains("No such file or directory"));
    cluster.managers[1].kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_services_change_in_one_request_or_none_does() {
    let cluster = Cluster::new(44);
    cluster.settled().await;
    let spec =
        |name: &str, image: &str| ServiceSpec { name: name.into(), image: image.into(), ..ServiceSpec::default() };
    let change = |id: usize, seen_version, spec| ServiceChange { id: request_id(id), seen_version, spec };
    let send = async |at: usize, request: usize, changes: Vec<ServiceChange>| {
        let request = RestoreServicesRequest { request_id: request_id(request), changes };
        Ok::<_, tonic::Status>(cluster.managers[at].client().await?.restore_services(request).await?.into_inner())
    };
    let both = vec![change(1, 0, Some(spec("a", "i:1"))), change(2, 0, Some(spec("b", "i:1")))];
    let first = send(1, 7, both.clone()).await.expect("they are good");
    assert_eq!(cluster.names(0).await.expect("it answers"), ["a", "b"]);
    assert!(send(2, 7, both.clone()).await.expect("it was answered before").index >= first.index);
    assert_eq!(send(0, 8, both).await.expect_err("they are there").code(), Code::Aborted);

    let mut client = cluster.managers[0].client().await.expect("it runs");
    let services =
        client.list_services(ListServicesRequest::default()).await.expect("it answers").into_inner().services;
    let version = |name: &str| {
        let is_it = |spec: &ServiceSpec| spec.name == name;
        services.iter().find(|service| service.spec.as_ref().is_some_and(is_it)).map_or(0, |service| service.version)
    };
    let bad = vec![change(1, version("a"), Some(spec("a", "i:2"))), change(2, version("b"), Some(spec("b", "")))];
    assert_eq!(send(0, 9, bad).await.expect_err("it has no image").code(), Code::InvalidArgument);
    let large = ServiceSpec { command: vec!["x".repeat(7 << 20)], ..spec("c", "i:1") };
    let refused = send(0, 10, vec![change(3, 0, Some(large.clone())), change(4, 0, Some(spec("d", "i:1")))]).await;
    assert!(refused.is_err(), "{refused:?}");
    let good = vec![change(1, version("a"), Some(spec("a", "i:2"))), change(2, version("b"), None)];
    send(0, 11, good).await.expect("they are good");
}
