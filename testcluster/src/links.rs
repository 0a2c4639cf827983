//! The wires between members: every connection to a manager passes through here, and can be cut or delayed, each way by
//! itself.
//!
//! A cut link is silent, as a real one: what is sent vanishes, nothing is refused or reset, and new connections are
//! accepted and swallowed (the kernel answers a SYN; no program behind it does). A connection that has lost bytes can
//! never be used again, so healing closes it and both sides dial anew.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::error::Error;
use crate::layout::{Layout, Member};
use crate::taskset::TaskSet;

const CONNECT: Duration = Duration::from_secs(1);
const STOP_GRACE: Duration = Duration::from_secs(2);
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks on a delayed wire.
const IN_FLIGHT: usize = 256;

/// What happens to bytes on one direction of a link. Links without one pass everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Cut,
    Delay(Duration),
}

type Rules = HashMap<(String, String), Rule>;

/// All links of a cluster.
#[derive(Debug)]
pub struct Links {
    layout: Layout,
    rules: watch::Sender<Arc<Rules>>,
    /// Per manager: what accepts and carries its connections.
    open: Mutex<HashMap<u8, TaskSet>>,
}

impl Links {
    pub fn new(layout: Layout) -> Self {
        Self { layout, rules: watch::Sender::new(Arc::default()), open: Mutex::default() }
    }

    /// Lets connections to the manager through. Without this they are refused, as at a machine without the program.
    pub async fn open(&self, manager: u8) -> Result<(), Error> {
        if self.open.lock().expect("no panic holds it").contains_key(&manager) {
            return Ok(());
        }
        let (at, target) = (self.layout.advertised(manager), self.layout.listen(manager));
        let listener = TcpListener::bind(at).await.map_err(|source| Error::Io {
            what: format!("cannot listen on {at} for m{manager}; stop what listens there"),
            source,
        })?;
        let tasks = TaskSet::new("link");
        let acceptor = Acceptor {
            layout: self.layout.clone(),
            to: Member::Manager(manager).name(),
            target,
            rules: self.rules.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(acceptor.run(listener));
        self.open.lock().expect("no panic holds it").insert(manager, tasks);
        Ok(())
    }

    /// Refuses connections to the manager from now on, and ends those that are.
    pub async fn close(&self, manager: u8) {
        let tasks = self.open.lock().expect("no panic holds it").remove(&manager);
        if let Some(tasks) = tasks {
            tasks.stop(STOP_GRACE).await;
        }
    }

    /// Sets the rule of one direction; None passes everything again.
    pub fn set(&self, from: &str, to: &str, rule: Option<Rule>) {
        self.rules.send_modify(|rules| {
            let rules = Arc::make_mut(rules);
            let key = (from.to_owned(), to.to_owned());
            match rule {
                Some(rule) => rules.insert(key, rule),
                None => rules.remove(&key),
            };
        });
    }

    /// All links pass everything again.
    pub fn heal(&self) {
        self.rules.send_modify(|rules| *rules = Arc::default());
    }

    /// The rules, readable: `w1 -> m1: cut`.
    pub fn describe(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .rules
            .borrow()
            .iter()
            .map(|((from, to), rule)| match rule {
                Rule::Cut => format!("{from} -> {to}: cut"),
                Rule::Delay(delay) => format!("{from} -> {to}: {} ms", delay.as_millis()),
            })
            .collect();
        lines.sort();
        lines
    }
}

#[derive(Debug)]
struct Acceptor {
    layout: Layout,
    to: String,
    target: SocketAddr,
    rules: watch::Sender<Arc<Rules>>,
    tasks: TaskSet,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        loop {
            let Ok((inbound, peer)) = listener.accept().await else {
                // Out of file descriptors, usually: some connection will end.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let from = self.layout.name_of(peer.ip());
            let wire = Wire { rules: self.rules.subscribe(), from, to: self.to.clone() };
            let target = self.target;
            self.tasks.spawn(async move {
                // A broken connection is what both ends see; there is nobody to tell.
                let _ = wire.carry(inbound, target).await;
            });
        }
    }
}

/// One connection's place in the rules.
#[derive(Debug, Clone)]
struct Wire {
    rules: watch::Receiver<Arc<Rules>>,
    from: String,
    to: String,
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

    async fn carry(self, mut inbound: TcpStream, target: SocketAddr) -> std::io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{SubnetLock, take_subnet};
    use crate::runtime::RuntimeKind;

    const SOON: Duration = Duration::from_secs(10);

    /// Links to m1, behind which somebody echoes.
    struct World {
        links: Links,
        layout: Layout,
        tasks: TaskSet,
        /// Bytes that came through to m1.
        heard: watch::Receiver<usize>,
        _subnet: SubnetLock,
    }

    async fn world() -> World {
        let subnet = take_subnet().expect("a subnet");
        let layout = Layout {
            dir: "/nowhere".into(),
            subnet: subnet.subnet,
            managers: 1,
            workers: 2,
            runtime: RuntimeKind::Process,
            front: None,
            is_direct: false,
        };
        let links = Links::new(layout.clone());
        links.open(1).await.expect("opened");
        let listener = TcpListener::bind(layout.listen(1)).await.expect("free");
        let tasks = TaskSet::new("test");
        let echoes = tasks.clone();
        let (hear, heard) = watch::channel(0);
        let hear = Arc::new(hear);
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let hear = hear.clone();
                echoes.spawn(async move {
                    let mut buffer = [0; 64];
                    while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
                        hear.send_modify(|heard| *heard += bytes);
                        if stream.write_all(&buffer[..bytes]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        World { links, layout, tasks, heard, _subnet: subnet }
    }

    async fn dial(world: &World, worker: u8) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((world.layout.member_ip(Member::Worker(worker)), 0).into()).expect("bound");
        socket.connect(world.layout.advertised(1)).await.expect("accepted")
    }

    async fn says(stream: &mut TcpStream, text: &str) -> String {
        stream.write_all(text.as_bytes()).await.expect("written");
        let mut answer = vec![0; text.len()];
        tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await.expect("in time").expect("answered");
        String::from_utf8(answer).expect("text")
    }

    #[tokio::test]
    async fn a_cut_link_is_silent_and_others_are_not() {
        let world = world().await;
        let (mut first, mut second) = (dial(&world, 1).await, dial(&world, 2).await);
        assert_eq!(says(&mut first, "hello").await, "hello");
        world.links.set("w1", "m1", Some(Rule::Cut));
        first.write_all(b"lost").await.expect("the kernel takes it");
        let mut late = dial(&world, 1).await;
        late.write_all(b"lost").await.expect("the kernel takes it");
        assert_eq!(says(&mut second, "through").await, "through");
        let mut buffer = [0; 8];
        assert!(first.try_read(&mut buffer).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        world.links.heal();
        for stream in [&mut first, &mut late] {
            let closed = tokio::time::timeout(SOON, stream.read(&mut buffer)).await.expect("healing closes it");
            assert!(matches!(closed, Ok(0) | Err(_)));
        }
        assert_eq!(says(&mut dial(&world, 1).await, "again").await, "again");
        world.tasks.stop(SOON).await;
        world.links.close(1).await;
    }

    #[tokio::test]
    async fn one_direction_can_be_cut_by_itself() {
        let world = world().await;
        let mut stream = dial(&world, 1).await;
        assert_eq!(says(&mut stream, "hello").await, "hello");
        // Forth it still goes; back it does not.
        world.links.set("m1", "w1", Some(Rule::Cut));
        stream.write_all(b"heard").await.expect("written");
        let heard = world.heard.clone().wait_for(|heard| *heard == 10).await.map(|heard| *heard);
        assert_eq!(heard.expect("it goes on"), 10);
        world.links.set("m1", "w1", Some(Rule::Delay(Duration::from_millis(5))));
        let mut buffer = [0; 8];
        let end = tokio::time::timeout(SOON, stream.read(&mut buffer)).await.expect("it is closed");
        assert!(matches!(end, Ok(0) | Err(_)), "no byte of a connection that lost some: {end:?}");
        world.tasks.stop(SOON).await;
    }

    #[tokio::test]
    async fn a_delayed_link_keeps_order_and_takes_its_time() {
        let world = world().await;
        let mut stream = dial(&world, 1).await;
        world.links.set("w1", "m1", Some(Rule::Delay(Duration::from_millis(30))));
        let started = Instant::now();
        assert_eq!(says(&mut stream, "slowly, but in order").await, "slowly, but in order");
        assert!(started.elapsed() >= Duration::from_millis(30));
        world.tasks.stop(SOON).await;
    }

    #[tokio::test]
    async fn a_closed_link_refuses() {
        let world = world().await;
        world.links.close(1).await;
        let refused = TcpStream::connect(world.layout.advertised(1)).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        world.tasks.stop(SOON).await;
    }
}
