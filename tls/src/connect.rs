//! Connections outwards.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::lookup_host;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tonic::transport::{Channel, Endpoint};

use crate::authority::digest_of;
use crate::network::{Line, Network, set_nodelay};
use crate::subject::Role;
use crate::token::JoinToken;
use crate::transport::{Transport, newcomer, provider};

/// Makes connections to members of one role.
#[derive(Debug, Clone)]
pub struct Connector {
    settings: Settings,
    role: Role,
    bind_source: Option<IpAddr>,
    within: Duration,
}

#[derive(Debug, Clone)]
enum Settings {
    Member(Transport),
    Newcomer(Arc<ClientConfig>),
}

impl Connector {
    /// To members of `role`. `bind_source`: the local address to leave from; None lets the system choose. `within`:
    /// TCP and TLS together.
    pub const fn new(transport: Transport, role: Role, bind_source: Option<IpAddr>, within: Duration) -> Self {
        Self { settings: Settings::Member(transport), role, bind_source, within }
    }

    /// To managers, for someone with a token and without a certificate.
    pub fn newcomer(token: &JoinToken, bind_source: Option<IpAddr>, within: Duration) -> Result<Self, crate::Error> {
        Ok(Self { settings: Settings::Newcomer(newcomer(&token.authority)?), role: Role::Manager, bind_source, within })
    }

    /// The same, to members of another role.
    #[must_use]
    pub fn to(&self, role: Role) -> Self {
        Self { role, ..self.clone() }
    }

    /// A channel on such connections, made when it is first used. The address of `endpoint` is HOST:PORT behind
    /// `http://` in any case: what encrypts is in here.
    pub fn channel(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.clone())
    }

    fn config(&self) -> Option<Arc<ClientConfig>> {
        match &self.settings {
            Settings::Member(transport) => transport.client(),
            Settings::Newcomer(config) => Some(config.clone()),
        }
    }

    async fn connect(self, uri: Uri) -> Result<Stream, Error> {
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        let connecting = async {
            let stream = self.dial(&uri).await?;
            set_nodelay(&stream)?;
            match self.config() {
                None => Ok(Either::Left(stream)),
                Some(config) => {
                    let connector = TlsConnector::from(config);
                    Ok(Either::Right(Box::new(connector.connect(self.role.server_name(), stream).await?)))
                }
            }
        };
        match tokio::time::timeout(self.within, connecting).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(Error::new(&address, self.role, source)),
            Err(_) => {
                let problem = format!("no connection within {} ms", self.within.as_millis());
                Err(Error::new(&address, self.role, io::Error::new(io::ErrorKind::TimedOut, problem)))
            }
        }
    }

    async fn dial(&self, uri: &Uri) -> io::Result<Line> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let mut last = None;
        for address in lookup_host((host, uri.port_u16().unwrap_or(80))).await? {
            match self.network().connect(address, self.bind_source).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"))))
    }

    fn network(&self) -> &Network {
        match &self.settings {
            Settings::Member(transport) => transport.network(),
            Settings::Newcomer(_) => &Network::TCP,
        }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(uri).await.map(TokioIo::new) })
    }
}

/// A connection, unencrypted or encrypted.
pub type Stream = Either<Line, Box<TlsStream<Line>>>;

/// No connection; the text says to whom, why and what to do.
#[derive(Debug)]
pub struct Error {
    text: String,
    role: Role,
    source: io::Error,
}

impl Error {
    fn new(address: &str, role: Role, source: io::Error) -> Self {
        let tls = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let text = match tls {
            Some(error) => format!("{address}: {}", explain(error, role)),
            None => format!("{address}: {source}"),
        };
        Self { text, role, source }
    }
}

impl Error {
    /// What TLS found wrong, without the address; None where it was not TLS.
    pub fn tls(&self) -> Option<String> {
        let inner = self.source.get_ref()?;
        Some(explain(inner.downcast_ref::<rustls::Error>()?, self.role))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The innermost reason why a call failed, which says most; names the address.
pub fn cause(address: &str, error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    loop {
        if let Some(error) = innermost.downcast_ref::<Error>() {
            return error.to_string();
        }
        match innermost.source() {
            Some(source) => innermost = source,
            None => break,
        }
    }
    // The outermost of a call that was answered has the text alone.
    match innermost.downcast_ref::<tonic::Status>() {
        Some(status) => format!("{address}: {}", status.message()),
        None => format!("{address}: {innermost}"),
    }
}

/// What a newcomer finds wrong with a cluster of another authority: to ask again is of no use.
pub const OTHER_AUTHORITY: &str = "its authority is not the one that the join token was made for";

/// What TLS found wrong, in words for whoever has to mend it.
pub fn explain(error: &rustls::Error, role: Role) -> String {
    use rustls::Error as Tls;
    match error {
        Tls::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired by this machine's clock: is the clock right? Else start it, it renews by itself, \
              or let it join anew"
            .into(),
        Tls::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "its certificate is not valid yet by this machine's clock: set the clock right".into()
        }
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is of another cluster's authority, or of one that was rotated away: is the address right? Else \
             get new credentials"
                .into()
        }
        Tls::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            format!("it shows a certificate that is not a {role}'s: is the address right?")
        }
        Tls::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => format!(
            "{OTHER_AUTHORITY}: is the address right? Else get a new token with `goatctl cluster join-token`"
        ),
        Tls::InvalidMessage(_) => "it does not speak TLS: was it started with --plaintext?".into(),
        error => error.to_string(),
    }
}

/// Believes one authority, whose certificate has that digest and is shown in the handshake.
#[derive(Debug)]
pub(crate) struct Pinned {
    authority: String,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    pub(crate) fn new(authority: &str) -> Self {
        Self { authority: authority.to_owned(), algorithms: provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| digest_of(certificate) == self.authority)
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 alone is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
