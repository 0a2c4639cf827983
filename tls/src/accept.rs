//! Connections inwards: handshakes side by side, within limits, each connection knowing who calls.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream as Incomings;
use tokio_util::either::Either;
use tonic::transport::server::Connected;
use tracing::warn;

use crate::Error;
use crate::authority::unix_s;
use crate::network::{Line, Listener, set_nodelay};
use crate::subject::{Subject, validity};
use crate::transport::Transport;

/// After a failed accept, as when there are no file descriptors left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Refused handshakes are told at most this often.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How much callers may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time; others wait.
    pub connections: usize,
    /// Of a handshake.
    pub handshake: Duration,
}

/// Who is at the other end of a connection; each request carries it among its extensions.
#[derive(Debug, Clone)]
pub struct Caller {
    /// None where it showed no certificate that is valid now, or in plaintext.
    pub subject: Option<Arc<Subject>>,
    /// A worker whose certificate has expired by this machine's clock, or is not valid yet: good for a new one alone.
    pub outdated: Option<Arc<Subject>>,
    pub is_plaintext: bool,
    pub address: Option<SocketAddr>,
}

impl Caller {
    const fn nobody(address: SocketAddr, is_plaintext: bool) -> Self {
        Self { subject: None, outdated: None, is_plaintext, address: Some(address) }
    }

    /// Who has just shown this certificate, which was verified.
    fn with(certificate: &CertificateDer<'_>, address: SocketAddr) -> Result<Self, Error> {
        let nobody = Self::nobody(address, false);
        let subject = Some(Arc::new(Subject::of(certificate)?));
        let (from, to) = validity(certificate)?;
        let is_valid = (from..=to).contains(&unix_s(SystemTime::now()));
        Ok(if is_valid { Self { subject, ..nobody } } else { Self { outdated: subject, ..nobody } })
    }

    /// Whom its certificate names, whether or not it is valid now.
    pub fn known(&self) -> Option<&Arc<Subject>> {
        self.subject.as_ref().or(self.outdated.as_ref())
    }
}

/// The connections of a listener, for a server.
#[derive(Debug)]
pub struct Incoming {
    ready: mpsc::Receiver<io::Result<Stream>>,
    task: AbortHandle,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Incoming {
    /// Takes connections from now on.
    pub fn new(listener: impl Into<Listener>, transport: Transport, limits: Limits) -> Self {
        let (sender, ready) = mpsc::channel(16);
        let task = tokio::spawn(accept(listener.into(), transport, limits, sender)).abort_handle();
        Self { ready, task }
    }
}

impl Incomings for Incoming {
    type Item = io::Result<Stream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(cx)
    }
}

async fn accept(mut listener: Listener, transport: Transport, limits: Limits, ready: mpsc::Sender<io::Result<Stream>>) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let (refused, mut refusals) = mpsc::channel::<(SocketAddr, io::Error)>(1);
    let mut told: Option<Instant> = None;
    // They end with this one.
    let mut handshakes = JoinSet::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
            Some(_) = handshakes.join_next() => continue,
            Some((address, error)) = refusals.recv() => {
                if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    warn!(%address, %error, "a connection was refused");
                    told = Some(Instant::now());
                }
                continue;
            }
        };
        let (transport, ready, refused) = (transport.clone(), ready.clone(), refused.clone());
        handshakes.spawn(async move {
            match tokio::time::timeout(limits.handshake, handshake(stream, address, &transport, permit)).await {
                Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
                // Most often somebody that only looked whether the port is open.
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Ok(Err(error)) => drop(refused.try_send((address, error))),
                Err(_) => drop(refused.try_send((address, io::Error::new(io::ErrorKind::TimedOut, "no handshake")))),
            }
        });
    }
}

async fn handshake(
    stream: Line,
    address: SocketAddr,
    transport: &Transport,
    permit: OwnedSemaphorePermit,
) -> io::Result<Stream> {
    set_nodelay(&stream)?;
    let Some(config) = transport.server() else {
        let caller = Caller::nobody(address, true);
        return Ok(Stream { inner: Either::Left(stream), caller, _permit: permit });
    };
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let caller = match certificate {
        Some(certificate) => Caller::with(certificate, address)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?,
        None => Caller::nobody(address, false),
    };
    Ok(Stream { inner: Either::Right(Box::new(stream)), caller, _permit: permit })
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub struct Stream {
    inner: Either<Line, Box<TlsStream<Line>>>,
    caller: Caller,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Stream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
