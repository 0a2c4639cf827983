//! The network under connections: the machine's TCP, unless a simulation puts another in its place.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio_util::either::Either;

/// What comes when it comes.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A connection of another network than TCP.
pub trait Wire: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin> Wire for T {}

/// A connection, not encrypted yet.
pub type Line = Either<TcpStream, Box<dyn Wire>>;

/// Another network than TCP.
pub trait Fabric: Debug + Send + Sync {
    /// Connects to an address.
    fn connect(&self, address: SocketAddr) -> Later<'_, Box<dyn Wire>>;

    /// Listens on an address.
    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Ear>>;
}

/// What hears connections on another network than TCP.
pub trait Ear: Debug + Send {
    /// The next connection, and who makes it. A call that is dropped loses none.
    fn accept(&mut self) -> Later<'_, (Box<dyn Wire>, SocketAddr)>;
}

/// The network that a process is on. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Network(Option<Arc<dyn Fabric>>);

impl Network {
    /// The machine's TCP.
    pub const TCP: Self = Self(None);

    /// Another one.
    pub fn other(fabric: Arc<dyn Fabric>) -> Self {
        Self(Some(fabric))
    }

    /// Connects; `source`: the local address to leave from, where the network has several.
    pub(crate) async fn connect(&self, address: SocketAddr, source: Option<IpAddr>) -> io::Result<Line> {
        if let Some(fabric) = &self.0 {
            return fabric.connect(address).await.map(Either::Right);
        }
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        socket.connect(address).await.map(Either::Left)
    }

    /// Listens on an address.
    pub async fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        match &self.0 {
            Some(fabric) => fabric.listen(address).map(Listener::Other),
            None => TcpListener::bind(address).await.map(Listener::Tcp),
        }
    }
}

/// Hears connections.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Other(Box<dyn Ear>),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl Listener {
    /// The next connection. The runtime `io` watches its socket, whichever runtime polls this.
    pub(crate) async fn accept(&mut self, io: &Handle) -> io::Result<(Line, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let accepted = poll_fn(|cx| {
                    let _io = io.enter();
                    listener.poll_accept(cx)
                });
                let (stream, address) = accepted.await?;
                Ok((Either::Left(stream), address))
            }
            Self::Other(ear) => {
                let (wire, address) = ear.accept().await?;
                Ok((Either::Right(wire), address))
            }
        }
    }
}

/// Small messages are not to wait for larger ones.
pub(crate) fn set_nodelay(line: &Line) -> io::Result<()> {
    match line {
        Either::Left(stream) => stream.set_nodelay(true),
        Either::Right(_) => Ok(()),
    }
}
