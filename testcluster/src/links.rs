//! The wires between members: every connection to a manager or a worker passes through here, and can be cut, delayed or
//! narrowed, each way by itself.
//!
//! A cut link is silent, as a real one: what is sent vanishes, nothing is refused or reset, and new connections are
//! accepted and swallowed (the kernel answers a SYN; no program behind it does). A connection that has lost bytes can
//! never be used again, so healing closes it and both sides dial anew.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::error::Error;
use crate::layout::{Layout, Member};
use crate::shape::Transmitter;
use crate::taskset::TaskSet;
use crate::wire::{Rules, Wire, listen};

pub use crate::wire::Rule;

const STOP_GRACE: Duration = Duration::from_secs(2);

/// All links of a cluster.
#[derive(Debug)]
pub struct Links {
    layout: Layout,
    rules: watch::Sender<Arc<Rules>>,
    transmitters: Arc<Transmitters>,
    /// Per member: what accepts and carries its connections.
    open: Mutex<HashMap<Member, TaskSet>>,
}

/// One transmitter for each direction of each link, made when it is first used.
#[derive(Debug, Default)]
struct Transmitters(Mutex<HashMap<(String, String), Arc<Transmitter>>>);

impl Transmitters {
    fn of(&self, from: &str, to: &str) -> Arc<Transmitter> {
        let mut transmitters = self.0.lock().expect("no panic holds it");
        transmitters.entry((from.to_owned(), to.to_owned())).or_default().clone()
    }
}

impl Links {
    pub fn new(layout: Layout) -> Self {
        Self { layout, rules: watch::Sender::new(Arc::default()), transmitters: Arc::default(), open: Mutex::default() }
    }

    /// Lets connections to the member through. Without this they are refused, as at a machine without the program.
    pub async fn open(&self, member: Member) -> Result<(), Error> {
        if self.open.lock().expect("no panic holds it").contains_key(&member) {
            return Ok(());
        }
        let (at, target) = (self.layout.advertised(member), self.layout.listen(member));
        let listener = listen(at).map_err(|source| Error::Io {
            what: format!("cannot listen on {at} for {}; stop what listens there", member.name()),
            source,
        })?;
        let tasks = TaskSet::new("link");
        let acceptor = Acceptor {
            layout: self.layout.clone(),
            to: member.name(),
            target,
            rules: self.rules.clone(),
            transmitters: self.transmitters.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(acceptor.run(listener));
        self.open.lock().expect("no panic holds it").insert(member, tasks);
        Ok(())
    }

    /// Refuses connections to the member from now on, and ends those that are.
    pub async fn close(&self, member: Member) {
        let tasks = self.open.lock().expect("no panic holds it").remove(&member);
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
                Rule::Shape(shape) => format!("{from} -> {to}: {shape}"),
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
    transmitters: Arc<Transmitters>,
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
            let transmitters = (self.transmitters.of(&from, &self.to), self.transmitters.of(&self.to, &from));
            let wire = Wire { rules: self.rules.subscribe(), from, to: self.to.clone(), transmitters };
            let target = self.target;
            self.tasks.spawn(async move {
                // A broken connection is what both ends see; there is nobody to tell.
                let _ = wire.carry(inbound, target).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::Instant;

    use super::*;
    use crate::runtime::RuntimeKind;
    use crate::shape::Shape;
    use crate::subnet::{SubnetLock, take_subnet};

    const M1: Member = Member::Manager(1);
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
            spares: 0,
            workers: 2,
            runtime: RuntimeKind::Process,
            front: None,
            is_direct: false,
            has_daemons: false,
            docker_host: None,
        };
        let links = Links::new(layout.clone());
        links.open(M1).await.expect("opened");
        let listener = TcpListener::bind(layout.listen(M1)).await.expect("free");
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

    fn delayed(ms: u64) -> Rule {
        Rule::Shape(Shape::delayed(Duration::from_millis(ms)))
    }

    async fn dial(world: &World, worker: u8) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((world.layout.member_ip(Member::Worker(worker)), 0).into()).expect("bound");
        socket.connect(world.layout.advertised(M1)).await.expect("accepted")
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
        world.links.close(M1).await;
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
        world.links.set("m1", "w1", Some(delayed(5)));
        let mut buffer = [0; 8];
        let end = tokio::time::timeout(SOON, stream.read(&mut buffer)).await.expect("it is closed");
        assert!(matches!(end, Ok(0) | Err(_)), "no byte of a connection that lost some: {end:?}");
        world.tasks.stop(SOON).await;
    }

    #[tokio::test]
    async fn a_delayed_link_keeps_order_and_takes_its_time() {
        let world = world().await;
        let mut stream = dial(&world, 1).await;
        world.links.set("w1", "m1", Some(delayed(30)));
        let started = Instant::now();
        assert_eq!(says(&mut stream, "slowly, but in order").await, "slowly, but in order");
        assert!(started.elapsed() >= Duration::from_millis(30));
        world.tasks.stop(SOON).await;
    }

    #[tokio::test]
    async fn all_connections_of_a_narrow_link_share_its_bandwidth() {
        let world = world().await;
        let shape = Shape { bytes_per_s: 50_000, ..Shape::default() };
        world.links.set("w1", "m1", Some(Rule::Shape(shape)));
        let text = "x".repeat(5_000);
        let (mut first, mut second) = (dial(&world, 1).await, dial(&world, 1).await);
        let started = Instant::now();
        tokio::join!(says(&mut first, &text), says(&mut second, &text));
        // 10,000 bytes take 200 ms, less what may leave at once.
        assert!(started.elapsed() >= Duration::from_millis(190));
        world.tasks.stop(SOON).await;
    }

    #[tokio::test]
    async fn a_closed_link_refuses() {
        let world = world().await;
        world.links.close(M1).await;
        let refused = TcpStream::connect(world.layout.advertised(M1)).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        world.tasks.stop(SOON).await;
    }
}
