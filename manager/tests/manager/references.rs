//! References to a service in requests: a read accepts the beginning of an id, a change only a name or a full id.

use goat_proto::v1::{
    GetServiceRequest, RemoveServiceRequest, ScaleServiceRequest, ServiceSpec, TaskLogsRequest, UpdateServiceRequest,
};
use tonic::Code;

use crate::cluster::{Cluster, request_id};

fn spec(name: &str, source: &str) -> ServiceSpec {
    let mount = goat_proto::v1::Mount { source: source.into(), target: "/d".into(), read_only: false };
    ServiceSpec { name: name.into(), image: "none:1".into(), mounts: vec![mount], ..ServiceSpec::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beginning_of_an_id_is_enough_to_read_and_never_to_change() {
    let cluster = Cluster::of(1, 86, &[]);
    let created = cluster.create_anywhere("web", &request_id(1)).await;
    assert_eq!(created.name, "web");
    let mut client = cluster.managers[0].client().await.expect("it runs");
    for (at, length) in [2, 5, 6, 11].into_iter().enumerate() {
        let short = || created.id[..length].to_owned();
        let id = |kind: usize| request_id(100 + at * 10 + kind);
        let scale = ScaleServiceRequest { request_id: id(1), reference: short(), replicas: 0 };
        let remove = RemoveServiceRequest { request_id: id(2), reference: short() };
        let update = UpdateServiceRequest {
            request_id: id(3),
            reference: short(),
            seen_version: None,
            spec: Some(spec("web", "/srv")),
        };
        let refusals = [
            client.scale_service(scale).await.expect_err("a change"),
            client.remove_service(remove).await.expect_err("a change"),
            client.update_service(update).await.expect_err("a change"),
        ];
        for refusal in refusals {
            assert_eq!(refusal.code(), Code::NotFound, "{refusal}");
            let names = refusal.message().contains(&format!("\"web\" has the id {}", created.id));
            assert_eq!(names, length >= 6, "{refusal}");
        }
        let read = client.get_service(GetServiceRequest { read: None, reference: short() }).await;
        assert_eq!(read.is_ok(), length >= 6, "{read:?}");
    }
    let remove = RemoveServiceRequest { request_id: request_id(2), reference: created.id.clone() };
    let removed = client.remove_service(remove).await.expect("a full id").into_inner();
    assert_eq!((removed.id, removed.name.as_str()), (created.id, "web"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_no_task_unless_it_has_only_one() {
    let cluster = Cluster::of(1, 87, &[]);
    cluster.create_anywhere("empty", &request_id(1)).await;
    let mut client = cluster.managers[0].client().await.expect("it runs");
    let logs = TaskLogsRequest { reference: "empty".into(), ..TaskLogsRequest::default() };
    let refusal = client.task_logs(logs).await.expect_err("there is none");
    assert_eq!((refusal.code(), refusal.message()), (Code::NotFound, "no task \"empty\": that service has no task"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relative_path_is_refused_when_it_is_submitted() {
    let cluster = Cluster::of(1, 88, &[]);
    cluster.create_anywhere("first", &request_id(1)).await;
    let refusal = cluster.create_spec(0, spec("web", "./data"), &request_id(2)).await.expect_err("it is relative");
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().starts_with("mounts: the source \"./data\" is neither"), "{refusal}");
    cluster.create_spec(0, spec("web", "data"), &request_id(3)).await.expect("the name of a volume");
}
