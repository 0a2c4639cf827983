//! Managers that must not start, or must not go on, and what they say.

use std::net::TcpListener;
use std::path::Path;

use crate::cluster::{Cluster, output, request_id, said, until};

/// Removed, or on an old disk.
const UNWELCOME: Option<i32> = Some(3);

fn init(dir: &Path, address: &str) -> (Option<i32>, String) {
    said(&["init", "--plaintext", "--name", "m1", "--advertise", address, "--data-dir", &dir.display().to_string()])
}

#[test]
fn options_that_do_not_fit_are_refused_with_what_is_right() {
    let (code, text) = said(&["run", "--data-dir", "unused", "--heartbeat-interval-ms", "400"]);
    assert_eq!(code, Some(2));
    assert!(text.starts_with("error: heartbeat_interval_ms: 400 ms must be above 0 and at most half of"), "{text}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.84.7.9:0").expect("loopback has free ports");
    let address = taken.local_addr().expect("it is bound").to_string();
    let dir = tempfile::tempdir().expect("there is room");
    let data_dir = dir.path().join("m1");
    assert_eq!(init(&data_dir, &address).0, Some(0));
    let (code, text) =
        said(&["run", "--plaintext", "--listen", &address, "--data-dir", &data_dir.display().to_string()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("cannot listen on {address}: is another manager running there?")), "{text}");
}

#[test]
fn a_directory_that_is_no_managers_is_not_run() {
    let dir = tempfile::tempdir().expect("there is room");
    let data_dir = dir.path().join("m1");
    let (code, text) = said(&["run", "--data-dir", &data_dir.display().to_string()]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("make a new cluster with `goat-manager init`, or join one"), "{text}");
    assert!(!data_dir.exists());
}

#[test]
fn a_cluster_is_made_once_in_a_directory_and_nothing_of_others_is_touched() {
    let dir = tempfile::tempdir().expect("there is room");
    let data_dir = dir.path().join("m1");
    let dir_text = data_dir.display().to_string();
    let first =
        output(&["init", "--plaintext", "--name", "m1", "--advertise", "127.0.0.1:7700", "--data-dir", &dir_text]);
    let text = String::from_utf8_lossy(&first.stdout);
    let start = format!("start it:     goat-manager run --plaintext --data-dir {dir_text} --listen 127.0.0.1:7700");
    assert!(first.status.success() && text.contains(&start), "{text}");
    let (code, text) = init(&data_dir, "127.0.0.1:7700");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("belongs to the first manager of cluster") && text.contains("goat-manager run"), "{text}");

    let strange = dir.path().join("photos");
    std::fs::create_dir(&strange).expect("there is room");
    std::fs::write(strange.join("cat.jpg"), "meow").expect("there is room");
    let (code, text) = init(&strange, "127.0.0.1:7700");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("cat.jpg") && text.contains("give an empty directory"), "{text}");
    assert_eq!(std::fs::read_dir(&strange).expect("it is there").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_twice_and_joining_under_a_taken_name_are_refused() {
    let cluster = Cluster::new(8);
    let first = cluster.managers[0].address.as_str();
    let dir = cluster.managers[1].data_dir.display().to_string();
    let (code, text) =
        said(&["join", "--plaintext", first, "--name", "m2", "--advertise", "127.84.8.8:1", "--data-dir", &dir]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is the data directory of manager number 2 of cluster"), "{text}");

    let other = cluster.managers[1].data_dir.with_file_name("other");
    let dir = other.display().to_string();
    let (code, text) =
        said(&["join", "--plaintext", first, "--name", "m2", "--advertise", "127.84.8.8:1", "--data-dir", &dir]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("a manager named \"m2\" is a member already, with the number 2"), "{text}");
    let address = cluster.managers[1].address.as_str();
    let (code, text) =
        said(&["join", "--plaintext", first, "--name", "m9", "--advertise", address, "--data-dir", &dir]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the manager m2 has the address"), "{text}");
    assert!(!other.exists(), "a refused manager leaves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_lost_its_disk_joins_under_a_new_number() {
    let mut cluster = Cluster::new(9);
    cluster.settled().await;
    cluster.managers[2].kill();
    std::fs::remove_dir_all(&cluster.managers[2].data_dir).expect("it was there");
    cluster.managers[2].start();
    let (code, text) = cluster.managers[2].ended();
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("holds no manager's data"), "{text}");
    std::fs::create_dir(&cluster.managers[2].data_dir).expect("there is room");
    cluster.set(0, "m3", "removed", false).await.expect("the other two are a majority");
    let asked = cluster.managers[1].address.clone();
    cluster.managers[2].join_anew(&asked);
    cluster.settled().await;
    let log = cluster.managers[2].log();
    assert!(log.contains("manager_id=4"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_was_removed_while_it_was_away_is_told_so() {
    let mut cluster = Cluster::new(10);
    cluster.settled().await;
    cluster.managers[2].kill();
    cluster.set(0, "m3", "removed", false).await.expect("the other two are a majority");
    let gone = async || {
        let client = &mut cluster.managers[0].client().await.ok()?;
        let reply = client.list_peers(goat_proto::v1::ListPeersRequest {}).await.ok()?;
        (reply.into_inner().peers.len() == 2).then_some(())
    };
    until("it is no member", gone).await;
    cluster.managers[2].start();
    let (code, text) = cluster.managers[2].ended();
    assert_eq!(code, UNWELCOME, "{text}");
    assert!(text.contains("(number 3) was removed from cluster") && text.contains("goat-manager join"), "{text}");
    cluster.create(0, "unharmed", &request_id(2)).await.expect("two of two are a majority");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_on_an_old_copy_of_its_disk_is_told_so() {
    let mut cluster = Cluster::new(11);
    cluster.settled().await;
    let leader = cluster.leader(0).await.expect("there is one");
    let at = (leader + 1) % 3;
    cluster.managers[at].stop();
    let own = cluster.managers[at].data_dir.clone();
    let copy = own.with_file_name("copy");
    copied(&own, &copy);
    cluster.managers[at].start();
    cluster.settled().await;
    for number in 0..20 {
        cluster.create(leader, &format!("s{number}"), &request_id(number)).await.expect("a quorum is there");
    }
    let caught_up = async || (cluster.names(at).await.ok()?.len() == 20).then_some(());
    until("it has all of it", caught_up).await;
    cluster.managers[at].kill();
    std::fs::remove_dir_all(&own).expect("it was there");
    std::fs::rename(&copy, &own).expect("moved");
    cluster.managers[at].start();
    let (code, text) = cluster.managers[at].ended();
    assert_eq!(code, UNWELCOME, "{text}");
    assert!(text.contains("is an old copy: its log ends at") && text.contains("goatctl manager rm"), "{text}");
    cluster.create(leader, "unharmed", &request_id(99)).await.expect("two of three are a majority");
}

fn copied(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("there is room");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be listed");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("it has one").is_dir() {
            true => copied(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("there is room")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_manager_and_one_that_the_quorum_needs_are_not_removed_without_more_ado() {
    let mut cluster = Cluster::new(13);
    cluster.settled().await;
    cluster.managers[2].kill();
    let refused = cluster.set(0, "m2", "removed", false).await.expect_err("m1 and a dead one would be left");
    assert!(refused.message().contains("only 1 of 2 voting managers would be reached (not m3)"), "{refused}");
    assert!(refused.message().contains("--force"), "{refused}");
    let reply = cluster.set(0, "m3", "removed", false).await.expect("the other two are a majority");
    assert!(reply.advice.contains("2 voting managers survive the loss of 0"), "{}", reply.advice);
    let reply = cluster.set(1, "m2", "removed", false).await.expect("one of one is a majority");
    assert!(reply.advice.contains("one manager only"), "{}", reply.advice);
    let last = async || {
        let refused = cluster.set(0, "m1", "removed", true).await.expect_err("it is the last one");
        refused.message().contains("m1 is the last voting manager").then_some(())
    };
    until("it is refused even by force", last).await;
    cluster.create(0, "unharmed", &request_id(2)).await.expect("it decides alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_cluster_harms_neither() {
    let mut home = Cluster::new(14);
    let mut away = Cluster::new(15);
    home.settled().await;
    away.settled().await;
    // A follower of both: a leader that starts again before the others elect leads on, and nobody would find it where it is.
    let leaders = async || Some([home.leader(0).await?, away.leader(0).await?]);
    let leaders = until("both have leaders", leaders).await;
    let moved = (0..3).find(|at| !leaders.contains(at)).expect("of three one follows in both");
    home.managers[moved].kill();
    away.managers[moved].kill();
    let strange = home.managers[moved].data_dir.clone();
    std::fs::rename(&strange, strange.with_file_name("own")).expect("moved");
    std::fs::rename(&away.managers[moved].data_dir, &strange).expect("moved");
    home.managers[moved].start();
    // It takes part in its own cluster, as far as that finds it, and is refused by the one whose address it has.
    let refused = async || {
        let others = (0..3).filter(|at| *at != moved);
        let log: String = others.map(|at| home.managers[at].log()).collect();
        log.contains("belongs to cluster").then_some(())
    };
    until("it is refused", refused).await;
    home.create_anywhere("unharmed", &request_id(2)).await;
    away.create_anywhere("unharmed", &request_id(2)).await;
}
