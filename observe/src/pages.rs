//! Three pages over plain HTTP: whether the process lives, whether it can serve, its metrics. Nothing in them is secret and
//! nothing can be changed through them, so that they may be read by whatever watches over machines; who may reach them is
//! the network's affair.
//!
//! One request a connection, within bounds of time, size and number: those beyond wait to be taken.

use std::fmt;
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
use tokio::task::JoinSet;
use tracing::warn;

use crate::metric::page;

const MAX_CONNECTIONS: usize = 64;
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

/// Serves the pages until it is dropped.
pub async fn serve(listener: TcpListener, site: Site) {
    let router = router(site);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // They end with this one.
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => break stream,
                    Err(error) => {
                        warn!(%error, "a connection could not be taken");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        };
        let router = router.clone();
        connections.spawn(async move {
            let _permit = permit;
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

fn router(site: Site) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(site)
}

/// The runtime has come to answer: it lives.
async fn healthz(State(site): State<Site>) -> String {
    format!("ok: {} {} is alive\n", site.program, site.version)
}

async fn readyz(State(site): State<Site>) -> (StatusCode, String) {
    match site.readiness.ready().await {
        Ok(text) => (StatusCode::OK, format!("ready: {text}\n")),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {text}\n")),
    }
}

async fn metrics(State(site): State<Site>) -> Response {
    // The state's lock and the database are asked: not on the runtime's own threads.
    let made = tokio::task::spawn_blocking(move || page(&site.registry)).await;
    match made {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made\n").into_response(),
    }
}
