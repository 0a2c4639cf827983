//! The simulated network: reliable, ordered connections as TCP gives them, over links that delay, lose, hold and cut.
//!
//! A cut loses nothing of a connection: what is sent over it waits, as TCP sends it again and again, and comes a while after
//! the cut is mended. What a host sent that was killed is gone, and so is what is on its way to it.

mod stream;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::kernel::{HostId, MS, SECOND, US};
use crate::trace::Trace;

pub use stream::Fabric;
use table::{Conn, Pipe};

/// So much may be on its way or unread in one direction of a connection.
const WINDOW_BYTES: usize = 256 << 10;
/// TCP sends again what is not acknowledged after this, doubled each time.
const RETRANSMIT: u64 = 200 * MS;
const RETRANSMIT_AT_MOST: u64 = 2 * SECOND;

/// How a link from one host to another behaves.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub latency: u64,
    pub jitter: u64,
    /// Of all segments, millionths.
    pub loss_ppm: u32,
    pub is_cut: bool,
}

impl Default for Weather {
    fn default() -> Self {
        Self { latency: 150 * US, jitter: 150 * US, loss_ppm: 0, is_cut: false }
    }
}

type ConnId = u64;
/// 0: from the one that dialled; 1: to it.
type Direction = usize;

#[derive(Debug)]
enum Segment {
    /// Dials a port.
    Syn { port: u16 },
    SynAck,
    Data(Bytes),
    Fin,
    Reset,
}

#[derive(Debug)]
struct Parcel {
    conn: ConnId,
    direction: Direction,
    segment: Segment,
}

#[derive(Debug, Default)]
struct Listener {
    /// Connections that nobody has accepted yet.
    waiting: VecDeque<(ConnId, SocketAddr)>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Inner {
    now: u64,
    random: StdRng,
    links: BTreeMap<(HostId, HostId), (Weather, Vec<Parcel>)>,
    /// None: the machine is off.
    listeners: Vec<Option<BTreeMap<u16, Listener>>>,
    /// Grows with each start of a host: what an earlier life of it holds is void.
    lives: Vec<u64>,
    conns: BTreeMap<ConnId, Conn>,
    next: u64,
    queue: BTreeMap<(u64, u64), Parcel>,
    /// Those to wake, and where they are.
    woken: Vec<(HostId, Waker)>,
    trace: Trace,
}

/// The network. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Net(Arc<Mutex<Inner>>);

/// The address of a host.
pub fn ip(host: HostId) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(host + 1).expect("a small cluster"))
}

fn host_at(address: IpAddr) -> Option<HostId> {
    match address {
        IpAddr::V4(address) => usize::from(address.octets()[3]).checked_sub(1),
        IpAddr::V6(_) => None,
    }
}

impl Net {
    pub fn new(hosts: usize, seed: u64, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: 0,
            random: StdRng::seed_from_u64(seed),
            links: BTreeMap::new(),
            listeners: (0..hosts).map(|_| None).collect(),
            lives: vec![0; hosts],
            conns: BTreeMap::new(),
            next: 0,
            queue: BTreeMap::new(),
            woken: Vec::new(),
            trace,
        })))
    }

    /// When the next segment arrives.
    pub fn next(&self) -> u64 {
        self.0.lock().queue.first_key_value().map_or(u64::MAX, |((at, _), _)| *at)
    }

    /// Delivers what arrives up to `now`. Returns who is to be told of it.
    pub fn advance(&self, now: u64) -> Vec<(HostId, Waker)> {
        let mut inner = self.0.lock();
        inner.now = now;
        while inner.queue.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            if let Some((_, parcel)) = inner.queue.pop_first() {
                inner.arrive(parcel);
            }
        }
        std::mem::take(&mut inner.woken)
    }

    /// The machine is on from here on. Connections of its earlier life are answered with resets, a moment later.
    pub fn turn_on(&self, host: HostId) {
        let mut inner = self.0.lock();
        inner.lives[host] += 1;
        inner.listeners[host] = Some(BTreeMap::new());
        inner.reset_all(host, SECOND);
    }

    /// Everything of the host's ends. `is_said`: its kernel lives and says so, as when a process dies.
    pub fn turn_off(&self, host: HostId, is_said: bool) {
        let mut inner = self.0.lock();
        inner.lives[host] += 1;
        inner.listeners[host] = if is_said { Some(BTreeMap::new()) } else { None };
        if is_said {
            inner.reset_all(host, 0);
        } else {
            // What was on its way from it, and never left.
            inner.links.iter_mut().filter(|((from, _), _)| *from == host).for_each(|(_, (_, held))| held.clear());
        }
    }

    /// How the link behaves from now on. What was held by a cut comes after a while, as TCP sends it again.
    pub fn set_weather(&self, from: HostId, to: HostId, weather: Weather) {
        let mut inner = self.0.lock();
        let link = inner.links.entry((from, to)).or_default();
        link.0 = weather;
        if !weather.is_cut {
            let held = std::mem::take(&mut link.1);
            let again = inner.random.random_range(1..RETRANSMIT_AT_MOST);
            for parcel in held {
                inner.send_after(parcel, again);
            }
        }
    }

    pub fn weather(&self, from: HostId, to: HostId) -> Weather {
        self.0.lock().links.get(&(from, to)).map_or_else(Weather::default, |link| link.0)
    }

    /// Breaks all connections between two hosts, as a firewall that restarts does.
    pub fn reset_between(&self, one: HostId, other: HostId) {
        let mut inner = self.0.lock();
        let ends = |conn: &Conn| (conn.hosts[0] == one && conn.hosts[1] == other) || (conn.hosts[0] == other && conn.hosts[1] == one);
        let broken: Vec<ConnId> = inner.conns.iter().filter(|(_, conn)| ends(conn)).map(|(id, _)| *id).collect();
        for conn in broken {
            for direction in [0, 1] {
                inner.arrive(Parcel { conn, direction, segment: Segment::Reset });
            }
        }
    }
}

impl Inner {
    fn is_current(&self, host: HostId, life: u64) -> bool {
        self.lives[host] == life
    }

    fn wake(&mut self, host: HostId, waker: Option<Waker>) {
        self.woken.extend(waker.map(|waker| (host, waker)));
    }

    /// Ends every connection of the host's, and tells the other ends within `spread`.
    fn reset_all(&mut self, host: HostId, spread: u64) {
        let life = self.lives[host];
        let mut told = Vec::new();
        for (id, conn) in &mut self.conns {
            for side in [0, 1] {
                if conn.hosts[side] == host && conn.lives[side] < life && !conn.is_reset_by(side) {
                    conn.mark_reset_by(side);
                    told.push((*id, side));
                }
            }
        }
        for (conn, direction) in told {
            let after = self.random.random_range(0..=spread);
            self.send_after(Parcel { conn, direction, segment: Segment::Reset }, after);
        }
    }

    fn send(&mut self, conn: ConnId, direction: Direction, segment: Segment) {
        self.send_after(Parcel { conn, direction, segment }, 0);
    }

    /// Puts a segment on its way.
    fn send_after(&mut self, parcel: Parcel, after: u64) {
        let Some(conn) = self.conns.get(&parcel.conn) else { return };
        let (from, to) = (conn.hosts[parcel.direction], conn.hosts[1 - parcel.direction]);
        let weather = self.links.get(&(from, to)).map_or_else(Weather::default, |link| link.0);
        let mut latency = weather.latency + self.random.random_range(0..=weather.jitter);
        let mut again = RETRANSMIT;
        while weather.loss_ppm > 0 && self.random.random_range(0..1_000_000) < weather.loss_ppm {
            latency += again;
            again = (again * 2).min(RETRANSMIT_AT_MOST);
        }
        let at = self.now + after + latency;
        // In order, also behind what was late.
        let pipe = &mut self.conns.get_mut(&parcel.conn).expect("it was there").pipes[parcel.direction];
        let at = at.max(pipe.last_arrival);
        pipe.last_arrival = at;
        self.next += 1;
        self.queue.insert((at, self.next), parcel);
    }

    fn arrive(&mut self, parcel: Parcel) {
        let Some(conn) = self.conns.get_mut(&parcel.conn) else { return };
        let (from, to) = (conn.hosts[parcel.direction], conn.hosts[1 - parcel.direction]);
        if let Some((weather, held)) = self.links.get_mut(&(from, to))
            && weather.is_cut
        {
            held.push(parcel);
            return;
        }
        self.trace.arrival(self.now, from, to, parcel.conn, &parcel.segment.summary());
        let is_off = self.listeners[to].is_none();
        let is_void = conn.lives[1 - parcel.direction] != self.lives[to];
        match parcel.segment {
            Segment::Syn { port } => self.dialled(parcel.conn, from, to, port),
            _ if is_off => {}
            // Its end has been told, or will be when it asks.
            _ if is_void => {}
            Segment::SynAck => {
                conn.is_open = true;
                let waker = conn.pipes[1].reader.take();
                self.wake(to, waker);
            }
            Segment::Data(bytes) => {
                let pipe = &mut conn.pipes[parcel.direction];
                if pipe.is_reader_gone {
                    pipe.unread = pipe.unread.saturating_sub(bytes.len());
                    self.send(parcel.conn, 1 - parcel.direction, Segment::Reset);
                } else {
                    pipe.arrived.push_back(bytes);
                    let waker = pipe.reader.take();
                    self.wake(to, waker);
                }
            }
            Segment::Fin => {
                let pipe = &mut conn.pipes[parcel.direction];
                pipe.has_ended = true;
                let waker = pipe.reader.take();
                self.wake(to, waker);
            }
            Segment::Reset => {
                conn.is_reset = true;
                // Of the side that it comes to: its reads and its writes.
                let (reader, writer) =
                    (conn.pipes[parcel.direction].reader.take(), conn.pipes[1 - parcel.direction].writer.take());
                self.wake(to, reader);
                self.wake(to, writer);
            }
        }
        self.forget_finished(parcel.conn);
    }

    fn dialled(&mut self, id: ConnId, from: HostId, to: HostId, port: u16) {
        let Some(listeners) = &mut self.listeners[to] else {
            // Nobody answers; the caller's kernel asks again.
            self.send_after(Parcel { conn: id, direction: 0, segment: Segment::Syn { port } }, SECOND);
            return;
        };
        let life = self.lives[to];
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match listeners.get_mut(&port) {
            Some(listener) => {
                conn.lives[1] = life;
                conn.is_accepted = true;
                listener.waiting.push_back((id, SocketAddr::from((ip(from), 40_000))));
                let waker = listener.waker.take();
                self.wake(to, waker);
                self.send(id, 1, Segment::SynAck);
            }
            None => self.send(id, 1, Segment::Reset),
        }
    }

    fn forget_finished(&mut self, id: ConnId) {
        let is_gone = |pipe: &Pipe| pipe.is_reader_gone && pipe.is_writer_gone;
        let is_finished = |conn: &Conn| {
            let is_void = |side: usize| self.lives[conn.hosts[side]] != conn.lives[side] && conn.is_reset_by(side);
            let ends: Vec<bool> = [0, 1]
                .map(|side| is_void(side) || (conn.pipes[side].is_writer_gone && conn.pipes[1 - side].is_reader_gone))
                .into();
            (is_gone(&conn.pipes[0]) && is_gone(&conn.pipes[1])) || (ends[0] && ends[1])
        };
        if self.conns.get(&id).is_some_and(is_finished) {
            self.conns.remove(&id);
        }
    }
}

impl Segment {
    fn summary(&self) -> (&'static str, u64) {
        match self {
            Self::Syn { port } => ("syn", u64::from(*port)),
            Self::SynAck => ("syn-ack", 0),
            Self::Data(bytes) => ("data", (u64::from(crc32fast::hash(bytes)) << 32) | bytes.len() as u64),
            Self::Fin => ("fin", 0),
            Self::Reset => ("reset", 0),
        }
    }
}
