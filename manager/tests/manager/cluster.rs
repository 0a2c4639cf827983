//! Three real manager processes on loopback, and what tests ask of them.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use goat_proto::v1::control_client::ControlClient;
use goat_proto::v1::dispatcher_client::DispatcherClient;
use goat_proto::v1::{
    CreateServiceRequest, ListPeersRequest, ListServicesRequest, Peer, ServiceReply, ServiceSpec, SetManagerReply,
    SetManagerRequest,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};

pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Manager {
    pub name: String,
    pub address: String,
    pub data_dir: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
    log: PathBuf,
}

/// Runs goat-manager to its end.
pub fn output(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_goat-manager")).args(arguments).output().expect("the binary starts")
}

/// Runs goat-manager to its end: its exit code, and what it said on standard error.
pub fn said(arguments: &[&str]) -> (Option<i32>, String) {
    let output = output(arguments);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

impl Manager {
    /// Makes the cluster, as the first manager, or joins it.
    fn enter(&self, first: &str) {
        let (name, address, dir) = (self.name.as_str(), self.address.as_str(), self.data_dir.display().to_string());
        let place = ["--name", name, "--advertise", address, "--data-dir", &dir, "--plaintext"];
        let words = if address == first { vec!["init"] } else { vec!["join", first] };
        let (code, text) = said(&[&words[..], &place[..]].concat());
        assert_eq!(code, Some(0), "{text}");
    }

    /// One that is none yet, with a directory and an address beside another's.
    pub fn beside(other: &Self, name: &str) -> Self {
        Self {
            name: name.into(),
            address: "127.84.255.9:7700".into(),
            data_dir: other.data_dir.with_file_name(name),
            arguments: Vec::new(),
            child: None,
            log: other.log.with_file_name(format!("{name}.log")),
        }
    }

    /// Joins with a directory that is not there, and starts.
    pub fn join_fresh(&mut self, asked: &str) {
        self.enter(asked);
        self.start();
    }

    /// Joins with an empty directory, and starts.
    pub fn join_anew(&mut self, asked: &str) {
        std::fs::remove_dir_all(&self.data_dir).expect("it was there");
        self.enter(asked);
        self.start();
    }

    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts it with more in its environment.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        let child = Command::new(env!("CARGO_BIN_EXE_goat-manager"))
            .args(&self.arguments)
            .envs(environment.iter().copied())
            .stderr(File::options().create(true).append(true).open(&self.log).expect("there is room"))
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
    }

    /// Will listen at another port of its address; it must not run.
    pub fn move_away(&mut self) {
        let (ip, _) = self.address.rsplit_once(':').expect("it has a port");
        let free = TcpListener::bind(format!("{ip}:0")).expect("loopback has free ports");
        let address = free.local_addr().expect("it is bound").to_string();
        for argument in self.arguments.iter_mut().filter(|argument| **argument == self.address) {
            argument.clone_from(&address);
        }
        self.address = address;
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it was started");
        }
    }

    /// Asks it to stop, and waits for that. Its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        let pid = Pid::from_raw(child.id() as i32);
        kill(pid, Signal::SIGTERM).expect("it is ours");
        child.wait().expect("it was started").code()
    }

    /// Waits for it to end by itself: its exit code, and all it has said.
    pub fn ended(&mut self) -> (Option<i32>, String) {
        let mut child = self.child.take().expect("it was started");
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            match child.try_wait().expect("it is ours") {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    child.kill().expect("it is ours");
                    panic!("{} does not end: {}", self.name, self.log());
                }
                None => std::thread::yield_now(),
            }
        };
        (status.code(), self.log())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("it has a log")
    }

    pub async fn dispatcher(&self) -> Result<DispatcherClient<Channel>, Status> {
        let address = format!("http://{}", self.address);
        DispatcherClient::connect(address).await.map_err(|error| Status::unavailable(error.to_string()))
    }

    pub async fn client(&self) -> Result<ControlClient<Channel>, Status> {
        let address = format!("http://{}", self.address);
        ControlClient::connect(address).await.map_err(|error| Status::unavailable(error.to_string()))
    }
}

/// Killed with the test, whatever becomes of it.
pub struct Cluster {
    pub managers: Vec<Manager>,
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
    /// Three managers, on an address of loopback that is this test's own. They may not all vote yet.
    pub fn new(subnet: u8) -> Self {
        Self::with(subnet, &[])
    }

    /// As [`Cluster::new`], with more options for each.
    pub fn with(subnet: u8, more: &[&str]) -> Self {
        Self::of(3, subnet, more)
    }

    /// The same, of any number.
    pub fn of(count: u8, subnet: u8, more: &[&str]) -> Self {
        let dir = TempDir::new().expect("there is room");
        let listeners: Vec<_> = (1..=count)
            .map(|id| TcpListener::bind(format!("127.84.{subnet}.{id}:0")).expect("loopback has free ports"))
            .collect();
        let addresses: Vec<_> =
            listeners.iter().map(|listener| listener.local_addr().expect("it is bound").to_string()).collect();
        drop(listeners);
        let managers = (1..=count).zip(addresses).map(|(id, address)| {
            let data_dir = dir.path().join(format!("m{id}"));
            let log = dir.path().join(format!("m{id}.log"));
            let options = [("--listen", address.clone()), ("--data-dir", data_dir.display().to_string())];
            let options = options.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
            let more = more.iter().map(|word| (*word).to_owned());
            let arguments = ["run", "--plaintext"].map(str::to_owned).into_iter().chain(options).chain(more).collect();
            Manager { name: format!("m{id}"), address, data_dir, arguments, child: None, log }
        });
        let mut cluster = Self { managers: managers.collect(), _dir: dir };
        let first = cluster.managers[0].address.clone();
        for manager in &mut cluster.managers {
            manager.enter(&first);
            manager.start();
        }
        cluster
    }

    pub async fn create(&self, at: usize, name: &str, request_id: &str) -> Result<ServiceReply, Status> {
        let spec = ServiceSpec { name: name.into(), image: "none:1".into(), replicas: 0, ..ServiceSpec::default() };
        self.create_spec(at, spec, request_id).await
    }

    pub async fn create_spec(&self, at: usize, spec: ServiceSpec, request_id: &str) -> Result<ServiceReply, Status> {
        let request = CreateServiceRequest { request_id: request_id.into(), spec: Some(spec) };
        Ok(self.managers[at].client().await?.create_service(request).await?.into_inner())
    }

    /// Creates through whichever manager answers, as goatctl would: one request id, kept over the tries.
    pub async fn create_anywhere(&self, name: &str, request_id: &str) -> ServiceReply {
        let deadline = Instant::now() + DEADLINE;
        for at in (0..self.managers.len()).cycle() {
            match self.create(at, name, request_id).await {
                Ok(reply) => return reply,
                Err(status) => {
                    // What has a source was made on this side: the connection broke, and the answer is not known.
                    let is_broken = std::error::Error::source(&status).is_some();
                    assert!(is_broken || status.code() == Code::Unavailable, "{status}");
                    assert!(Instant::now() < deadline, "no manager accepts writes: {status}");
                }
            }
        }
        unreachable!("there are managers")
    }

    pub async fn names(&self, at: usize) -> Result<Vec<String>, Status> {
        let reply = self.managers[at].client().await?.list_services(ListServicesRequest::default()).await?;
        let specs = reply.into_inner().services.into_iter().filter_map(|service| service.spec);
        let mut names: Vec<_> = specs.map(|spec| spec.name).collect();
        names.sort();
        Ok(names)
    }

    /// Waits until all three vote.
    pub async fn settled(&self) {
        let voters = async || {
            let reply = self.managers[0].client().await.ok()?.list_peers(ListPeersRequest {}).await.ok()?;
            let votes = |peer: &Peer| peer.reachable && (peer.role == "leader" || peer.role == "follower");
            (reply.into_inner().peers.iter().filter(|peer| votes(peer)).count() == 3).then_some(())
        };
        until("all three vote", voters).await;
    }

    /// Promotes, demotes or removes a manager through any other that answers.
    pub async fn set(&self, at: usize, name: &str, standing: &str, force: bool) -> Result<SetManagerReply, Status> {
        let request = SetManagerRequest {
            request_id: request_id(9_000_000 + next_number()),
            reference: name.into(),
            standing: standing.into(),
            force,
        };
        Ok(self.managers[at].client().await?.set_manager(request).await?.into_inner())
    }

    /// The position of the manager that all others call leader.
    pub async fn leader(&self, asked: usize) -> Option<usize> {
        let reply = self.managers[asked].client().await.ok()?.list_peers(ListPeersRequest {}).await.ok()?;
        let leader = reply.into_inner().peers.into_iter().find(|peer| peer.role == "leader" && peer.reachable)?;
        self.managers.iter().position(|manager| manager.name == leader.name)
    }
}

/// Another one at each call.
fn next_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A 12-character request id.
pub fn request_id(number: usize) -> String {
    format!("{number:0>12}")
}

/// Asks until there is an answer, which has to come in time.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
