//! Who may call what, on a real manager, and what is kept from whom.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use goat_proto::v1::control_client::ControlClient;
use goat_proto::v1::dispatcher_client::DispatcherClient;
use goat_proto::v1::identity_client::IdentityClient;
use goat_proto::v1::{
    GetJoinTokenRequest, IssueClientRequest, ListClientsRequest, RemoveNodeRequest, RevokeClientRequest,
    UpgradeClusterRequest, WorkerMessage, worker_message,
};
use goat_tls::{Connector, Credentials, JoinToken, Role, Transport};
use prost::Message;
use prost_types::FileDescriptorSet;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::cluster::{DEADLINE, request_id, said, until};

pub(crate) const CONNECT: Duration = Duration::from_secs(2);

/// One manager with certificates.
pub(crate) struct Secured {
    dir: TempDir,
    pub(crate) address: String,
    child: Child,
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Secured {
    pub(crate) fn start(subnet: u8) -> Self {
        let dir = tempfile::tempdir().expect("there is room");
        let free = std::net::TcpListener::bind(format!("127.85.{subnet}.1:0")).expect("loopback has free ports");
        let address = free.local_addr().expect("it is bound").to_string();
        drop(free);
        let data_dir = dir.path().join("m1").display().to_string();
        let (code, text) = said(&["init", "--name", "m1", "--advertise", &address, "--data-dir", &data_dir]);
        assert_eq!(code, Some(0), "{text}");
        let log = std::fs::File::create(dir.path().join("log")).expect("there is room");
        let child = Command::new(env!("CARGO_BIN_EXE_goat-manager"))
            .args(["run", "--listen", &address, "--data-dir", &data_dir, "--log-level", "debug"])
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        Self { dir, address, child }
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn channel(&self, connector: &Connector) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("it is an address");
        connector.channel(&endpoint)
    }

    pub(crate) fn channel_of(&self, credentials: &Path) -> Channel {
        let credentials = Credentials::load(credentials).expect("they can be read").expect("they are there");
        let transport = Transport::new(credentials).expect("they fit");
        self.channel(&Connector::new(transport, Role::Manager, None, CONNECT))
    }

    pub(crate) async fn token(&self, role: &str, rotate: bool) -> String {
        let mut identity = IdentityClient::new(self.channel_of(&self.path("m1/client.pem")));
        until("it gives a token", async || {
            let request = GetJoinTokenRequest { request_id: request_id(7), role: role.into(), rotate };
            Some(identity.get_join_token(request).await.ok()?.into_inner().token)
        })
        .await
    }

    /// A member of each role, and somebody with a token alone.
    pub(crate) async fn callers(&self) -> Vec<(&'static str, Channel)> {
        let token = self.token("worker", false).await;
        let parsed: JoinToken = token.parse().expect("it is one");
        let newcomer = Connector::newcomer(&parsed, None, CONNECT).expect("it is one");
        let request = goat_tls::credentials::Request::new().expect("random numbers");
        let mut identity = IdentityClient::new(self.channel(&newcomer));
        let reply = identity
            .join_worker(goat_proto::v1::JoinWorkerRequest {
                secret: parsed.secret().into(),
                node_id: request_id(1),
                certificate_request: request.as_bytes().to_vec().into(),
            })
            .await
            .expect("it is invited")
            .into_inner();
        let worker = request.answered(&reply.certificate, &reply.authorities).expect("they fit");
        worker.store(&self.path("worker.pem")).expect("there is room");
        vec![
            ("manager", self.channel_of(&self.path("m1/identity.pem"))),
            ("worker", self.channel_of(&self.path("worker.pem"))),
            ("client", self.channel_of(&self.path("m1/client.pem"))),
            ("nobody", self.channel(&newcomer)),
        ]
    }
}

fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(goat_proto::DESCRIPTORS).expect("the build made it");
    let services = set.file.iter().flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    services
        .flat_map(|(package, service)| {
            service.method.iter().map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
        })
        .collect()
}

/// An empty request; what becomes of it inside does not matter.
pub(crate) async fn call(channel: Channel, method: &str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(format!("{error:?}")))?;
    let path = PathAndQuery::try_from(method).expect("it is a path");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let asked = grpc.unary(Request::new(()), path, codec);
    // A session waits for its hello.
    match tokio::time::timeout(Duration::from_secs(8), asked).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(Status::deadline_exceeded("it was let in, and waits")),
    }
}

fn is_shut_out(answer: &Result<(), Status>) -> bool {
    answer.as_ref().is_err_and(|status| match status.code() {
        Code::Unauthenticated => true,
        Code::PermissionDenied => status.message().starts_with("a certificate for a "),
        _ => false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_may_call_what_it_needs_and_nothing_else() {
    let secured = Secured::start(1);
    let mut cells = 0;
    for (role, channel) in secured.callers().await {
        for method in methods() {
            let answer = call(channel.clone(), &method).await;
            let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
            assert_ne!(code, Code::Unavailable, "{role} {method}: {answer:?}");
            let may = match method.split(['.', '/']).nth(3) {
                Some("Raft") => role == "manager",
                Some("Dispatcher") => role == "manager" || role == "worker",
                Some("Presence") => role == "manager" || (role == "worker" && method.ends_with("/Ping")),
                Some("Identity") if method.contains("/Join") => true,
                Some("Identity") if method.ends_with("/Renew") => role != "nobody",
                Some("Identity" | "Control") => role == "manager" || role == "client",
                other => panic!("a service that is not in this test: {other:?}"),
            };
            assert_eq!(is_shut_out(&answer), !may, "{role} {method}: {answer:?}");
            cells += 1;
        }
    }
    assert_eq!(cells, 4 * methods().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_before_they_can_ask_anything() {
    let (secured, other) = (Secured::start(2), Secured::start(3));
    let token = secured.token("worker", false).await;
    other.token("worker", false).await;
    // A member of another cluster.
    let theirs = Credentials::load(&other.path("m1/client.pem")).expect("readable").expect("there");
    let stranger = Connector::new(Transport::new(theirs).expect("they fit"), Role::Manager, None, CONNECT);
    let refused = call(secured.channel(&stranger), "/goat.v1.Control/GetStatus").await.expect_err("another cluster");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    // Somebody who does not speak TLS.
    let plain = Connector::new(Transport::plaintext(), Role::Manager, None, CONNECT);
    call(secured.channel(&plain), "/goat.v1.Control/GetStatus").await.expect_err("it is encrypted");
    // Somebody with a token of this cluster who is led to another one.
    let newcomer = Connector::newcomer(&token.parse().expect("it is one"), None, CONNECT).expect("it is one");
    let refused = call(other.channel(&newcomer), "/goat.v1.Identity/JoinWorker").await.expect_err("another authority");
    let text = goat_tls::connect::cause("it", &refused);
    assert!(text.contains(goat_tls::connect::OTHER_AUTHORITY), "{text}");
    // A worker's certificate does not make a manager's messages believed.
    call(secured.channel_of(&secured.path("m1/client.pem")), "/goat.v1.Control/GetStatus").await.expect("still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_invite_for_one_role_until_they_are_replaced() {
    let secured = Secured::start(4);
    let (worker, manager) = (secured.token("worker", false).await, secured.token("manager", false).await);
    let join = |token: &str| {
        let dir = secured.path("new").display().to_string();
        let words = ["join", "--token", token, "--name", "m2", "--advertise", "127.85.4.2:1", "--data-dir", &dir];
        said(&[&words[..], &[secured.address.as_str()]].concat())
    };
    for (token, why) in [
        (worker.clone(), "this join token is for a worker"),
        (manager[..manager.len() - 5].to_owned(), "its secret is cut short"),
        (manager.replace(&manager[manager.len() - 26..], &"a".repeat(26)), "does not invite a manager"),
        (manager.replace(&manager[14..66], &"a".repeat(52)), "its authority is not the one"),
    ] {
        let (code, text) = join(&token);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(why), "{text}");
        assert!(!text.contains(&manager[manager.len() - 26..]), "the secret is told: {text}");
    }
    let newer = secured.token("manager", true).await;
    assert_ne!(newer, manager);
    let (_, text) = join(&manager);
    assert!(text.contains("it was replaced by a newer one") && text.contains("goatctl cluster join-token"), "{text}");
    let (code, text) = join(&newer);
    assert_eq!(code, Some(0), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_private_is_for_its_owner_alone_and_in_no_log() {
    let secured = Secured::start(5);
    let token = secured.token("manager", false).await;
    let mode = |name: &str| std::fs::metadata(secured.path(name)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(["m1", "m1/identity.pem", "m1/client.pem"].map(mode), [0o700, 0o600, 0o600]);
    let log = std::fs::read_to_string(secured.path("log")).expect("it has a log");
    let key = std::fs::read_to_string(secured.path("m1/identity.pem")).expect("it is there");
    let key_line = key.lines().nth(1).expect("it has lines");
    assert!(!log.contains(&token[token.len() - 26..]) && !log.contains(key_line) && !log.contains("PRIVATE"), "{log}");
}

#[test]
fn a_manager_that_cannot_show_who_it_is_does_not_start() {
    let dir = tempfile::tempdir().expect("there is room");
    let data_dir = dir.path().join("m1");
    let text_dir = data_dir.display().to_string();
    let (code, text) = said(&["init", "--name", "m1", "--advertise", "127.85.6.1:1", "--data-dir", &text_dir]);
    assert_eq!(code, Some(0), "{text}");
    let run = |more: &[&str]| said(&[&["run", "--data-dir", &text_dir, "--listen", "127.85.6.1:0"], more].concat());
    let (code, text) = run(&["--plaintext"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the cluster is encrypted: leave out --plaintext"), "{text}");
    let file = data_dir.join("identity.pem");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
    let (code, text) = run(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("may be read by others than its owner (mode 644)"), "{text}");
    std::fs::remove_file(&file).expect("it is ours");
    let (code, text) = run(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("identity.pem is missing") && text.contains("goatctl manager rm"), "{text}");
    let (code, text) = said(&["run", "--plaintext", "--data-dir", &text_dir, "--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("without encryption only loopback is allowed"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_client_is_refused_by_every_call_and_others_are_not() {
    let secured = Secured::start(9);
    secured.token("worker", false).await;
    let manager = secured.channel_of(&secured.path("m1/identity.pem"));
    let mut identity = IdentityClient::new(manager.clone());
    let issue = async |name: &str| {
        let own = goat_tls::credentials::Request::new().expect("random numbers");
        let request = IssueClientRequest { name: name.into(), certificate_request: own.as_bytes().to_vec().into() };
        let reply = IdentityClient::new(manager.clone()).issue_client(request).await?.into_inner();
        let file = secured.path(&format!("{name}.pem"));
        own.answered(&reply.certificate, &reply.authorities).expect("they fit").store(&file).expect("there is room");
        Ok::<_, Status>(secured.channel_of(&file))
    };
    let revoke = |name: &str| RevokeClientRequest { request_id: request_id(11), name: name.into() };
    let (eve, adam) = (issue("eve").await.expect("issued"), issue("adam").await.expect("issued"));
    call(eve.clone(), "/goat.v1.Control/GetStatus").await.expect("she is a client");
    identity.revoke_client(revoke("eve")).await.expect("revoked");
    for method in methods().iter().filter(|method| !method.contains("/Join")) {
        let refused = call(eve.clone(), method).await.expect_err("on a connection that was there before, too");
        assert!(refused.message().contains("the certificate of eve was revoked"), "{method}: {refused}");
    }
    call(adam, "/goat.v1.Control/GetStatus").await.expect("he is another");
    let refused = issue("eve").await.expect_err("the name is revoked");
    assert!(refused.message().contains("issue a certificate for another name"), "{refused}");
    let listed = identity.list_clients(ListClientsRequest::default()).await.expect("listed").into_inner();
    let listed: Vec<_> = listed.clients.iter().map(|client| (client.name.as_str(), client.revoked_at_ms > 0)).collect();
    assert_eq!(listed, [("adam", false), ("eve", true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_a_join_secret_is_slow() {
    let secured = Secured::start(10);
    let token: JoinToken = secured.token("worker", false).await.parse().expect("it is one");
    let newcomer = Connector::newcomer(&token, None, CONNECT).expect("it is one");
    let mut answers = Vec::new();
    for guess in 0..20_u64 {
        let request = goat_proto::v1::JoinWorkerRequest { secret: format!("{guess:026}"), ..Default::default() };
        let refused = IdentityClient::new(secured.channel(&newcomer)).join_worker(request).await;
        answers.push(refused.expect_err("it is wrong").code());
    }
    assert_eq!(answers[0], Code::PermissionDenied);
    assert_eq!(*answers.last().expect("there are some"), Code::Unavailable, "{answers:?}");
    let log = std::fs::read_to_string(secured.path("log")).expect("it has a log");
    assert!(log.contains("wrong join tokens were shown"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_in_wrong_hands_is_cut_off_while_it_is_alive() {
    let secured = Secured::start(11);
    let callers = secured.callers().await;
    let worker = callers[1].1.clone();
    let (to_leader, messages) = mpsc::channel(4);
    let hello = worker_message::Message::Hello(crate::worker::hello(&request_id(1), "w1"));
    to_leader.send(WorkerMessage { message: Some(hello) }).await.expect("there is room");
    let opened = DispatcherClient::new(worker.clone()).session(ReceiverStream::new(messages)).await;
    let mut session = opened.expect("it is a worker").into_inner();
    session.message().await.expect("a welcome").expect("a welcome");
    let mut control = ControlClient::new(callers[2].1.clone());
    control.upgrade_cluster(UpgradeClusterRequest { request_id: request_id(12) }).await.expect("all are new");
    let request = RemoveNodeRequest { request_id: request_id(13), reference: "w1".into(), force: true };
    control.remove_node(request).await.expect("revoked");
    let ended = async { while let Ok(Some(_)) = session.message().await {} };
    tokio::time::timeout(DEADLINE, ended).await.expect("the session that it had is ended");
    let refused = call(worker, "/goat.v1.Dispatcher/Session").await.expect_err("it is refused");
    assert!(refused.metadata().contains_key(goat_proto::REMOVED), "an honest worker stops its tasks: {refused}");
}
