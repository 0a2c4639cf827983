//! Connections to a manager: how many each class of callers may have, and how much memory a connection may hold. Each class
//! has a server of its own, so that it has its own settings of HTTP/2.
//!
//! A connection holds at most its window of bytes that were received and not read yet, and per stream one header list and
//! one message that is not whole yet. Messages are bounded by each service.

use std::time::Duration;

use futures::future::try_join_all;
use goat_tls::{Class, Incoming, Limits, Listener, Share, Transport};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Error, Server};
use tower_layer::Stack;

use crate::metrics::rpc::Rpcs;
use crate::security::gate::GateLayer;

/// Connections of each class.
pub const LIMITS: Limits = Limits {
    handshake: Duration::from_secs(5),
    handshakes: 256,
    // A handshake takes one round trip, and it waits for the other 255.
    handshake_min_age: Duration::from_secs(2),
    managers: Share::members(1_024, 256),
    // A session, the session that replaces it, a renewal, and a connection for each log stream.
    workers: Share::members(8_192, 40),
    clients: Share::members(2_048, 1_024),
    strangers: Share {
        // A request to join needs two round trips of 300 ms after the handshake.
        min_age: Duration::from_secs(1),
        lifetime: Some(Duration::from_secs(20)),
        ..Share::closing_oldest(64, 64)
    },
    plaintext: Share::members(8_192, 8_192),
};
const KEEPALIVE: Duration = Duration::from_secs(5);

/// A connection's settings.
#[derive(Debug, Clone, Copy)]
struct Settings {
    /// Requests at the same time.
    streams: u32,
    stream_window_bytes: u32,
    connection_window_bytes: u32,
    header_bytes: u32,
    /// From a request's header to its answer. `None`: streams may last.
    request: Option<Duration>,
}

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

const fn settings(class: Class) -> Settings {
    let member = Settings {
        streams: 4_096,
        stream_window_bytes: MIB,
        connection_window_bytes: 8 * MIB,
        header_bytes: 16 * KIB,
        request: None,
    };
    match class {
        // Relayed sessions and forwarded requests share a connection: a stream that is not read must not stop the others.
        Class::Manager | Class::Plaintext => member,
        Class::Client => Settings { streams: 512, connection_window_bytes: 2 * MIB, ..member },
        Class::Worker => Settings {
            streams: 8,
            // An earlier version's log streams share the session's connection: one that is not read must not stop it.
            stream_window_bytes: 128 * KIB,
            connection_window_bytes: 384 * KIB,
            header_bytes: 8 * KIB,
            request: None,
        },
        // A request to join has about 1 KiB.
        Class::Stranger => Settings {
            streams: 4,
            stream_window_bytes: 32 * KIB,
            connection_window_bytes: 64 * KIB,
            header_bytes: 8 * KIB,
            request: Some(Duration::from_secs(10)),
        },
    }
}

/// Serves the connections of all classes until `stop` is cancelled.
pub async fn serve(
    listener: Listener,
    transport: Transport,
    routes: Routes,
    layer: Stack<GateLayer, Rpcs>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let servers = Incoming::by_class(listener, transport, LIMITS).map(|(class, incoming)| {
        let settings = settings(class);
        let mut server = Server::builder()
            .layer(layer.clone())
            .max_concurrent_streams(settings.streams)
            .initial_stream_window_size(settings.stream_window_bytes)
            .initial_connection_window_size(settings.connection_window_bytes)
            .http2_max_header_list_size(settings.header_bytes)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE));
        if let Some(request) = settings.request {
            server = server.timeout(request);
        }
        server.add_routes(routes.clone()).serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned())
    });
    try_join_all(servers).await.map(drop)
}
