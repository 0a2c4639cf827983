//! Managers that must not start, and what they say.

use std::net::TcpListener;
use std::process::Command;

use crate::cluster::{Cluster, request_id, until};

fn said(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_goat-manager")).args(arguments).output().expect("the binary starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn options_that_do_not_fit_are_refused_with_what_is_right() {
    let output = Command::new(env!("CARGO_BIN_EXE_goat-manager"))
        .args(["run", "--id", "1", "--data-dir", "unused", "--peers", "1=m1@127.0.0.1:1,1=m2@127.0.0.1:2"])
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "error: peers: two managers have the id 1; give each its own\n");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.84.7.9:0").expect("loopback has free ports");
    let address = taken.local_addr().expect("it is bound").to_string();
    let dir = tempfile::tempdir().expect("there is room");
    let data_dir = dir.path().join("m1").display().to_string();
    let (code, text) = said(&["run", "--id", "1", "--listen", &address, "--data-dir", &data_dir]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("cannot listen on {address}: is another manager running there?")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_lost_its_disk_is_not_let_back_in() {
    let mut cluster = Cluster::new(8);
    cluster.create_anywhere("web", &request_id(1)).await;
    cluster.managers[2].kill();
    std::fs::remove_dir_all(&cluster.managers[2].data_dir).expect("it was there");
    cluster.managers[2].start();
    let (code, text) = cluster.managers[2].ended();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is empty, but") && text.contains("already belongs to cluster"), "{text}");
    assert!(!cluster.managers[2].data_dir.exists(), "it leaves nothing that a next start would take for its own");
    cluster.create(0, "unharmed", &request_id(2)).await.expect("two of three are a majority");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_managers_data_directory_is_refused() {
    let mut cluster = Cluster::new(9);
    cluster.create_anywhere("web", &request_id(1)).await;
    cluster.managers[0].kill();
    cluster.managers[1].kill();
    let spare = cluster.managers[0].data_dir.with_file_name("spare");
    std::fs::rename(&cluster.managers[0].data_dir, &spare).expect("moved");
    std::fs::rename(&cluster.managers[1].data_dir, &cluster.managers[0].data_dir).expect("moved");
    cluster.managers[0].start();
    let (code, text) = cluster.managers[0].ended();
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("belongs to manager id 2, and this manager has id 1: correct the id or the data directory"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_cluster_is_refused_and_harms_neither() {
    let mut home = Cluster::new(10);
    let mut away = Cluster::new(11);
    home.create_anywhere("web", &request_id(1)).await;
    away.create_anywhere("web", &request_id(1)).await;
    // Acknowledged by the other two, the first write may come before this one has heard which cluster it is.
    for cluster in [&home, &away] {
        let knows = async || cluster.managers[0].log().contains("belongs to the cluster").then_some(());
        until("it knows its cluster", knows).await;
    }
    home.managers[0].kill();
    away.managers[0].kill();
    let strange = home.managers[0].data_dir.clone();
    std::fs::rename(&strange, strange.with_file_name("own")).expect("moved");
    std::fs::rename(&away.managers[0].data_dir, &strange).expect("moved");
    home.managers[0].start();
    let (code, text) = home.managers[0].ended();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("belongs to cluster") && text.contains("correct data_dir or `peers`"), "{text}");
    home.create_anywhere("unharmed", &request_id(2)).await;
    away.create_anywhere("unharmed", &request_id(2)).await;
}
