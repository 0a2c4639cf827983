//! Connections to the other managers: one for each purpose, kept and shared by everything that talks to them for that
//! purpose. A connection's flow-control window and its queue in the kernel are shared by all of its calls, so that traffic
//! which may be slow (entries, snapshots) must not share one with traffic that must not be (heartbeats, votes).

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
use goat_tls::{Connector, Role, Transport};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

/// TCP and TLS take three round trips, 900 ms at the longest supported one, and the kernel repeats a lost SYN after 1 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection on which nothing answers for interval + timeout is closed, and the next call makes a new one.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// On a connection for bulk a ping waits behind what is queued in the kernel: 2 MiB at 1 Mbit/s. Whether the peer lives is
/// known from its heartbeats.
const BULK_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Raft's heartbeats and votes.
    Raft,
    /// Raft's log entries.
    Log,
    /// Raft's snapshots.
    Snapshot,
    /// Everything else: forwarded requests, reads, sessions.
    Requests,
}

impl Purpose {
    const fn keepalive_timeout(self) -> Duration {
        match self {
            Self::Raft | Self::Requests => KEEPALIVE_TIMEOUT,
            Self::Log | Self::Snapshot => BULK_KEEPALIVE_TIMEOUT,
        }
    }
}

/// Of a connection for one stream: bytes that were received and not read yet.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Connections that are kept. Beyond it, those with workers are given up.
const MAX_CHANNELS: usize = 512;

/// The address is not a host and a port.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is not an address: HOST:PORT is expected")]
pub struct Error {
    address: String,
    #[source]
    source: tonic::transport::Error,
}

type Key = (Purpose, Role, String);

/// Clients by address.
#[derive(Debug, Clone)]
pub struct Peers {
    transport: Transport,
    connector: Connector,
    channels: Arc<Mutex<Channels>>,
}

#[derive(Debug, Default)]
struct Channels {
    by_key: HashMap<Key, (ChannelId, Channel)>,
    next_id: u64,
}

/// Distinguishes a connection from the one that replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelId(u64);

impl Peers {
    /// `bind_source`: the local address that connections leave from; None lets the system choose.
    pub fn new(transport: Transport, bind_source: Option<IpAddr>) -> Self {
        let connector = Connector::new(transport.clone(), Role::Manager, bind_source, CONNECT_TIMEOUT);
        Self { transport, connector, channels: Arc::default() }
    }

    /// What the own certificate rests on; empty in plaintext.
    pub fn stance(&self) -> String {
        self.transport.credentials().map(|credentials| credentials.stance()).unwrap_or_default()
    }

    fn channel(&self, address: &str) -> Result<Channel, Error> {
        self.channel_to(Purpose::Requests, Role::Manager, address)
    }

    fn channel_to(&self, purpose: Purpose, role: Role, address: &str) -> Result<Channel, Error> {
        self.identified_channel(purpose, role, address).map(|(_, channel)| channel)
    }

    fn identified_channel(&self, purpose: Purpose, role: Role, address: &str) -> Result<(ChannelId, Channel), Error> {
        let key = (purpose, role, address.to_owned());
        let mut channels = self.channels.lock();
        if let Some(known) = channels.by_key.get(&key) {
            return Ok(known.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|source| Error { address: address.to_owned(), source })?
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(purpose.keepalive_timeout())
            .keep_alive_while_idle(true);
        let channel = self.connector.to(role).channel(&endpoint);
        if channels.by_key.len() >= MAX_CHANNELS {
            // Workers are pinged once in a while; connections in use live on.
            channels.by_key.retain(|(_, role, _), _| *role == Role::Manager);
        }
        let id = ChannelId(channels.next_id);
        channels.next_id += 1;
        channels.by_key.insert(key, (id, channel.clone()));
        Ok((id, channel))
    }

    /// The peer's Raft service, for a request of a follower.
    pub fn raft(&self, address: &str) -> Result<RaftClient<Channel>, Error> {
        self.raft_for(Purpose::Requests, address).map(|(_, client)| client)
    }

    /// The peer's Raft service, and the connection that its calls use.
    pub fn raft_for(&self, purpose: Purpose, address: &str) -> Result<(ChannelId, RaftClient<Channel>), Error> {
        let (id, channel) = self.identified_channel(purpose, Role::Manager, address)?;
        let client = RaftClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok((id, client))
    }

    /// The peer's dispatcher, for a worker that cannot reach the leader itself.
    pub fn dispatcher(&self, address: &str) -> Result<DispatcherClient<Channel>, Error> {
        Ok(DispatcherClient::new(self.channel(address)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// A connection for one stream: a reader that stops reading it stops nothing else.
    fn stream_channel(&self, address: &str) -> Result<Channel, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|source| Error { address: address.to_owned(), source })?
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES);
        Ok(self.connector.to(Role::Manager).channel(&endpoint))
    }

    /// The peer's dispatcher over a connection of its own, for a log stream.
    pub fn dispatcher_for_stream(&self, address: &str) -> Result<DispatcherClient<Channel>, Error> {
        Ok(DispatcherClient::new(self.stream_channel(address)?))
    }

    /// The peer's control service over a connection of its own, for a log stream.
    pub fn control_for_stream(&self, address: &str) -> Result<ControlClient<Channel>, Error> {
        Ok(ControlClient::new(self.stream_channel(address)?))
    }

    /// Asks whether someone is there.
    pub fn presence(&self, role: Role, address: &str) -> Result<PresenceClient<Channel>, Error> {
        Ok(PresenceClient::new(self.channel_to(Purpose::Requests, role, address)?))
    }

    /// The next request makes a new connection: on the present one nothing may ever come again.
    pub fn forget(&self, role: Role, address: &str) {
        self.channels.lock().by_key.remove(&(Purpose::Requests, role, address.to_owned()));
    }

    /// The next call to a manager for this purpose makes a new connection, if the present one is `failed`. A call that
    /// fails late does not end the connection that has replaced its own.
    pub fn forget_failed(&self, purpose: Purpose, address: &str, failed: ChannelId) {
        let key = (purpose, Role::Manager, address.to_owned());
        let mut channels = self.channels.lock();
        if channels.by_key.get(&key).is_some_and(|(id, _)| *id == failed) {
            channels.by_key.remove(&key);
        }
    }

    /// The peer's certificates and tokens.
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
