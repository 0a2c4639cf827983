//! Counts and times every call, by method and code. A layer around the gate, so that what it refuses is counted as well.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use goat_observe::Sheet;
use goat_observe::metric::{Show, durations};
use prometheus_client::metrics::histogram::Histogram;
use tonic::Code;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::names;
use crate::security::gate::RULES;

const PACKAGE: &str = "/goat.v1.";
/// Of what no manager serves: whoever calls it chooses the name.
const UNKNOWN: &str = "unknown";
/// gRPC's codes are 0 to 16.
const CODES: usize = 17;

#[derive(Debug)]
struct Method {
    name: &'static str,
    codes: [AtomicU64; CODES],
    took: Histogram,
}

impl Method {
    fn new(name: &'static str) -> Self {
        Self { name, codes: [const { AtomicU64::new(0) }; CODES], took: durations() }
    }

    fn answered(&self, code: Code, since: Instant) {
        if let Some(count) = self.codes.get(code as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.took.observe(since.elapsed().as_secs_f64());
    }

    fn is_used(&self) -> bool {
        self.codes.iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }
}

/// What was called. Clones share it.
#[derive(Debug, Clone)]
pub struct Rpcs(Arc<HashMap<&'static str, Arc<Method>>>);

impl Default for Rpcs {
    fn default() -> Self {
        let known = RULES.iter().map(|(path, _)| (*path, path.strip_prefix(PACKAGE).unwrap_or(path)));
        let methods = known.chain([(UNKNOWN, UNKNOWN)]);
        Self(Arc::new(methods.map(|(path, name)| (path, Arc::new(Method::new(name)))).collect()))
    }
}

impl Rpcs {
    fn method(&self, path: &str) -> Arc<Method> {
        self.0.get(path).unwrap_or_else(|| &self.0[UNKNOWN]).clone()
    }
}

impl Show for Rpcs {
    fn show(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let mut methods: Vec<_> = self.0.values().filter(|method| method.is_used()).collect();
        methods.sort_by_key(|method| method.name);
        let rows = methods.iter().flat_map(|method| {
            let counts = method.codes.iter().enumerate().map(|(code, count)| (code, count.load(Ordering::Relaxed)));
            let used = counts.filter(|(_, count)| *count > 0);
            used.map(|(code, count)| ([method.name.to_owned(), code_word(code)], count))
        });
        sheet.each(&names::RPCS, rows)?;
        sheet.each_spread(&names::RPC_SECONDS, methods.iter().map(|method| ([method.name], &method.took)))
    }
}

/// As the code is called in gRPC: `DeadlineExceeded`.
fn code_word(code: usize) -> String {
    format!("{:?}", Code::from_i32(code as i32))
}

impl<S> Layer<S> for Rpcs {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Metered<S> {
        Metered { inner, rpcs: self.clone() }
    }
}

/// See [`Rpcs`].
#[derive(Debug, Clone)]
pub struct Metered<S> {
    inner: S,
    rpcs: Rpcs,
}

impl<S, B> Service<http::Request<B>> for Metered<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let (method, since) = (self.rpcs.method(request.uri().path()), Instant::now());
        let answer = self.inner.call(request);
        answer.inspect(move |answer| method.answered(code_of(answer.as_ref().ok()), since)).boxed()
    }
}

/// Refusals and failures of single answers say so in the head; what begins well has no code in it.
fn code_of(response: Option<&http::Response<Body>>) -> Code {
    match response {
        Some(response) => match response.headers().get("grpc-status") {
            Some(code) => Code::from_bytes(code.as_bytes()),
            None => Code::Ok,
        },
        None => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_serves_has_one_name_whatever_it_is_called() {
        let rpcs = Rpcs::default();
        assert_eq!(rpcs.method("/goat.v1.Control/GetStatus").name, "Control/GetStatus");
        for path in ["/goat.v1.Control/DropEverything", "/", "unknown"] {
            assert_eq!(rpcs.method(path).name, UNKNOWN);
        }
        assert_eq!(code_word(4), "DeadlineExceeded");
    }
}
