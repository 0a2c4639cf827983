//! The dispatcher's service as tonic serves it. A log stream has smaller messages than a session, and tonic has one limit for
//! all methods of a server: so there are two servers.

use std::convert::Infallible;
use std::task::{Context, Poll};

use goat_proto::MAX_MESSAGE_BYTES;
use goat_proto::v1::dispatcher_server::DispatcherServer;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

use super::{Dispatcher, logs};

const PUSH_LOGS: &str = "/goat.v1.Dispatcher/PushLogs";

/// Both servers of the dispatcher.
#[derive(Debug, Clone)]
pub struct DispatcherServers {
    sessions: DispatcherServer<Dispatcher>,
    logs: DispatcherServer<Dispatcher>,
}

impl DispatcherServers {
    pub fn new(dispatcher: Dispatcher) -> Self {
        let sessions = DispatcherServer::new(dispatcher.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let logs = DispatcherServer::new(dispatcher).max_decoding_message_size(logs::MESSAGE_BYTES);
        Self { sessions, logs }
    }
}

impl NamedService for DispatcherServers {
    const NAME: &'static str = <DispatcherServer<Dispatcher> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for DispatcherServers {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <DispatcherServer<Dispatcher> as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = if request.uri().path() == PUSH_LOGS { &mut self.logs } else { &mut self.sessions };
        server.call(request)
    }
}
