//! Real manager processes on loopback: they form a group, lose their leader, and keep what they acknowledged.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use goat_proto::v1::control_client::ControlClient;
use goat_proto::v1::{
    CreateServiceRequest, ListPeersRequest, ListServicesRequest, ServiceReply, ServiceSpec, TransferLeaderRequest,
};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};

const DEADLINE: Duration = Duration::from_secs(30);

struct Manager {
    name: String,
    address: String,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Manager {
    fn start(&mut self) {
        let child = Command::new(env!("CARGO_BIN_EXE_goat-manager"))
            .args(&self.arguments)
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it was started");
        }
    }

    async fn client(&self) -> Result<ControlClient<Channel>, Status> {
        let address = format!("http://{}", self.address);
        ControlClient::connect(address).await.map_err(|error| Status::unavailable(error.to_string()))
    }
}

/// Killed with the test, whatever becomes of it.
struct Cluster {
    managers: Vec<Manager>,
    _dir: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for manager in &mut self.managers {
            manager.kill();
        }
    }
}

impl Cluster {
    /// Three managers, on an address of loopback that is this test's own.
    fn new(subnet: u8) -> Self {
        let dir = TempDir::new().expect("there is room");
        let listeners: Vec<_> = (1..=3)
            .map(|id| TcpListener::bind(format!("127.84.{subnet}.{id}:0")).expect("loopback has free ports"))
            .collect();
        let addresses: Vec<_> =
            listeners.iter().map(|listener| listener.local_addr().expect("it is bound").to_string()).collect();
        drop(listeners);
        let peers: Vec<_> = (1..=3).zip(&addresses).map(|(id, address)| format!("{id}=m{id}@{address}")).collect();
        let managers = (1..=3).zip(addresses).map(|(id, address)| {
            let data_dir = dir.path().join(format!("m{id}")).display().to_string();
            let options =
                [("--id", id.to_string()), ("--listen", address.clone()), ("--data-dir", data_dir), ("--peers", peers.join(","))];
            let options = options.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
            let arguments = std::iter::once("run".to_owned()).chain(options).collect();
            Manager { name: format!("m{id}"), address, arguments, child: None }
        });
        let mut cluster = Self { managers: managers.collect(), _dir: dir };
        cluster.managers.iter_mut().for_each(Manager::start);
        cluster
    }

    async fn create(&self, at: usize, name: &str, request_id: &str) -> Result<ServiceReply, Status> {
        let spec = ServiceSpec { name: name.into(), image: "none:1".into(), replicas: 0, ..ServiceSpec::default() };
        let request = CreateServiceRequest { request_id: request_id.into(), spec: Some(spec) };
        Ok(self.managers[at].client().await?.create_service(request).await?.into_inner())
    }

    /// Creates through whichever manager answers, as goatctl would: one request id, kept over the tries.
    async fn create_anywhere(&self, name: &str, request_id: &str) -> ServiceReply {
        let deadline = Instant::now() + DEADLINE;
        for at in (0..self.managers.len()).cycle() {
            match self.create(at, name, request_id).await {
                Ok(reply) => return reply,
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status}");
                    assert!(Instant::now() < deadline, "no manager accepts writes: {status}");
                }
            }
        }
        unreachable!("there are managers")
    }

    async fn names(&self, at: usize) -> Result<Vec<String>, Status> {
        let reply = self.managers[at].client().await?.list_services(ListServicesRequest::default()).await?;
        let specs = reply.into_inner().services.into_iter().filter_map(|service| service.spec);
        let mut names: Vec<_> = specs.map(|spec| spec.name).collect();
        names.sort();
        Ok(names)
    }

    /// The position of the manager that all others call leader.
    async fn leader(&self, asked: usize) -> Option<usize> {
        let reply = self.managers[asked].client().await.ok()?.list_peers(ListPeersRequest {}).await.ok()?;
        let leader = reply.into_inner().peers.into_iter().find(|peer| peer.role == "leader" && peer.reachable)?;
        self.managers.iter().position(|manager| manager.name == leader.name)
    }
}

/// A 12-character request id.
fn request_id(number: usize) -> String {
    format!("{number:0>12}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_the_leader_and_is_read_from_every_manager() {
    let mut cluster = Cluster::new(1);
    let mut expected = Vec::new();
    for number in 0..5 {
        let name = format!("before-{number}");
        cluster.create_anywhere(&name, &request_id(number)).await;
        expected.push(name);
    }
    let leader = cluster.leader(0).await.expect("it has just accepted a write");
    cluster.managers[leader].kill();
    cluster.create_anywhere("zafter", &request_id(5)).await;
    expected.push("zafter".into());

    for at in (0..3).filter(|at| *at != leader) {
        assert_eq!(cluster.names(at).await.expect("a quorum is there"), expected);
    }
    cluster.managers[leader].start();
    let deadline = Instant::now() + DEADLINE;
    loop {
        match cluster.names(leader).await {
            Ok(names) => break assert_eq!(names, expected),
            Err(status) => assert!(Instant::now() < deadline, "the old leader does not come back: {status}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_request_takes_effect_once_and_a_taken_name_is_refused() {
    let cluster = Cluster::new(2);
    let first = cluster.create_anywhere("web", &request_id(1)).await;
    for at in 0..3 {
        let again = cluster.create(at, "web", &request_id(1)).await.expect("a quorum is there");
        assert_eq!(again.id, first.id);
        let refused = cluster.create(at, "web", &request_id(2 + at)).await.expect_err("the name is taken");
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_on_request_through_any_manager() {
    let cluster = Cluster::new(3);
    cluster.create_anywhere("web", &request_id(1)).await;
    for asked in 0..3 {
        let leader = cluster.leader(asked).await.expect("there is a leader");
        let to = (leader + 1) % 3;
        let request = TransferLeaderRequest { to: cluster.managers[to].name.clone() };
        let mut client = cluster.managers[asked].client().await.expect("it runs");
        let reply = client.transfer_leader(request).await.expect("it hands over").into_inner();
        assert_eq!(reply.leader, cluster.managers[to].name);
        cluster.create_anywhere(&format!("web-{asked}"), &request_id(10 + asked)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_the_answer_names_the_managers() {
    let mut cluster = Cluster::new(4);
    cluster.create_anywhere("web", &request_id(1)).await;
    cluster.managers[1].kill();
    cluster.managers[2].kill();
    let status = cluster.create(0, "late", &request_id(2)).await.expect_err("one of three is no majority");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    for name in ["m1", "m2", "m3"] {
        assert!(status.message().contains(name), "{status}");
    }
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
