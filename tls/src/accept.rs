//! Connections inwards: handshakes side by side, each connection knowing who calls, each class of callers within its share.
//!
//! ```text
//! TCP ─► handshake ─► class and key ─► a place in the class's share ─► the class's server
//!         │ as many as Limits::handshakes at a time, fairly divided among source addresses
//! ```
//! A connection is accepted at once in any case: to let it wait in the kernel's queue would let members wait behind strangers.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream as Incomings;
use tokio_util::either::Either;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;
use tracing::warn;

use crate::Error;
use crate::authority::unix_s;
use crate::network::{Line, Listener, set_nodelay};
use crate::places::{Key, Overflow, Place, Places, Share, source};
use crate::subject::{Role, Subject, validity};
use crate::transport::Transport;

/// After a failed accept, as when there are no file descriptors left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Refused connections are logged at most this often.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Connections of one class that wait for their server.
const QUEUE: usize = 16;

/// Classes of callers, by what was shown in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Manager,
    Worker,
    Client,
    /// No certificate that is valid now.
    Stranger,
    /// The listener is unencrypted: who calls is not known.
    Plaintext,
}

impl Class {
    pub const ALL: [Self; 5] = [Self::Manager, Self::Worker, Self::Client, Self::Stranger, Self::Plaintext];
}

/// How much callers may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of a handshake, in time.
    pub handshake: Duration,
    /// At the same time. Beyond it, the oldest handshake of the source address with the most of them is given up.
    pub handshakes: usize,
    /// Counted by manager.
    pub managers: Share,
    /// Counted by worker.
    pub workers: Share,
    /// Counted by the name in the certificate.
    pub clients: Share,
    /// Counted by source address.
    pub strangers: Share,
    /// Of an unencrypted listener, counted by source address.
    pub plaintext: Share,
}

impl Limits {
    /// The share of one class.
    pub const fn share(&self, class: Class) -> Share {
        match class {
            Class::Manager => self.managers,
            Class::Worker => self.workers,
            Class::Client => self.clients,
            Class::Stranger => self.strangers,
            Class::Plaintext => self.plaintext,
        }
    }
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

    pub fn class(&self) -> Class {
        match &self.subject {
            None if self.is_plaintext => Class::Plaintext,
            None => Class::Stranger,
            Some(subject) => match subject.role {
                Role::Manager => Class::Manager,
                Role::Worker => Class::Worker,
                Role::Client => Class::Client,
            },
        }
    }

    /// Whose connections this connection is counted with.
    fn key(&self, address: SocketAddr) -> Key {
        match &self.subject {
            Some(subject) => Key::Id(subject.id.clone()),
            None => Key::Source(source(address.ip())),
        }
    }

    /// Whom its certificate names, whether or not it is valid now.
    pub fn known(&self) -> Option<&Arc<Subject>> {
        self.subject.as_ref().or(self.outdated.as_ref())
    }
}

/// Connections of a listener, for a server. The listener is open for as long as one of its `Incoming`s lives.
#[derive(Debug)]
pub struct Incoming {
    ready: mpsc::Receiver<io::Result<Stream>>,
    _task: Arc<Task>,
}

#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Incoming {
    /// Takes connections from now on, those of all classes for one server.
    pub fn new(listener: impl Into<Listener>, transport: Transport, limits: Limits) -> Self {
        let (sender, ready) = mpsc::channel(QUEUE);
        Self { ready, _task: Acceptor::spawn(listener.into(), transport, limits, Class::ALL.map(|_| sender.clone())) }
    }

    /// Takes connections from now on, those of each class for a server of its own.
    pub fn by_class(
        listener: impl Into<Listener>,
        transport: Transport,
        limits: Limits,
    ) -> [(Class, Self); Class::ALL.len()] {
        let channels = Class::ALL.map(|_| mpsc::channel(QUEUE));
        let senders = std::array::from_fn(|at| channels[at].0.clone());
        let task = Acceptor::spawn(listener.into(), transport, limits, senders);
        let mut classes = Class::ALL.into_iter();
        channels.map(|(_, ready)| {
            let class = classes.next().expect("there are as many channels as classes");
            (class, Self { ready, _task: task.clone() })
        })
    }
}

impl Incomings for Incoming {
    type Item = io::Result<Stream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(cx)
    }
}

type Ready = mpsc::Sender<io::Result<Stream>>;

/// Cheap to clone: each handshake has one.
#[derive(Debug, Clone)]
struct Acceptor {
    transport: Transport,
    within: Duration,
    /// In the order of [`Class::ALL`].
    classes: [(Places, Ready); Class::ALL.len()],
}

impl Acceptor {
    fn spawn(listener: Listener, transport: Transport, limits: Limits, ready: [Ready; Class::ALL.len()]) -> Arc<Task> {
        let mut classes = Class::ALL.into_iter();
        let classes = ready.map(|ready| {
            let class = classes.next().expect("there are as many senders as classes");
            (Places::new(limits.share(class)), ready)
        });
        let acceptor = Self { transport, within: limits.handshake, classes };
        Arc::new(Task(tokio::spawn(accept(listener, acceptor, limits.handshakes)).abort_handle()))
    }

    /// From the first byte to the server that the connection is for.
    async fn admit(self, line: Line, address: SocketAddr, place: Place) -> io::Result<()> {
        let shaken = tokio::select! {
            biased;
            () = place.closed.cancelled() => return Err(io::Error::other("too many handshakes at the same time")),
            shaken = tokio::time::timeout(self.within, handshake(line, address, &self.transport)) => shaken,
        };
        let (inner, caller) = shaken.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no handshake"))??;
        let class = caller.class();
        let (places, ready) = &self.classes[class as usize];
        let lifetime = places.lifetime();
        let Some(place) = places.take(caller.key(address)) else {
            let problem = format!("all places for callers of this class are taken ({class:?})");
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, problem));
        };
        let closed = Box::pin(place.closed.clone().cancelled_owned());
        let expiry = lifetime.map(|lifetime| Box::pin(tokio::time::sleep(lifetime)));
        let stream = Stream { inner, caller, closed, expiry, _place: place };
        // No receiver: the server has stopped.
        let _ = ready.send(Ok(stream)).await;
        Ok(())
    }
}

async fn accept(mut listener: Listener, acceptor: Acceptor, handshakes: usize) {
    let share = Share { places: handshakes, each: handshakes, overflow: Overflow::CloseOldest, lifetime: None };
    let places = Places::new(share);
    let (refused, mut refusals) = mpsc::channel::<(SocketAddr, io::Error)>(1);
    let mut told: Option<Instant> = None;
    // They end with this one.
    let mut running = JoinSet::new();
    loop {
        let (line, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
            Some(_) = running.join_next() => continue,
            Some((address, error)) = refusals.recv() => {
                if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    warn!(%address, %error, "a connection was refused");
                    told = Some(Instant::now());
                }
                continue;
            }
        };
        let Some(place) = places.take(Key::Source(source(address.ip()))) else { continue };
        let (acceptor, refused) = (acceptor.clone(), refused.clone());
        running.spawn(async move {
            match acceptor.admit(line, address, place).await {
                Ok(()) => {}
                // Most often somebody that only looked whether the port is open.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => drop(refused.try_send((address, error))),
            }
        });
    }
}

type Inner = Either<Line, Box<TlsStream<Line>>>;

async fn handshake(line: Line, address: SocketAddr, transport: &Transport) -> io::Result<(Inner, Caller)> {
    set_nodelay(&line)?;
    let Some(config) = transport.server() else {
        return Ok((Either::Left(line), Caller::nobody(address, true)));
    };
    let stream = TlsAcceptor::from(config).accept(line).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let caller = match certificate {
        Some(certificate) => Caller::with(certificate, address)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?,
        None => Caller::nobody(address, false),
    };
    Ok((Either::Right(Box::new(stream)), caller))
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub struct Stream {
    inner: Inner,
    caller: Caller,
    /// Ready when the connection's place was given to another one.
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Ready at the end of the connection's lifetime.
    expiry: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Stream {
    /// An error once the connection is to be closed; else the task is woken when it is.
    fn check_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let aborted = |problem| Err(io::Error::new(io::ErrorKind::ConnectionAborted, problem));
        if self.closed.as_mut().poll(cx).is_ready() {
            return aborted("closed to make room for another connection");
        }
        if self.expiry.as_mut().is_some_and(|expiry| expiry.as_mut().poll(cx).is_ready()) {
            return aborted("closed at the end of its lifetime");
        }
        Ok(())
    }
}

impl Connected for Stream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        stream.check_open(cx)?;
        Pin::new(&mut stream.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        stream.check_open(cx)?;
        Pin::new(&mut stream.inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        stream.check_open(cx)?;
        Pin::new(&mut stream.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        stream.check_open(cx)?;
        Pin::new(&mut stream.inner).poll_shutdown(cx)
    }
}
