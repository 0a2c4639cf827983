//! A manager whose address changes while the others serve.

use std::time::Duration;

use goat_proto::v1::{ListPeersRequest, Peer, SetManagerAddressRequest, SetManagerReply, TransferLeaderRequest};
use tonic::{Code, Status};

use crate::cluster::{Cluster, request_id, until};
use crate::worker::{self, hello};

async fn set_address(cluster: &Cluster, asked: usize, moved: usize, number: usize) -> Result<SetManagerReply, Status> {
    let manager = &cluster.managers[moved];
    let request = SetManagerAddressRequest {
        request_id: request_id(number),
        reference: manager.name.clone(),
        address: manager.address.clone(),
        force: false,
    };
    Ok(cluster.managers[asked].client().await?.set_manager_address(request).await?.into_inner())
}

async fn peers(cluster: &Cluster, asked: usize) -> Option<Vec<Peer>> {
    let reply = cluster.managers[asked].client().await.ok()?.list_peers(ListPeersRequest {}).await.ok()?;
    Some(reply.into_inner().peers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_moved_is_found_at_its_new_address_and_may_lead_there() {
    let mut cluster = Cluster::new(41);
    cluster.settled().await;
    let leader = cluster.leader(0).await.expect("one leads");
    let (moved, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let (mut worker, _) =
        worker::open(&cluster.managers[leader], hello("aaaaaaaaaaaa", "w1")).await.expect("the leader welcomes it");
    worker.keep_beating(Duration::from_millis(200));
    cluster.managers[moved].stop();
    cluster.managers[moved].move_away();
    let refused = set_address(&cluster, other, moved, 1).await.expect_err("nobody is there");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("nobody answers there"), "{refused}");
    cluster.create_anywhere("before", &request_id(2)).await;

    cluster.managers[moved].start();
    let (name, address) = (cluster.managers[moved].name.clone(), cluster.managers[moved].address.clone());
    // It may not have opened its port yet.
    let set = async || set_address(&cluster, other, moved, 3).await.ok();
    assert_eq!(until("it answers at its new address", set).await.name, name);
    for asked in [leader, other, moved] {
        let is_there = |peer: &Peer| peer.name == name && peer.address == address && peer.reachable;
        let seen = async || peers(&cluster, asked).await?.iter().any(is_there).then_some(());
        until("everybody knows where it is", seen).await;
    }

    // In the session that it held all the while.
    while !worker.managers().await.contains(&address) {}

    let handed_over = async || {
        let request = TransferLeaderRequest { to: name.clone() };
        cluster.managers[leader].client().await.ok()?.transfer_leader(request).await.ok()
    };
    assert_eq!(until("it leads", handed_over).await.into_inner().leader, name);
    // Passed on to the leader at its new address.
    let through = async || cluster.create(other, "through", &request_id(4)).await.ok();
    until("a follower passes a write on", through).await;
    assert_eq!(cluster.names(moved).await.expect("it answers"), ["before", "through"]);
}
