//! The state is saved from any manager, and is what that manager knew.

use std::collections::BTreeSet;

use goat_core::archive::{Head, Reader};
use goat_core::state::State;
use goat_proto::v1::SaveSnapshotRequest;

use crate::cluster::{Cluster, request_id};

async fn saved(cluster: &Cluster, at: usize) -> (Head, State) {
    let mut client = cluster.managers[at].client().await.expect("it runs");
    let mut pieces = client.save_snapshot(SaveSnapshotRequest {}).await.expect("a quorum is there").into_inner();
    let mut file = Vec::new();
    while let Some(piece) = pieces.message().await.expect("it goes on to the end") {
        file.extend_from_slice(&piece.data);
    }
    let mut reader = Reader::begin(&file[..]).expect("it is one");
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row().expect("it is whole") {
        rows.push(row);
    }
    (reader.head().clone(), State::from_rows(rows).expect("its rows make a state"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_manager_gives_out_all_that_was_acknowledged_before() {
    let cluster = Cluster::new(25);
    cluster.settled().await;
    let mut names = BTreeSet::new();
    for at in [0, 1, 2] {
        let name = format!("s{at}");
        let index = cluster.create_anywhere(&name, &request_id(at)).await.index;
        names.insert(name);
        let (head, state) = saved(&cluster, at).await;
        assert!(head.index >= index && head.services == names.len() as u64, "{head:?}");
        assert_eq!(head.made_by, cluster.managers[at].name);
        assert_eq!(state.cluster_id().map(|id| id.to_string()), Some(head.cluster_id));
        assert_eq!(state.services().map(|service| service.spec.name.clone()).collect::<BTreeSet<_>>(), names);
    }
}
