//! An accepted connection: it knows who calls, and it ends when its place is given away or its lifetime is over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use crate::accept::Caller;
use crate::network::Line;
use crate::places::Place;

pub(crate) type Inner = Either<Line, Box<TlsStream<Line>>>;

/// A connection, encrypted or not.
#[derive(Debug)]
pub struct Stream {
    inner: Inner,
    caller: Caller,
    /// Ready when the connection's place was given to another one.
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// End of the connection's lifetime.
    expires_at: Option<Instant>,
    /// Ready then. Made by the task that serves the connection, so that it does not depend on the thread for handshakes.
    expiry: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Stream {
    /// `lifetime`: the connection is closed after it.
    pub(crate) fn new(inner: Inner, caller: Caller, place: Place, lifetime: Option<Duration>) -> Self {
        let closed = Box::pin(place.closed.clone().cancelled_owned());
        let expires_at = lifetime.map(|lifetime| Instant::now() + lifetime);
        Self { inner, caller, closed, expires_at, expiry: None, _place: place }
    }

    /// An error once the connection is to be closed; else the task is woken when it is.
    fn check_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let aborted = |problem| Err(io::Error::new(io::ErrorKind::ConnectionAborted, problem));
        if self.closed.as_mut().poll(cx).is_ready() {
            return aborted("closed to make room for another connection");
        }
        if let Some(at) = self.expires_at {
            let expiry = self.expiry.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if expiry.as_mut().poll(cx).is_ready() {
                return aborted("closed at the end of its lifetime");
            }
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
