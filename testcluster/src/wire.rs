//! One connection on a link: passes bytes, holds them up or swallows them, as the link's rules say at that moment.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

const CONNECT: Duration = Duration::from_secs(1);
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks on a delayed wire.
const IN_FLIGHT: usize = 256;

/// What happens to bytes on one direction of a link. Links without one pass everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Cut,
    Delay(Duration),
}

/// From whom to whom, and what happens there.
pub type Rules = HashMap<(String, String), Rule>;

/// One connection's place in the rules.
#[derive(Debug, Clone)]
pub struct Wire {
    pub rules: watch::Receiver<Arc<Rules>>,
    pub from: String,
    pub to: String,
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
        let mut outbound = match tokio::time::timeout(CONNECT, TcpStream::connect(target)).await {
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
            let read = reader.read(&mut buffer).await;
            let rule = self.rule(way.is_forth);
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
            let delay = if let Some(Rule::Delay(delay)) = rule { delay } else { Duration::ZERO };
            let chunk = Bytes::copy_from_slice(&buffer[..bytes]);
            if send.send((Instant::now() + delay, chunk)).await.is_err() {
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
