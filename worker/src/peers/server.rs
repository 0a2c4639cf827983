//! What managers and other workers ask of this agent: whether it is there, and whether it reaches another.

use std::sync::Arc;
use std::time::Duration;

use goat_core::model::NodeId;
use goat_proto::v1;
use goat_proto::v1::presence_server::{Presence, PresenceServer};
use goat_tls::{Caller, Connector, Incoming, Limits, Listener, Role, Share, Transport};
use tonic::transport::Server;
use tonic::{Request, Response, Status, async_trait};
use tracing::error;

use crate::lease::Lease;

/// For a ping on another's behalf: the leader waits for the answer.
const PING_FOR: Duration = Duration::from_millis(400);
const REQUEST: Duration = Duration::from_secs(2);
const MAX_CONCURRENT: usize = 32;
/// For managers, and the few workers that know this one: nobody else has anything to ask here.
const LIMITS: Limits = Limits {
    handshake: Duration::from_secs(2),
    handshakes: 64,
    handshake_min_age: Duration::from_secs(1),
    managers: Share::members(64, 8),
    workers: Share::members(128, 4),
    clients: Share::CLOSED,
    strangers: Share::CLOSED,
    plaintext: Share::members(256, 256),
};
/// Of one connection.
const STREAMS: u32 = 32;
/// Of one connection: bytes that were received and not read yet.
const WINDOW_BYTES: u32 = 64 << 10;
const HEADER_BYTES: u32 = 8 << 10;
/// Requests are two short texts.
const MAX_BYTES: usize = 4 << 10;

#[derive(Debug)]
struct Service {
    node: NodeId,
    lease: Arc<Lease>,
    connector: Connector,
}

/// Managers and workers of the cluster; users have nothing to ask here.
fn admit<T>(request: &Request<T>) -> Result<(), Status> {
    match request.extensions().get::<Caller>() {
        Some(Caller { is_plaintext: true, .. }) => Ok(()),
        Some(Caller { subject: Some(subject), .. }) if subject.role != Role::Client => Ok(()),
        _ => Err(Status::permission_denied("only managers and workers of this cluster are answered")),
    }
}

#[async_trait]
impl Presence for Service {
    async fn ping(&self, request: Request<v1::PingRequest>) -> Result<Response<v1::PingReply>, Status> {
        admit(&request)?;
        let wanted = &request.get_ref().node_id;
        let own = self.node.to_string();
        if !wanted.is_empty() && *wanted != own {
            return Err(Status::not_found(format!("this is {own}")));
        }
        Ok(Response::new(v1::PingReply { node_id: own, grant_age_ms: self.lease.grant_age_ms() }))
    }

    async fn ping_for(&self, request: Request<v1::PingForRequest>) -> Result<Response<v1::PingForReply>, Status> {
        admit(&request)?;
        let v1::PingForRequest { node_id, address } = request.into_inner();
        let node: NodeId = goat_proto::convert::parse("node_id", &node_id)?;
        let channel = super::channel(&self.connector, &address, PING_FOR)
            .map_err(|error| Status::invalid_argument(format!("address: {address:?}: {error}")))?;
        let reached = super::ping(channel, node, PING_FOR).await.is_some();
        Ok(Response::new(v1::PingForReply { reached }))
    }
}

/// Answers until it is dropped.
pub async fn serve(listener: Listener, node: NodeId, lease: Arc<Lease>, transport: Transport, connector: Connector) {
    let service = PresenceServer::new(Service { node, lease, connector })
        .max_decoding_message_size(MAX_BYTES)
        .max_encoding_message_size(MAX_BYTES);
    let served = Server::builder()
        .timeout(REQUEST)
        .concurrency_limit_per_connection(MAX_CONCURRENT)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_BYTES)
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(REQUEST))
        .http2_keepalive_timeout(Some(REQUEST))
        .add_service(service)
        .serve_with_incoming(Incoming::new(listener, transport, LIMITS))
        .await;
    if let Err(error) = served {
        error!(%error, "pings are not answered any more");
    }
}
