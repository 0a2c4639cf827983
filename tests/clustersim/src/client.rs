//! Clients that change services through any manager, each its own, and know what has to be there afterwards. What has no
//! answer is asked again with the same request id, until it has one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use goat_core::model::{RequestId, Standing};
use goat_proto::v1::control_client::ControlClient;
use goat_proto::v1::{
    CreateServiceRequest, RemoveServiceRequest, ScaleServiceRequest, ServiceReply, ServiceSpec, SetManagerRequest,
};
use goat_tls::{Connector, Network, Role, Transport};
use parking_lot::Mutex;
use rand::RngExt;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::manager;
use crate::trace::Trace;
use crate::witness::Witness;

const CONNECT_WITHIN: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Of one client at a time.
const SERVICES: usize = 4;
const POLICIES: [&str; 3] = ["stop", "keep", "stop-if-isolated"];
const VOTER: &str = Standing::Voter.as_str();
const LEARNER: &str = Standing::Learner.as_str();
/// Of a request being one about managers.
const ABOUT_MANAGERS: f64 = 0.05;
/// Of the vote that was taken being given back next.
const VOTE_BACK: f64 = 0.2;

/// What clients have in common with whoever judges. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk {
    pub witness: Witness,
    pub trace: Trace,
    /// Of all services that have to be there: how many replicas.
    wanted: Arc<Mutex<BTreeMap<String, u32>>>,
    is_paused: Arc<AtomicBool>,
    /// Managers may lose their vote for a while.
    is_storm: Arc<AtomicBool>,
    /// The one that has, or may have.
    learner: Arc<Mutex<Option<usize>>>,
    /// Requests without an answer.
    open: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
}

impl Desk {
    pub fn new(witness: Witness, trace: Trace) -> Self {
        Self {
            witness,
            trace,
            wanted: Arc::default(),
            is_paused: Arc::default(),
            is_storm: Arc::default(),
            learner: Arc::default(),
            open: Arc::default(),
            answered: Arc::default(),
        }
    }

    /// No new requests while it is paused.
    pub fn pause(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Relaxed);
    }

    /// In a storm one manager at a time loses its vote; it gets that back at the latest when the storm is over.
    pub fn storm(&self, is_storm: bool) {
        self.is_storm.store(is_storm, Ordering::Relaxed);
    }

    pub fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0 && self.learner.lock().is_none()
    }

    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub fn wanted(&self) -> BTreeMap<String, u32> {
        self.wanted.lock().clone()
    }
}

/// One client.
#[derive(Debug)]
pub struct Client {
    number: usize,
    desk: Desk,
    channels: Vec<Channel>,
    own: BTreeMap<String, u32>,
    made: u64,
    pace_ms: u64,
}

#[derive(Debug, Clone)]
enum Request {
    Create { name: String, replicas: u32, policy: &'static str },
    Scale { name: String, replicas: u32 },
    Remove { name: String },
    SetManager { manager: usize, standing: &'static str },
}

impl Request {
    /// A vote is not taken where those that are left could not decide anything.
    fn may_be_refused(&self) -> bool {
        matches!(self, Self::SetManager { standing, .. } if *standing == LEARNER)
    }
}

impl Client {
    /// `pace_ms`: between two requests, about.
    pub fn new(number: usize, managers: &[String], network: Network, desk: Desk, pace_ms: u64) -> Self {
        let transport = Transport::plaintext().over(network);
        let connector = Connector::new(transport, Role::Manager, None, CONNECT_WITHIN);
        let channel = |address: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
            connector.channel(&endpoint.http2_keep_alive_interval(Duration::from_secs(2)))
        };
        let channels = managers.iter().map(channel).collect();
        Self { number, desk, channels, own: BTreeMap::new(), made: 0, pace_ms }
    }

    /// Never ends.
    pub async fn run(mut self) {
        loop {
            let wait_ms = rand::rng().random_range(1..=self.pace_ms * 2);
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            let Some(request) = self.about_managers().or_else(|| self.about_services()) else { continue };
            self.desk.open.fetch_add(1, Ordering::Relaxed);
            self.see_through(&request).await;
            self.desk.open.fetch_sub(1, Ordering::Relaxed);
            self.desk.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One client alone asks such things, so that it is one manager at a time.
    fn about_managers(&self) -> Option<Request> {
        if self.number > 0 {
            return None;
        }
        let (random, is_storm) = (&mut rand::rng(), self.desk.is_storm.load(Ordering::Relaxed));
        let mut learner = self.desk.learner.lock();
        if let Some(manager) = *learner {
            let comes_back = !is_storm || random.random_bool(VOTE_BACK);
            return comes_back.then_some(Request::SetManager { manager, standing: VOTER });
        }
        if !is_storm || !random.random_bool(ABOUT_MANAGERS) {
            return None;
        }
        let manager = random.random_range(0..self.channels.len());
        // Before the answer: one that gets lost, or is a refusal of the second try, says nothing of the first.
        *learner = Some(manager);
        Some(Request::SetManager { manager, standing: LEARNER })
    }

    fn about_services(&mut self) -> Option<Request> {
        (!self.desk.is_paused.load(Ordering::Relaxed)).then(|| self.choose())
    }

    fn choose(&mut self) -> Request {
        let random = &mut rand::rng();
        let replicas = random.random_range(1..=3);
        let chosen = self.own.keys().nth(random.random_range(0..SERVICES)).cloned();
        match (chosen, random.random_range(0..10)) {
            (Some(name), 0..=1) => Request::Remove { name },
            (Some(name), 2..) => Request::Scale { name, replicas: random.random_range(0..=3) },
            (None, _) => {
                self.made += 1;
                let policy = POLICIES[random.random_range(0..POLICIES.len())];
                Request::Create { name: format!("c{}-{}", self.number, self.made), replicas, policy }
            }
            (Some(_), ..0) => unreachable!("nothing is below 0"),
        }
    }

    /// Asks until there is an answer, and notes what it means.
    async fn see_through(&mut self, request: &Request) {
        let id = RequestId::from_random(rand::random()).to_string();
        let before = self.desk.witness.acknowledged();
        let mut at = rand::rng().random_range(0..self.channels.len());
        loop {
            let reply = tokio::time::timeout(ANSWER_WITHIN, ask(self.channels[at].clone(), &id, request)).await;
            match reply {
                Ok(Ok(index)) => {
                    let now = self.desk.trace.now();
                    self.desk.trace.event(now, format_args!("client {} {request:?} at {index}", self.number));
                    self.desk.witness.acknowledge(before, index);
                    return self.note(request);
                }
                Ok(Err(status)) if is_final(&status) && request.may_be_refused() => return,
                Ok(Err(status)) if is_final(&status) => {
                    return self.desk.witness.violation(format!(
                        "client {} {request:?} was refused: {:?} {}",
                        self.number,
                        status.code(),
                        status.message()
                    ));
                }
                Ok(Err(_)) | Err(_) => {
                    let wait_ms = rand::rng().random_range(20..400);
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                    at = (at + 1) % self.channels.len();
                }
            }
        }
    }

    fn note(&mut self, request: &Request) {
        let (name, replicas) = match request {
            Request::Create { name, replicas, .. } | Request::Scale { name, replicas } => (name, Some(*replicas)),
            Request::Remove { name } => (name, None),
            Request::SetManager { standing, .. } => {
                if *standing == VOTER {
                    *self.desk.learner.lock() = None;
                }
                return;
            }
        };
        let mut wanted = self.desk.wanted.lock();
        for known in [&mut self.own, &mut *wanted] {
            match replicas {
                Some(replicas) => drop(known.insert(name.clone(), replicas)),
                None => drop(known.remove(name)),
            }
        }
    }
}

fn is_final(status: &Status) -> bool {
    let is_broken = std::error::Error::source(status).is_some();
    !is_broken && !matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::Cancelled)
}

/// The index of what was done.
async fn ask(channel: Channel, id: &str, request: &Request) -> Result<u64, Status> {
    let mut client = ControlClient::new(channel);
    let request_id = id.to_owned();
    let reply = match request.clone() {
        Request::Create { name, replicas, policy } => {
            let spec = ServiceSpec {
                name,
                replicas,
                driver: "process".into(),
                command: vec!["/bin/simulated".into()],
                on_disconnect: policy.into(),
                stop_grace_ms: Some(1_000),
                ..ServiceSpec::default()
            };
            client.create_service(CreateServiceRequest { request_id, spec: Some(spec) }).await
        }
        Request::Scale { name, replicas } => {
            client.scale_service(ScaleServiceRequest { request_id, reference: name, replicas }).await
        }
        Request::Remove { name } => client.remove_service(RemoveServiceRequest { request_id, reference: name }).await,
        Request::SetManager { manager, standing } => {
            let (reference, standing) = (manager::name(manager), standing.to_owned());
            let request = SetManagerRequest { request_id, reference, standing, force: false };
            return client.set_manager(request).await.map(|reply| reply.into_inner().index);
        }
    };
    reply.map(|reply: Response<ServiceReply>| reply.into_inner().index)
}
