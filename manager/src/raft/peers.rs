//! Connections to the other managers, one each, kept and shared by everything that talks to them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use goat_proto::MAX_MESSAGE_BYTES;
use goat_proto::v1::control_client::ControlClient;
use goat_proto::v1::dispatcher_client::DispatcherClient;
use goat_proto::v1::identity_client::IdentityClient;
use goat_proto::v1::presence_client::PresenceClient;
use goat_proto::v1::raft_client::RaftClient;
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection on which nothing answers for interval + timeout is closed, and the next call makes a new one.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The address is not a host and a port.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is not an address: HOST:PORT is expected")]
pub struct Error {
    address: String,
    #[source]
    source: tonic::transport::Error,
}

/// Clients by address.
#[derive(Debug, Clone)]
pub struct Peers {
    bind_source: Option<IpAddr>,
    channels: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Peers {
    /// `bind_source`: the local address that connections leave from; None lets the system choose.
    pub fn new(bind_source: Option<IpAddr>) -> Self {
        Self { bind_source, channels: Arc::default() }
    }

    fn channel(&self, address: &str) -> Result<Channel, Error> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|source| Error { address: address.to_owned(), source })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .local_address(self.bind_source)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect_lazy();
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// The peer's Raft service.
    pub fn raft(&self, address: &str) -> Result<RaftClient<Channel>, Error> {
        Ok(RaftClient::new(self.channel(address)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// The peer's dispatcher, for a worker that cannot reach the leader itself.
    pub fn dispatcher(&self, address: &str) -> Result<DispatcherClient<Channel>, Error> {
        Ok(DispatcherClient::new(self.channel(address)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// Asks whether someone is there, of another manager or of a worker.
    pub fn presence(&self, address: &str) -> Result<PresenceClient<Channel>, Error> {
        Ok(PresenceClient::new(self.channel(address)?))
    }

    /// The next call makes a new connection: on the present one nothing may ever come again.
    pub fn forget(&self, address: &str) {
        self.channels.lock().remove(address);
    }

    /// For whom wants to join.
    pub fn identity(&self, address: &str) -> Result<IdentityClient<Channel>, Error> {
        Ok(IdentityClient::new(self.channel(address)?))
    }

    /// The peer's control service, for calls that only the leader answers.
    pub fn control(&self, address: &str) -> Result<ControlClient<Channel>, Error> {
        Ok(ControlClient::new(self.channel(address)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }
}
