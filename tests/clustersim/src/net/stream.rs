//! What programs see of the network: dialling, listening, reading, writing.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use goat_tls::network::{self, Later};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::table::Conn;
use super::{ConnId, Listener, Net, Segment, host_at};
use crate::kernel::HostId;

/// The network as one host sees it, in one of its lives.
#[derive(Debug, Clone)]
pub struct Fabric {
    net: Net,
    host: HostId,
    life: u64,
}

impl Net {
    /// For the life of the host that has just begun.
    pub fn fabric(&self, host: HostId) -> Fabric {
        let life = self.0.lock().lives[host];
        Fabric { net: self.clone(), host, life }
    }
}

fn error(kind: io::ErrorKind, text: &str) -> io::Error {
    io::Error::new(kind, text)
}

fn dead() -> io::Error {
    error(io::ErrorKind::NotConnected, "the host is off")
}

impl network::Fabric for Fabric {
    fn connect(&self, address: SocketAddr) -> Later<'_, Box<dyn network::Wire>> {
        Box::pin(async move {
            let Some(to) = host_at(address.ip()) else {
                return Err(error(io::ErrorKind::HostUnreachable, "no such host"));
            };
            let id = {
                let mut inner = self.net.0.lock();
                if !inner.is_current(self.host, self.life) || to >= inner.lives.len() {
                    return Err(dead());
                }
                inner.next += 1;
                let id = inner.next;
                let life = inner.lives[to];
                inner.conns.insert(id, Conn::new([self.host, to], [self.life, life]));
                inner.send(id, 0, Segment::Syn { port: address.port() });
                id
            };
            // Dropped before it is open, it takes the connection with it.
            let stream = Stream { fabric: self.clone(), id, side: 0 };
            poll_fn(|context| stream.poll_open(context)).await?;
            Ok(Box::new(stream) as Box<dyn network::Wire>)
        })
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn network::Ear>> {
        let mut inner = self.net.0.lock();
        if !inner.is_current(self.host, self.life) {
            return Err(dead());
        }
        let listeners = inner.listeners[self.host].as_mut().ok_or_else(dead)?;
        if listeners.contains_key(&address.port()) {
            return Err(error(io::ErrorKind::AddrInUse, "the port is taken"));
        }
        listeners.insert(address.port(), Listener::default());
        Ok(Box::new(Ear { fabric: self.clone(), port: address.port() }))
    }
}

/// A listening port.
#[derive(Debug)]
struct Ear {
    fabric: Fabric,
    port: u16,
}

impl Ear {
    fn poll_accept(&self, context: &Context<'_>) -> Poll<io::Result<(ConnId, SocketAddr)>> {
        let mut inner = self.fabric.net.0.lock();
        if !inner.is_current(self.fabric.host, self.fabric.life) {
            return Poll::Ready(Err(dead()));
        }
        let listener = inner.listeners[self.fabric.host].as_mut().and_then(|ports| ports.get_mut(&self.port));
        let Some(listener) = listener else { return Poll::Ready(Err(dead())) };
        match listener.waiting.pop_front() {
            Some(accepted) => Poll::Ready(Ok(accepted)),
            None => {
                listener.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl network::Ear for Ear {
    fn accept(&mut self) -> Later<'_, (Box<dyn network::Wire>, SocketAddr)> {
        Box::pin(async move {
            let (id, address) = poll_fn(|context| self.poll_accept(context)).await?;
            let stream = Stream { fabric: self.fabric.clone(), id, side: 1 };
            Ok((Box::new(stream) as Box<dyn network::Wire>, address))
        })
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut inner = self.fabric.net.0.lock();
        if inner.is_current(self.fabric.host, self.fabric.life)
            && let Some(ports) = inner.listeners[self.fabric.host].as_mut()
        {
            ports.remove(&self.port);
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
struct Stream {
    fabric: Fabric,
    id: ConnId,
    side: usize,
}

impl Stream {
    /// Does something with the connection, unless it is broken.
    fn with<T>(&self, act: impl FnOnce(&mut super::Inner, &Self) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let mut inner = self.fabric.net.0.lock();
        if !inner.is_current(self.fabric.host, self.fabric.life) {
            return Poll::Ready(Err(dead()));
        }
        match inner.conns.get(&self.id) {
            Some(conn) if !conn.is_reset => act(&mut inner, self),
            _ => Poll::Ready(Err(error(io::ErrorKind::ConnectionReset, "connection reset by peer"))),
        }
    }

    fn poll_open(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.with(|inner, stream| {
            let Some(conn) = inner.conns.get_mut(&stream.id) else { return Poll::Ready(Err(dead())) };
            if conn.is_open {
                return Poll::Ready(Ok(()));
            }
            conn.pipes[1].reader = Some(context.waker().clone());
            Poll::Pending
        });
        polled.map_err(|cause| match cause.kind() {
            io::ErrorKind::ConnectionReset => error(io::ErrorKind::ConnectionRefused, "connection refused"),
            _ => cause,
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|inner, stream| {
            let Some(conn) = inner.conns.get_mut(&stream.id) else { return Poll::Ready(Err(dead())) };
            let from = conn.hosts[1 - stream.side];
            let pipe = &mut conn.pipes[1 - stream.side];
            let mut read = 0;
            while buffer.remaining() > 0
                && let Some(first) = pipe.arrived.front_mut()
            {
                let take = first.len().min(buffer.remaining());
                buffer.put_slice(&first[..take]);
                first.advance(take);
                read += take;
                if first.is_empty() {
                    pipe.arrived.pop_front();
                }
            }
            if read == 0 && !pipe.has_ended && buffer.remaining() > 0 {
                pipe.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            pipe.unread -= read;
            let writer = pipe.writer.take();
            inner.wake(from, writer);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|inner, stream| {
            let hosts = inner.conns.get(&stream.id).map(|conn| (conn.hosts[stream.side], conn.hosts[1 - stream.side]));
            let window = hosts.map_or(0, |(from, to)| inner.window(from, to));
            let Some(conn) = inner.conns.get_mut(&stream.id) else { return Poll::Ready(Err(dead())) };
            let pipe = &mut conn.pipes[stream.side];
            let room = window.saturating_sub(pipe.unread);
            if pipe.is_shut {
                return Poll::Ready(Err(error(io::ErrorKind::BrokenPipe, "written after the end")));
            }
            if room == 0 {
                pipe.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            let take = bytes.len().min(room);
            pipe.unread += take;
            inner.send(stream.id, stream.side, Segment::Data(Bytes::copy_from_slice(&bytes[..take])));
            Poll::Ready(Ok(take))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|inner, stream| {
            let Some(conn) = inner.conns.get_mut(&stream.id) else { return Poll::Ready(Err(dead())) };
            if !std::mem::replace(&mut conn.pipes[stream.side].is_shut, true) {
                inner.send(stream.id, stream.side, Segment::Fin);
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut inner = self.fabric.net.0.lock();
        if !inner.is_current(self.fabric.host, self.fabric.life) {
            return;
        }
        let Some(conn) = inner.conns.get_mut(&self.id) else { return };
        conn.pipes[1 - self.side].is_reader_gone = true;
        let own = &mut conn.pipes[self.side];
        own.is_writer_gone = true;
        let must_say = !std::mem::replace(&mut own.is_shut, true) && !conn.is_reset;
        let is_known = conn.is_accepted || self.side == 1;
        if !is_known {
            // It was never there for anybody else.
            inner.conns.remove(&self.id);
            return;
        }
        if must_say {
            inner.send(self.id, self.side, Segment::Fin);
        }
        inner.forget_finished(self.id);
    }
}
