//! A leader that is played by a test: every session that comes to it is the test's.

use std::net::SocketAddr;
use std::time::Duration;

use goat_core::model::ClusterId;
use goat_proto::v1::dispatcher_server::{Dispatcher, DispatcherServer};
use goat_proto::v1::{self, manager_message, worker_message};
use goat_worker::taskset::TaskSet;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub const WITHIN: Duration = Duration::from_secs(20);
pub const HEARTBEAT_MS: u64 = 100;

/// Hands every session to the test, and says where log streams come from.
struct Played {
    sessions: mpsc::Sender<Session>,
    log_streams: mpsc::UnboundedSender<SocketAddr>,
}

pub struct Session {
    /// The worker's end of the connection.
    pub from: SocketAddr,
    from_worker: Streaming<v1::WorkerMessage>,
    to_worker: mpsc::Sender<Result<v1::ManagerMessage, Status>>,
}

#[tonic::async_trait]
impl Dispatcher for Played {
    type SessionStream = ReceiverStream<Result<v1::ManagerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (to_worker, messages) = mpsc::channel(16);
        let from = request.remote_addr().expect("it is TCP");
        let session = Session { from, from_worker: request.into_inner(), to_worker };
        self.sessions.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn push_logs(
        &self,
        request: Request<Streaming<v1::PushLogsMessage>>,
    ) -> Result<Response<v1::PushLogsReply>, Status> {
        let _ = self.log_streams.send(request.remote_addr().expect("it is TCP"));
        Err(Status::unimplemented("no logs here"))
    }
}

impl Session {
    pub async fn say(&self, term: u64, message: manager_message::Message) {
        let message = v1::ManagerMessage { term, message: Some(message) };
        self.to_worker.send(Ok(message)).await.expect("the session lasts");
    }

    pub async fn welcome(&self, term: u64) {
        let welcome = v1::Welcome {
            cluster_id: ClusterId::from_random(1).to_string(),
            heartbeat_interval_ms: HEARTBEAT_MS as u32,
            lease_ttl_ms: 60_000,
            managers: Vec::new(),
        };
        self.say(term, manager_message::Message::Welcome(welcome)).await;
    }

    pub async fn grant(&self, term: u64, heartbeat_sequence: u64) {
        let grant = v1::LeaseGrant { heartbeat_sequence, ttl_ms: 0 };
        self.say(term, manager_message::Message::Lease(grant)).await;
    }

    /// None where the worker has ended the session.
    pub async fn heard(&mut self) -> Option<worker_message::Message> {
        let message =
            tokio::time::timeout(WITHIN, self.from_worker.message()).await.expect("it says something in time");
        message.ok().flatten()?.message
    }

    pub async fn hello(&mut self) -> v1::Hello {
        match self.heard().await.expect("the session lasts") {
            worker_message::Message::Hello(hello) => hello,
            other => panic!("no hello: {other:?}"),
        }
    }

    pub async fn heartbeat(&mut self) -> u64 {
        loop {
            match self.heard().await.expect("the session lasts") {
                worker_message::Message::Heartbeat(heartbeat) => return heartbeat.sequence,
                _ => continue,
            }
        }
    }

    /// The worker ends it, and not because nothing is said.
    pub async fn left(mut self, term: u64) {
        for _ in 0..100 {
            match self.heard().await {
                None => return,
                Some(_) => {
                    let ack = manager_message::Message::Ack(v1::ReportsAck { sequence: 0 });
                    let _ = self.to_worker.send(Ok(v1::ManagerMessage { term, message: Some(ack) })).await;
                }
            }
        }
        panic!("the worker goes on with it");
    }
}

/// What comes to a leader.
pub struct Arrivals {
    pub sessions: mpsc::Receiver<Session>,
    /// The worker's end of each log stream's connection.
    pub log_streams: mpsc::UnboundedReceiver<SocketAddr>,
}

/// Where a leader listens, and what comes to it.
pub async fn played(tasks: &TaskSet) -> (String, Arrivals) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it has one").to_string();
    let (sessions, come) = mpsc::channel(1);
    let (log_streams, opened) = mpsc::unbounded_channel();
    let service = DispatcherServer::new(Played { sessions, log_streams });
    let server = tonic::transport::Server::builder().add_service(service);
    let serve = server.serve_with_incoming(TcpListenerStream::new(listener));
    tasks.spawn("leader", async move { serve.await.expect("it serves") });
    (address, Arrivals { sessions: come, log_streams: opened })
}
