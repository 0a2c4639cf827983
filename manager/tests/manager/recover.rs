//! `goat-manager recover`: one manager goes on alone, and the lost ones are strangers to it.

use std::fs;

use goat_proto::v1::ListPeersRequest;

use crate::cluster::{Cluster, request_id, said, until};

const FORCED: &str = "--force-new-cluster";

fn recover(cluster: &Cluster, at: usize, more: &[&str]) -> (Option<i32>, String) {
    let dir = cluster.managers[at].data_dir.display().to_string();
    said(&[&["recover", FORCED, "--data-dir", &dir], more].concat())
}

/// Asked for what it would do, badly, for good, and once more.
fn recovered(cluster: &Cluster, at: usize) {
    assert_eq!(recover(cluster, at, &[]).0, Some(0));
    assert_eq!(recover(cluster, at, &["--yes", "--advertise", "nowhere"]).0, Some(1));
    let parent = cluster.managers[at].data_dir.parent().expect("it has one");
    assert_eq!(fs::read_dir(parent).expect("it is there").count(), 6, "nothing is copied yet");
    for round in 0..2 {
        let (code, text) = recover(cluster, at, &["--yes"]);
        assert_eq!(code, Some(0), "round {round}: {text}");
    }
}

async fn peers(cluster: &Cluster, at: usize) -> Option<Vec<(u64, String)>> {
    let reply = cluster.managers[at].client().await.ok()?.list_peers(ListPeersRequest {}).await.ok()?;
    Some(reply.into_inner().peers.into_iter().map(|peer| (peer.id, peer.role)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_left_keeps_everything_and_lets_others_join() {
    let mut cluster = Cluster::with(23, &["--snapshot-entries", "100"]);
    cluster.settled().await;
    let expected: Vec<_> = (0..130).map(|number| format!("s{number:0>3}")).collect();
    for (number, name) in expected.iter().enumerate() {
        cluster.create_anywhere(name, &request_id(number)).await;
    }
    until("the last one is applied there", async || (cluster.names(2).await.ok()? == expected).then_some(())).await;
    let (code, text) = recover(&cluster, 2, &["--yes"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("is in use by another process"), "{text}");
    for manager in &mut cluster.managers {
        manager.kill();
    }
    recovered(&cluster, 2);
    cluster.managers[2].start();
    let names = until("it leads alone", async || cluster.names(2).await.ok()).await;
    assert_eq!(names, expected);
    assert_eq!(peers(&cluster, 2).await, Some(vec![(3, "leader".into())]));

    let asked = cluster.managers[2].address.clone();
    for lost in [0, 1] {
        cluster.managers[lost].join_anew(&asked);
    }
    cluster.settled().await;
    cluster.create_anywhere("with-three", &request_id(500)).await;
    let numbers = peers(&cluster, 0).await.expect("it is a member");
    // Numbers that the lost ones may have given out are not given out again.
    assert_eq!(numbers.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 103, 104]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_managers_that_come_back_after_all_are_strangers() {
    let mut cluster = Cluster::new(24);
    cluster.settled().await;
    cluster.create_anywhere("before", &request_id(1)).await;
    until("it is applied there", async || (cluster.names(2).await.ok()?.len() == 1).then_some(())).await;
    cluster.managers[2].kill();
    // Unseen by the third, and acknowledged: this is what may be lost.
    cluster.create_anywhere("unseen", &request_id(2)).await;
    cluster.managers[0].kill();
    cluster.managers[1].kill();
    assert_eq!(recover(&cluster, 2, &["--yes"]).0, Some(0));

    // The two are a majority of the old group, and elect one of them; what it says is not heard.
    cluster.managers[0].start();
    cluster.managers[1].start();
    until("they lead themselves", async || (cluster.names(0).await.ok()?.len() == 2).then_some(())).await;
    cluster.managers[2].start();
    until("it leads alone", async || cluster.names(2).await.ok()).await;
    cluster.create(2, "after", &request_id(3)).await.expect("it decides alone");
    for number in 10..60 {
        cluster.create(2, &format!("more-{number}"), &request_id(number)).await.expect("nothing comes between");
    }
    let is_there = |names: &[String], name: &str| names.iter().any(|there| there == name);
    let names = cluster.names(2).await.expect("it decides alone");
    assert!(is_there(&names, "after") && !is_there(&names, "unseen"), "{names:?}");
    assert_eq!(peers(&cluster, 2).await, Some(vec![(3, "leader".into())]));
    assert!(!cluster.names(0).await.expect("they have a majority of theirs").contains(&"after".into()));
    // A restart changes nothing about it, also while they are there.
    cluster.managers[2].kill();
    cluster.managers[2].start();
    let names = until("it leads alone", async || cluster.names(2).await.ok()).await;
    assert!(names.contains(&"more-59".into()), "{names:?}");
    cluster.managers[0].kill();
    cluster.managers[0].start();
    let (code, text) = cluster.managers[0].ended();
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("was removed from cluster"), "{text}");
}
