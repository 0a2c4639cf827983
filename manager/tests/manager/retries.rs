//! A request that is repeated after it took effect.

use goat_proto::v1::RemoveServiceRequest;

use crate::cluster::{Cluster, request_id, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_is_repeated_when_the_service_is_gone_gets_its_first_answer() {
    let cluster = Cluster::new(42);
    cluster.settled().await;
    let created = cluster.create_anywhere("web", &request_id(1)).await;
    let request = RemoveServiceRequest { request_id: request_id(2), reference: "web".into() };
    let remove = async |at: usize| {
        let mut client = cluster.managers[at].client().await.ok()?;
        Some(client.remove_service(request.clone()).await.map(|reply| reply.into_inner()))
    };
    let first = until("it is removed", async || remove(0).await?.ok()).await;
    until("it is gone", async || cluster.names(1).await.ok().filter(Vec::is_empty)).await;
    for at in 0..3 {
        let again = until("it answers", async || remove(at).await).await.expect("the first answer");
        assert_eq!((&again.id, again.version), (&created.id, first.version));
    }
}
