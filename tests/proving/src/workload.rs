//! Clients that ask every manager for everything, repeat what was not answered through another manager, and repeat on
//! purpose what was. They judge nothing.

use std::sync::Arc;
use std::time::Duration;

use goat_proto::v1;
use goat_proto::{LOG_INDEX, READ_INDEX};
use goat_testcluster::client::{Client, Control, is_passing};
use goat_testcluster::taskset::TaskSet;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use crate::op::{Answer, Book, Call, Op, Place};

/// Of one attempt.
const ATTEMPT: Duration = Duration::from_millis(2_500);
/// Of a request with all its attempts.
const REQUEST_US: u64 = 8_000_000;
const RETRY: Duration = Duration::from_millis(10);
/// What clients may take to end.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// The variable of a service that holds its value.
pub const VALUE: &str = "VALUE";

/// How clients behave.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub clients: usize,
    /// Between two requests of one client, on average.
    pub pause: Duration,
    /// So long a service is written to; then others take its place.
    pub key_life: Duration,
    /// Services at a time.
    pub keys: u64,
    /// Of each service, less than so many.
    pub replicas: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self { clients: 8, pause: Duration::from_millis(35), key_life: Duration::from_secs(3), keys: 3, replicas: 3 }
    }
}

/// Running clients.
#[derive(Debug)]
pub struct Workload {
    pub book: Book,
    stop: watch::Sender<bool>,
    tasks: TaskSet,
}

impl Workload {
    pub fn start(client: &Client, load: Load, seed: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (book, tasks) = (Book::default(), TaskSet::new("clients"));
        let client = Arc::new(client.with_limits(ATTEMPT, ATTEMPT));
        for number in 0..load.clients {
            let rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number as u64));
            let asker =
                Asker { client: client.clone(), number, load, rng, book: book.clone(), stop: stopped.clone(), next: 0 };
            tasks.spawn(asker.run());
        }
        Self { book, stop, tasks }
    }

    /// Lets every client finish what it is at.
    pub async fn finish(self) -> anyhow::Result<Book> {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + STOP_GRACE;
        while self.tasks.running() > 0 {
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "the clients do not end");
            tokio::time::sleep(RETRY).await;
        }
        Ok(self.book.clone())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Asks once, and takes down what came of it.
pub async fn ask(client: &Client, book: &Book, mut op: Op) -> Answer {
    op.invoked_us = book.now_us();
    let result = send(client, op.at, op.request.clone().unwrap_or_default(), &op.call).await;
    op.answered_us = book.now_us();
    op.answer = result.unwrap_or_else(|status| refusal(&status));
    let answer = op.answer.clone();
    book.add(op);
    answer
}

fn refusal(status: &tonic::Status) -> Answer {
    if is_passing(status) {
        return Answer::Unknown { why: format!("{:?}: {}", status.code(), status.message()) };
    }
    let index = |key: &str| status.metadata().get(key).and_then(|value| value.to_str().ok()?.parse().ok());
    let place = match (index(LOG_INDEX), index(READ_INDEX)) {
        (Some(index), _) => Place::Log(index),
        (None, Some(index)) => Place::Read(index),
        (None, None) => Place::Nowhere,
    };
    Answer::Refused { code: status.code(), text: status.message().to_owned(), place }
}

/// Whether a service of that name is a workload's.
pub fn is_key(name: &str) -> bool {
    name.strip_prefix('k').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// A service that runs nothing anywhere, with that value.
pub fn spec(name: &str, value: &str, replicas: u32) -> v1::ServiceSpec {
    v1::ServiceSpec {
        name: name.to_owned(),
        driver: "process".into(),
        command: vec!["/bin/true".into()],
        env: [(VALUE.to_owned(), value.to_owned())].into(),
        replicas,
        ..Default::default()
    }
}

async fn send(client: &Client, at: usize, request_id: String, call: &Call) -> Result<Answer, tonic::Status> {
    let read = call.is_read().then(|| v1::ReadOptions { stale: call.is_stale() });
    let reply = match call.clone() {
        Call::Create { name, value, replicas } => {
            let request = v1::CreateServiceRequest { request_id, spec: Some(spec(&name, &value, replicas)) };
            client.once(at, request, |mut to: Control, request| async move { to.create_service(request).await }).await?
        }
        Call::Update { name, value, replicas } => {
            let spec = Some(spec(&name, &value, replicas));
            let request = v1::UpdateServiceRequest { request_id, reference: name, seen_version: None, spec };
            client.once(at, request, |mut to: Control, request| async move { to.update_service(request).await }).await?
        }
        Call::Scale { name, replicas } => {
            let request = v1::ScaleServiceRequest { request_id, reference: name, replicas };
            client.once(at, request, |mut to: Control, request| async move { to.scale_service(request).await }).await?
        }
        Call::Remove { name } => {
            let request = v1::RemoveServiceRequest { request_id, reference: name };
            client.once(at, request, |mut to: Control, request| async move { to.remove_service(request).await }).await?
        }
        Call::Get { name, .. } => {
            let request = v1::GetServiceRequest { read, reference: name };
            let mut service = client
                .once(at, request, |mut to: Control, request| async move { to.get_service(request).await })
                .await?;
            let index = service.read.take().map_or(0, |read| read.index);
            return Ok(Answer::Service { index, service: Box::new(service) });
        }
        Call::List { .. } => {
            let request = v1::ListServicesRequest { read, ..Default::default() };
            let reply = client
                .once(at, request, |mut to: Control, request| async move { to.list_services(request).await })
                .await?;
            return Ok(Answer::Services { index: reply.read.map_or(0, |read| read.index), services: reply.services });
        }
    };
    Ok(Answer::Done { id: reply.id, version: reply.version, index: reply.index })
}

/// One client.
#[derive(Debug)]
struct Asker {
    client: Arc<Client>,
    number: usize,
    load: Load,
    rng: StdRng,
    book: Book,
    stop: watch::Receiver<bool>,
    next: u64,
}

impl Asker {
    async fn run(mut self) {
        while !*self.stop.borrow() {
            let call = self.choose();
            if call.is_read() {
                let op = self.op(&call, None);
                ask(&self.client, &self.book, op).await;
            } else {
                self.mutate(&call).await;
            }
            let pause = self.load.pause.mul_f64(self.rng.random_range(0.2..1.8));
            tokio::time::sleep(pause).await;
        }
    }

    fn choose(&mut self) -> Call {
        let life_us = self.load.key_life.as_micros().max(1) as u64;
        let epoch = self.book.now_us() / life_us;
        let name = format!("k{epoch}-{}", self.rng.random_range(0..self.load.keys));
        self.next += 1;
        let value = format!("{}-{}", self.number, self.next);
        let replicas = self.rng.random_range(0..self.load.replicas);
        match self.rng.random_range(0..100) {
            0..20 => Call::Create { name, value, replicas },
            20..38 => Call::Update { name, value, replicas },
            38..50 => Call::Scale { name, replicas },
            50..60 => Call::Remove { name },
            60..82 => Call::Get { name, is_stale: false },
            82..88 => Call::Get { name, is_stale: true },
            88..96 => Call::List { is_stale: false },
            _ => Call::List { is_stale: true },
        }
    }

    fn op(&mut self, call: &Call, request: Option<&str>) -> Op {
        Op {
            client: self.number,
            at: self.rng.random_range(0..self.client.managers()),
            request: request.map(str::to_owned),
            call: call.clone(),
            invoked_us: 0,
            answered_us: 0,
            answer: Answer::Unknown { why: String::new() },
        }
    }

    /// Until it is answered or its time is up. Some are sent to two managers at once, some again after the answer.
    async fn mutate(&mut self, call: &Call) {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let id: String = (0..12).map(|_| char::from(DIGITS[self.rng.random_range(0..32)])).collect();
        let began_us = self.book.now_us();
        if self.rng.random_bool(0.08) {
            let (one, other) = (self.op(call, Some(&id)), self.op(call, Some(&id)));
            tokio::join!(ask(&self.client, &self.book, one), ask(&self.client, &self.book, other));
        }
        loop {
            let op = self.op(call, Some(&id));
            if !ask(&self.client, &self.book, op).await.is_unknown() {
                break;
            }
            if self.book.now_us() - began_us > REQUEST_US || *self.stop.borrow() {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
        if self.rng.random_bool(0.08) {
            let op = self.op(call, Some(&id));
            ask(&self.client, &self.book, op).await;
        }
    }
}
