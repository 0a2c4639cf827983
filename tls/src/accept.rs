//! Connections inwards: handshakes side by side, each connection knowing who calls, each class of callers within its share.
//!
//! ```text
//! TCP ─► first byte ─► handshake ─► class and key ─► a place in the class's share ─► the class's server
//!  │         │            │ of each as many as Limits::handshakes at a time, fairly divided among source addresses
//!  └─────────┴────────────┴── on a thread of its own, of lower priority
//! ```
//! A connection is accepted at once in any case: to let it wait in the kernel's queue would let members wait behind strangers.
//!
//! A handshake costs more processor time than most requests, and anybody who reaches the port can ask for one. So handshakes
//! use one thread at most, and the kernel prefers the threads of the connections that are established.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream as Incomings;
use tokio_util::either::Either;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

use crate::Error;
use crate::authority::unix_s;
use crate::handshake_thread;
use crate::network::{Line, Listener, set_nodelay};
use crate::places::{Key, Place, Places, Share, source};
use crate::stream::{Inner, Stream};
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
    /// At the same time, and as many connections on which nothing was received yet. Beyond it, the oldest one of the source
    /// address with the most of them is closed.
    pub handshakes: usize,
    /// A younger handshake is not given up for one of the same source address: else a source that asks for more than there
    /// is time for would have none of them completed. A connection on which nothing was received has no such protection.
    pub handshake_min_age: Duration,
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
    /// The acceptor ends when the last of these is dropped.
    _acceptor: Arc<DropGuard>,
}

impl Incoming {
    /// Takes connections from now on, those of all classes for one server.
    pub fn new(listener: impl Into<Listener>, transport: Transport, limits: Limits) -> Self {
        let (sender, ready) = mpsc::channel(QUEUE);
        Self {
            ready,
            _acceptor: Acceptor::spawn(listener.into(), transport, limits, Class::ALL.map(|_| sender.clone())),
        }
    }

    /// Takes connections from now on, those of each class for a server of its own.
    pub fn by_class(
        listener: impl Into<Listener>,
        transport: Transport,
        limits: Limits,
    ) -> [(Class, Self); Class::ALL.len()] {
        let channels = Class::ALL.map(|_| mpsc::channel(QUEUE));
        let senders = std::array::from_fn(|at| channels[at].0.clone());
        let acceptor = Acceptor::spawn(listener.into(), transport, limits, senders);
        let mut classes = Class::ALL.into_iter();
        channels.map(|(_, ready)| {
            let class = classes.next().expect("there are as many channels as classes");
            (class, Self { ready, _acceptor: acceptor.clone() })
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
    handshakes: Places,
    /// In the order of [`Class::ALL`].
    classes: [(Places, Ready); Class::ALL.len()],
}

impl Acceptor {
    fn spawn(
        listener: Listener,
        transport: Transport,
        limits: Limits,
        ready: [Ready; Class::ALL.len()],
    ) -> Arc<DropGuard> {
        let mut classes = Class::ALL.into_iter();
        let classes = ready.map(|ready| {
            let class = classes.next().expect("there are as many senders as classes");
            (Places::new(limits.share(class)), ready)
        });
        let share = Share::closing_oldest(limits.handshakes, limits.handshakes);
        let silent = Places::new(share);
        let handshakes = Places::new(Share { min_age: limits.handshake_min_age, ..share });
        let acceptor = Self { transport, within: limits.handshake, handshakes, classes };
        let stop = CancellationToken::new();
        let has_own_thread = matches!(listener, Listener::Tcp(_));
        let accepting = accept(listener, acceptor, silent, Handle::current());
        let accepting = stop.clone().run_until_cancelled_owned(accepting);
        if has_own_thread {
            handshake_thread::run(accepting);
        } else {
            // A simulation has one thread.
            tokio::spawn(accepting);
        }
        Arc::new(stop.drop_guard())
    }

    /// From the first byte to the server that the connection is for.
    async fn admit(self, line: Line, address: SocketAddr, silent: Place) -> io::Result<()> {
        let handshake = async {
            unless_closed(&silent, first_byte(&line)).await?;
            let Some(place) = self.handshakes.take(silent.key().clone()) else { return Err(too_many_handshakes()) };
            drop(silent);
            let shaken = unless_closed(&place, handshake(line, address, &self.transport)).await?;
            Ok((shaken, place))
        };
        let shaken = tokio::time::timeout(self.within, handshake).await;
        let ((inner, caller), _handshake) =
            shaken.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no handshake"))??;
        let class = caller.class();
        let (places, ready) = &self.classes[class as usize];
        let Some(place) = places.take(caller.key(address)) else {
            let problem = format!("all places for callers of this class are taken ({class:?})");
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, problem));
        };
        // No receiver: the server has stopped.
        let _ = ready.send(Ok(Stream::new(inner, caller, place, places.lifetime()))).await;
        Ok(())
    }
}

fn too_many_handshakes() -> io::Error {
    io::Error::other("too many handshakes at the same time")
}

/// The work of a connection, unless its place is given to another one meanwhile.
async fn unless_closed<T>(place: &Place, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::select! {
        biased;
        () = place.closed.cancelled() => Err(too_many_handshakes()),
        done = work => done,
    }
}

/// Waits until the caller has sent something.
async fn first_byte(line: &Line) -> io::Result<()> {
    match line {
        Either::Left(stream) => stream.peek(&mut [0]).await.map(drop),
        Either::Right(_) => Ok(()),
    }
}

/// `io`: the runtime that watches the connections' sockets.
async fn accept(mut listener: Listener, acceptor: Acceptor, silent: Places, io: Handle) {
    let (refused, mut refusals) = mpsc::channel::<(SocketAddr, io::Error)>(1);
    let mut told: Option<Instant> = None;
    // They end with this one.
    let mut running = JoinSet::new();
    loop {
        let (line, address) = tokio::select! {
            accepted = listener.accept(&io) => match accepted {
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
        let Some(place) = silent.take(Key::Source(source(address.ip()))) else { continue };
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
