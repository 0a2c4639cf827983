//! One connection on a link: passes bytes, holds them up or swallows them, as the link's rules say at that moment.
//!
//! The sockets have the segment size of Ethernet and small receive buffers. With loopback's own, the kernels of both sides
//! would queue megabytes in front of a link of 1 Mbit/s, which no TCP does on a real one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::shape::{PACKET_BYTES, Shape, Transmitter};

const CONNECT: Duration = Duration::from_secs(1);
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks on a delayed wire.
const IN_FLIGHT: usize = 256;
/// Of a proxy's socket: it is read at once, unless the link's bandwidth is used up.
const RECEIVE_BYTES: u32 = 64 << 10;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// What happens to bytes on one direction of a link. Links without one pass everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Cut,
    Shape(Shape),
}

/// From whom to whom, and what happens there.
pub type Rules = HashMap<(String, String), Rule>;

/// One connection's place in the rules.
#[derive(Debug, Clone)]
pub struct Wire {
    pub rules: watch::Receiver<Arc<Rules>>,
    pub from: String,
    pub to: String,
    /// What sends from `from` to `to`, and what sends back.
    pub transmitters: (Arc<Transmitter>, Arc<Transmitter>),
}

/// One direction of one connection.
#[derive(Debug)]
struct Way {
    is_forth: bool,
    has_lost: AtomicBool,
}

impl Wire {
    fn rule(&self, is_forth: bool) -> Option<Rule> {
        let (from, to) = if is_forth { (&self.from, &self.to) } else { (&self.to, &self.from) };
        self.rules.borrow().get(&(from.clone(), to.clone())).copied()
    }

    fn is_cut(&self, is_forth: bool) -> bool {
        self.rule(is_forth) == Some(Rule::Cut)
    }

    fn shape(&self, is_forth: bool) -> Shape {
        if let Some(Rule::Shape(shape)) = self.rule(is_forth) { shape } else { Shape::default() }
    }

    fn transmitter(&self, is_forth: bool) -> &Transmitter {
        if is_forth { &self.transmitters.0 } else { &self.transmitters.1 }
    }

    /// How long TCP takes to connect: a round trip, longer if a packet of it is lost.
    fn connect_time(&self) -> Duration {
        [true, false].into_iter().map(|is_forth| self.shape(is_forth).draw_connect(&mut rand::rng())).sum()
    }

    /// Whether bytes vanish: after the first that did, all do, since what follows would make no sense.
    fn loses(&self, way: &Way) -> bool {
        if self.is_cut(way.is_forth) {
            way.has_lost.store(true, Ordering::Relaxed);
        }
        way.has_lost.load(Ordering::Relaxed)
    }

    fn is_any_cut(&self) -> bool {
        self.is_cut(true) || self.is_cut(false)
    }

    /// Returns when the link has been cut and is whole again.
    async fn healed(mut self) {
        let mut was_cut = self.is_any_cut();
        loop {
            if self.rules.changed().await.is_err() {
                return;
            }
            let is_cut = self.is_any_cut();
            if was_cut && !is_cut {
                return;
            }
            was_cut |= is_cut;
        }
    }

    /// Passes bytes to and fro until one side ends or the link is healed after a cut.
    pub async fn carry(self, mut inbound: TcpStream, target: SocketAddr) -> std::io::Result<()> {
        if self.is_any_cut() {
            let mut sink = tokio::io::sink();
            tokio::select! {
                () = self.clone().healed() => {}
                _ = async {
                    let _ = tokio::io::copy(&mut inbound, &mut sink).await;
                    std::future::pending::<()>().await
                } => {}
            }
            return Ok(());
        }
        inbound.set_nodelay(true)?;
        tokio::time::sleep(self.connect_time()).await;
        let mut outbound = match tokio::time::timeout(CONNECT, connect(target)).await {
            Ok(connected) => connected?,
            Err(_) => return Ok(()),
        };
        outbound.set_nodelay(true)?;
        let (in_read, in_write) = inbound.split();
        let (out_read, out_write) = outbound.split();
        tokio::select! {
            () = self.clone().healed() => Ok(()),
            both = async {
                tokio::try_join!(self.pump(true, in_read, out_write), self.pump(false, out_read, in_write))
            } => both.map(drop),
        }
    }

    async fn pump(
        &self,
        is_forth: bool,
        reader: impl AsyncRead + Unpin,
        writer: impl AsyncWrite + Unpin,
    ) -> std::io::Result<()> {
        let (send, receive) = mpsc::channel(IN_FLIGHT);
        let way = Way { is_forth, has_lost: AtomicBool::new(false) };
        tokio::try_join!(self.read(&way, reader, send), self.write(&way, writer, receive)).map(drop)
    }

    async fn read(
        &self,
        way: &Way,
        mut reader: impl AsyncRead + Unpin,
        send: mpsc::Sender<(Instant, Bytes)>,
    ) -> std::io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let most = self.shape(way.is_forth).chunk_bytes(CHUNK_BYTES);
            let read = reader.read(&mut buffer[..most]).await;
            if self.loses(way) {
                match read {
                    Ok(bytes) if bytes > 0 => continue,
                    // The end does not get through either.
                    _ => std::future::pending().await,
                }
            }
            let bytes = read?;
            if bytes == 0 {
                return Ok(());
            }
            let shape = self.shape(way.is_forth);
            self.transmitter(way.is_forth).send(bytes, shape.bytes_per_s).await;
            let due = Instant::now() + shape.draw(bytes, &mut rand::rng());
            if send.send((due, Bytes::copy_from_slice(&buffer[..bytes]))).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn write(
        &self,
        way: &Way,
        mut writer: impl AsyncWrite + Unpin,
        mut receive: mpsc::Receiver<(Instant, Bytes)>,
    ) -> std::io::Result<()> {
        while let Some((due, chunk)) = receive.recv().await {
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            if self.loses(way) {
                continue;
            }
            writer.write_all(&chunk).await?;
        }
        if self.loses(way) {
            std::future::pending::<()>().await;
        }
        writer.shutdown().await
    }
}

/// Listens for the connections of a link.
pub fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket(at)?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    socket(to)?.connect(to).await
}

fn socket(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    SockRef::from(&socket).set_tcp_mss(PACKET_BYTES as u32)?;
    Ok(socket)
}
