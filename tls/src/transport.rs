//! A member's present credentials as TLS settings. Replaced while connections go on: those there are keep what they
//! were made with, new ones take the new.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;

use crate::Error;
use crate::credentials::Credentials;
use crate::network::Network;
use crate::outdated::Lenient;
use crate::subject::Subject;

const ALPN: &[u8] = b"h2";

/// How this process talks to others. Cheap to clone; clones share what [`Transport::replace`] changes.
#[derive(Debug, Clone)]
pub struct Transport {
    /// None: unencrypted.
    tls: Option<Arc<Shared>>,
    network: Network,
}

#[derive(Debug)]
struct Shared {
    present: RwLock<Present>,
    replaced: watch::Sender<()>,
}

#[derive(Debug, Clone)]
struct Present {
    credentials: Arc<Credentials>,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Transport {
    /// Without encryption, and without knowing who calls: on loopback only, and only where the user said so.
    pub const fn plaintext() -> Self {
        Self { tls: None, network: Network::TCP }
    }

    pub fn new(credentials: Credentials) -> Result<Self, Error> {
        let shared = Shared { present: RwLock::new(Present::new(credentials)?), replaced: watch::Sender::new(()) };
        Ok(Self { tls: Some(Arc::new(shared)), network: Network::TCP })
    }

    /// The same on another network than the machine's TCP.
    #[must_use]
    pub fn over(self, network: Network) -> Self {
        Self { network, ..self }
    }

    /// The network that connections go over.
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// From now on for new connections. Changes nothing when they are of no use.
    pub fn replace(&self, credentials: Credentials) -> Result<(), Error> {
        if let Some(shared) = &self.tls {
            *shared.present.write() = Present::new(credentials)?;
            shared.replaced.send_replace(());
        }
        Ok(())
    }

    /// Says when the credentials were replaced. Never where there are none.
    pub fn replaced(&self) -> watch::Receiver<()> {
        match &self.tls {
            Some(shared) => shared.replaced.subscribe(),
            None => watch::Sender::new(()).subscribe(),
        }
    }

    pub const fn is_plaintext(&self) -> bool {
        self.tls.is_none()
    }

    /// None in plaintext.
    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        Some(self.tls.as_ref()?.present.read().credentials.clone())
    }

    /// Whom the own certificate names; None in plaintext.
    pub fn subject(&self) -> Option<Subject> {
        Some(self.credentials()?.subject().clone())
    }

    pub(crate) fn client(&self) -> Option<Arc<ClientConfig>> {
        Some(self.tls.as_ref()?.present.read().client.clone())
    }

    pub(crate) fn server(&self) -> Option<Arc<ServerConfig>> {
        Some(self.tls.as_ref()?.present.read().server.clone())
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Present {
    fn new(credentials: Credentials) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for authority in credentials.authorities() {
            roots.add(authority.clone())?;
        }
        let roots = Arc::new(roots);
        let mismatch = |error| match error {
            rustls::Error::InconsistentKeys(_) => Error::KeyMismatch { certificate: credentials.subject().to_string() },
            error => Error::Tls(error),
        };
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(credentials.chain(), credentials.key())
            .map_err(mismatch)?;
        client.alpn_protocols = vec![ALPN.into()];
        // A resumed session would outlive the certificate that it was made with.
        client.resumption = Resumption::disabled();

        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            // Whoever joins has none yet; what a caller without one may call is the gate's to say.
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::malformed("the authorities", error))?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(Lenient(verifier)))
            .with_single_cert(credentials.chain(), credentials.key())
            .map_err(mismatch)?;
        server.alpn_protocols = vec![ALPN.into()];
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { credentials: Arc::new(credentials), client: Arc::new(client), server: Arc::new(server) })
    }
}

/// The settings of a newcomer: no certificate of its own, and belief in one authority only, known by its digest.
pub(crate) fn newcomer(authority: &str) -> Result<Arc<ClientConfig>, Error> {
    let verifier = crate::connect::Pinned::new(authority);
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.into()];
    client.resumption = Resumption::disabled();
    Ok(Arc::new(client))
}
