//! One probe of a task: an HTTP request or a connection to where it listens, or a command beside it.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use goat_core::model::{HealthCheck, HealthProbe};
use http_body_util::Empty;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use tokio::net::TcpStream;

use super::Outcome;
use crate::runtime::{Error, Ran, Runtime};
use crate::task::TaskMeta;

/// More of what a command said is not kept: the beginning tells.
const MAX_PROBLEM_CHARS: usize = 200;

/// What is probed.
#[derive(Debug)]
pub(super) struct Target {
    runtime: Arc<dyn Runtime>,
    meta: TaskMeta,
    /// Asked for again after a failure.
    address: Option<IpAddr>,
}

impl Target {
    pub(super) fn new(runtime: Arc<dyn Runtime>, meta: TaskMeta) -> Self {
        Self { runtime, meta, address: None }
    }

    pub(super) fn meta(&self) -> &TaskMeta {
        &self.meta
    }

    pub(super) async fn probe(&mut self, check: &HealthCheck) -> Outcome {
        let limit = Duration::from_millis(check.timeout_ms);
        let port = match &check.probe {
            HealthProbe::Command { argv } => return ran(self.runtime.exec(&self.meta, argv, limit).await, limit),
            HealthProbe::Http { port, .. } | HealthProbe::Tcp { port } => *port,
        };
        let address = match self.address().await {
            Ok(address) => SocketAddr::new(address, port),
            Err(outcome) => return outcome,
        };
        let outcome = match &check.probe {
            HealthProbe::Http { path, .. } => {
                let asked = format!("GET http://{address}{path}");
                within(limit, &asked, get(address, path)).await
            }
            _ => within(limit, &format!("connecting to {address}"), connect(address)).await,
        };
        if outcome != Outcome::Passed {
            self.address = None;
        }
        outcome
    }

    async fn address(&mut self) -> Result<IpAddr, Outcome> {
        if let Some(address) = self.address {
            return Ok(address);
        }
        let address = self.runtime.address_of(&self.meta).await.map_err(could_not)?;
        Ok(*self.address.insert(address))
    }
}

/// Not the task's fault where its runtime does not answer.
fn could_not(error: Error) -> Outcome {
    let text = shortened(&error.to_string());
    if matches!(error, Error::Unreachable { .. }) { Outcome::Unknown(text) } else { Outcome::Failed(text) }
}

fn ran(result: Result<Ran, Error>, limit: Duration) -> Outcome {
    match result {
        Ok(Ran { code: Some(0), .. }) => Outcome::Passed,
        Ok(Ran { code, output }) => {
            let how = match code {
                Some(code) => format!("the command ended with exit code {code}"),
                None => format!("the command did not end within {} ms", limit.as_millis()),
            };
            let said = shortened(output.trim());
            Outcome::Failed(if said.is_empty() { how } else { format!("{how}: {said}") })
        }
        Err(error) => could_not(error),
    }
}

async fn within(limit: Duration, what: &str, work: impl Future<Output = Result<(), Miss>>) -> Outcome {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(Miss::Theirs(problem))) => Outcome::Failed(format!("{what}: {problem}")),
        Ok(Err(Miss::Ours(problem))) => Outcome::Unknown(format!("{what}: {problem}")),
        Err(_) => Outcome::Failed(format!("{what}: no answer within {} ms", limit.as_millis())),
    }
}

/// Why there is no answer to be content with.
enum Miss {
    Theirs(String),
    /// This worker lacks what a connection needs.
    Ours(String),
}

impl From<io::Error> for Miss {
    fn from(error: io::Error) -> Self {
        let is_ours = error.raw_os_error().is_some_and(|number| {
            let lacking = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::EADDRNOTAVAIL];
            lacking.contains(&Errno::from_raw(number))
        });
        if is_ours { Self::Ours(error.to_string()) } else { Self::Theirs(error.to_string()) }
    }
}

impl From<hyper::Error> for Miss {
    fn from(error: hyper::Error) -> Self {
        Self::Theirs(error.to_string())
    }
}

async fn connect(address: SocketAddr) -> Result<(), Miss> {
    TcpStream::connect(address).await?;
    Ok(())
}

/// Redirections are not followed: who redirects is there.
async fn get(address: SocketAddr, path: &str) -> Result<(), Miss> {
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, concat!("goat-worker/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Miss::Theirs(error.to_string()))?;
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let mut answer = pin!(async move { Ok(sender.send_request(request).await?.status()) });
    let status = tokio::select! {
        biased;
        status = &mut answer => status,
        // It is over, and has left the answer, if there is one.
        _ = connection => answer.await,
    };
    let status: StatusCode = status.map_err(|error: hyper::Error| Miss::from(error))?;
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    Err(Miss::Theirs(format!("status {status}")))
}

/// One line of it.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_PROBLEM_CHARS {
        return line;
    }
    line.chars().take(MAX_PROBLEM_CHARS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const PATIENT: Duration = Duration::from_secs(60);

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        (listener, address)
    }

    /// What a request shows that is answered so; and the request.
    async fn answered(answer: &str) -> (Outcome, String) {
        let (listener, address) = listener().await;
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("somebody asks");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("the request is whole"));
            }
            // Who has its answer may be gone.
            let _ = stream.write_all(answer.as_bytes()).await;
            String::from_utf8(head).expect("it is text")
        };
        tokio::join!(within(PATIENT, "asked", get(address, "/healthz?full=1")), serve)
    }

    #[tokio::test]
    async fn a_status_from_200_to_399_passes() {
        for status in ["200 OK", "204 No Content", "301 Moved", "399 Whatever"] {
            let (outcome, request) = answered(&format!("HTTP/1.1 {status}\r\nlocation: /there\r\n\r\n")).await;
            assert_eq!(outcome, Outcome::Passed, "{status}");
            assert!(request.starts_with("GET /healthz?full=1 HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
        }
        let kept_open = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nthe beginning";
        assert_eq!(answered(kept_open).await.0, Outcome::Passed, "the body is not waited for");
        assert_eq!(answered("HTTP/1.0 200 OK\r\n\r\nok").await.0, Outcome::Passed);
    }

    #[tokio::test]
    async fn other_statuses_and_what_is_no_answer_fail_and_say_what_came() {
        let failed = async |answer: &str| match answered(answer).await.0 {
            Outcome::Failed(problem) => problem,
            other => panic!("{answer:?}: {other:?}"),
        };
        let busy = failed("HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        assert_eq!(busy, "asked: status 503 Service Unavailable");
        assert_eq!(failed("HTTP/1.1 404 Not Found\r\n\r\n").await, "asked: status 404 Not Found");
        assert!(failed("SSH-2.0-OpenSSH\r\n\r\n").await.starts_with("asked: "));
        assert!(failed("").await.starts_with("asked: "));
    }

    #[tokio::test]
    async fn a_port_that_listens_passes_and_one_that_does_not_or_never_answers_fails() {
        let (listener, address) = listener().await;
        assert_eq!(within(PATIENT, "there", connect(address)).await, Outcome::Passed);
        let limit = Duration::from_millis(50);
        let silent = within(limit, "there", get(address, "/")).await;
        assert_eq!(silent, Outcome::Failed("there: no answer within 50 ms".into()));
        drop(listener);
        assert!(matches!(within(PATIENT, "there", connect(address)).await, Outcome::Failed(_)));
    }

    #[test]
    fn what_this_worker_or_the_runtime_lacks_is_not_held_against_the_task() {
        let lacking = |errno: Errno| matches!(Miss::from(io::Error::from(errno)), Miss::Ours(_));
        assert!(lacking(Errno::EMFILE) && lacking(Errno::EADDRNOTAVAIL));
        assert!(!lacking(Errno::ECONNREFUSED) && !lacking(Errno::EHOSTUNREACH));
        assert!(matches!(could_not(Error::Unreachable { problem: "away".into() }), Outcome::Unknown(_)));
        assert!(matches!(could_not(Error::failed("command-not-found", "no")), Outcome::Failed(_)));
    }

    #[test]
    fn a_command_passes_with_zero_and_else_says_how_it_ended_in_one_line() {
        let outcome = |code, output: &str| ran(Ok(Ran { code, output: output.into() }), Duration::from_millis(5));
        assert_eq!(outcome(Some(0), "all is well"), Outcome::Passed);
        let failed = |text: &str| Outcome::Failed(text.into());
        assert_eq!(outcome(Some(1), " no\n disk \n"), failed("the command ended with exit code 1: no disk"));
        assert_eq!(outcome(None, ""), failed("the command did not end within 5 ms"));
        let Outcome::Failed(long) = outcome(Some(1), &"é".repeat(5_000)) else { panic!("it failed") };
        assert!(long.ends_with('…') && long.chars().count() < 300);
    }
}
