//! Three pages over plain HTTP: whether the process lives, whether it can serve, its metrics. Nothing in them is secret and
//! nothing can be changed through them, so that they may be read by whatever watches over machines; who may reach them is
//! the network's affair.
//!
//! One request a connection, within bounds of time, size and number. A connection beyond the number takes the place of the
//! oldest one of the source address that has most: a slow reader does not blind the others.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tracing::warn;

use crate::metric::page;

/// At the same time.
const MAX_CONNECTIONS: usize = 128;
/// From the first byte to the last of the answer.
const CONNECTION_TIME: Duration = Duration::from_secs(15);
const HEADER_TIME: Duration = Duration::from_secs(5);
const MAX_HEADER_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// After a failed accept, as when there are no file descriptors left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Whether the program can do what it is there for.
#[async_trait]
pub trait Readiness: fmt::Debug + Send + Sync + 'static {
    /// Each in words: what it is ready for, or what is missing.
    async fn ready(&self) -> Result<String, String>;
}

/// What is shown.
#[derive(Debug, Clone)]
pub struct Site {
    /// The program and its version.
    pub program: &'static str,
    pub version: &'static str,
    pub readiness: Arc<dyn Readiness>,
    pub registry: Arc<Registry>,
}

/// Open connections. They end with this.
#[derive(Debug, Default)]
struct Connections {
    running: JoinSet<()>,
    /// Oldest first.
    open: VecDeque<(IpAddr, AbortHandle)>,
}

impl Connections {
    /// Ends when a connection has; never while there is none.
    async fn ended(&mut self) {
        let Some(ended) = self.running.join_next_with_id().await else { return std::future::pending().await };
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        self.open.retain(|(_, connection)| connection.id() != id);
    }

    fn add(&mut self, source: IpAddr, connection: impl Future<Output = ()> + Send + 'static) {
        if self.open.len() >= MAX_CONNECTIONS
            && let Some(at) = self.oldest_of_largest()
            && let Some((_, oldest)) = self.open.remove(at)
        {
            oldest.abort();
        }
        self.open.push_back((source, self.running.spawn(connection)));
    }

    /// The oldest connection of the source address with the most connections.
    fn oldest_of_largest(&self) -> Option<usize> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for (source, _) in &self.open {
            *counts.entry(*source).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        self.open.iter().position(|(source, _)| counts.get(source) == Some(&most))
    }
}

/// Serves the pages until it is dropped.
pub async fn serve(listener: TcpListener, site: Site) {
    let router = router(site);
    let mut connections = Connections::default();
    loop {
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
            () = connections.ended() => continue,
        };
        let router = router.clone();
        connections.add(address.ip(), async move {
            // Whoever asked has gone, or was too slow: nothing is lost.
            let _ = tokio::time::timeout(CONNECTION_TIME, answer(stream, router)).await;
        });
    }
}

async fn answer(stream: TcpStream, router: Router) -> Result<(), hyper::Error> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}

/// The site, and who makes its page of metrics.
#[derive(Debug, Clone)]
struct Served {
    site: Site,
    /// One page at a time: many readers must not take the processors from the program's own work.
    making: Arc<Semaphore>,
}

impl Served {
    fn new(site: Site) -> Self {
        Self { site, making: Arc::new(Semaphore::new(1)) }
    }
}

fn router(site: Site) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Served::new(site))
}

/// The runtime has come to answer: it lives.
async fn healthz(State(Served { site, .. }): State<Served>) -> String {
    format!("ok: {} {} is alive\n", site.program, site.version)
}

async fn readyz(State(Served { site, .. }): State<Served>) -> (StatusCode, String) {
    match site.readiness.ready().await {
        Ok(text) => (StatusCode::OK, format!("ready: {text}\n")),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {text}\n")),
    }
}

async fn metrics(State(Served { site, making }): State<Served>) -> Response {
    // The permit lasts as long as the work, also if the reader has gone meanwhile.
    let permit = making.acquire_owned().await;
    // The state's lock and the database are asked: not on the runtime's own threads.
    let made = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        page(&site.registry)
    })
    .await;
    match made {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[derive(Debug)]
    struct Always;

    #[async_trait]
    impl Readiness for Always {
        async fn ready(&self) -> Result<String, String> {
            Ok("it is".into())
        }
    }

    #[tokio::test]
    async fn one_page_of_metrics_is_made_at_a_time() {
        let registry = Arc::new(Registry::default());
        let served = Served::new(Site { program: "a", version: "1", readiness: Arc::new(Always), registry });
        let making = served.making.clone().acquire_owned().await.expect("it is never closed");
        let mut readers = JoinSet::new();
        for _ in 0..8 {
            readers.spawn(metrics(State(served.clone())));
        }
        let early = tokio::time::timeout(Duration::from_millis(100), readers.join_next()).await;
        assert!(early.is_err(), "a second page was made: {early:?}");
        drop(making);
        for answer in readers.join_all().await {
            assert_eq!(answer.status(), StatusCode::OK);
        }
    }

    async fn ask(address: std::net::SocketAddr) -> String {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.2:0".parse().expect("an address")).expect("a free port");
        let mut stream = socket.connect(address).await.expect("it listens");
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    #[tokio::test]
    async fn callers_that_say_nothing_blind_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let registry = Arc::new(Registry::default());
        let site = Site { program: "a", version: "1", readiness: Arc::new(Always), registry };
        let server = tokio::spawn(serve(listener, site));
        let mut silent = Vec::new();
        for _ in 0..2 * MAX_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.expect("it listens"));
        }
        let answer = tokio::time::timeout(HEADER_TIME / 2, ask(address)).await.expect("at once");
        assert!(answer.contains("ready: it is"), "{answer}");
        server.abort();
    }
}
