//! The simulated network: reliable, ordered connections as TCP gives them, over links that delay, lose, hold and cut.
//!
//! A cut loses nothing of a connection: what is sent over it waits, as TCP sends it again and again, and comes a while after
//! the cut is mended. What a host sent that was killed is gone, and so is what is on its way to it.

mod stream;
mod table;
mod traffic;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::kernel::{HostId, SECOND, US};
use crate::trace::Trace;

pub use stream::Fabric;
use table::Conn;

/// So much may be on its way or unread in one direction of a connection.
const WINDOW_BYTES: usize = 256 << 10;
/// The same on a narrow link, where TCP fills no window that large.
const NARROW_WINDOW_BYTES: usize = 32 << 10;
/// Headers of a segment.
const HEAD_BYTES: u64 = 40;
/// TCP sends again what is not acknowledged, and waits longer each time.
const RETRANSMIT_AT_MOST: u64 = 2 * SECOND;

/// How a link from one host to another behaves.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub latency: u64,
    pub jitter: u64,
    /// Of all segments, millionths.
    pub loss_ppm: u32,
    /// Bandwidth that all connections share; 0: unlimited.
    pub bytes_per_s: u64,
    pub is_cut: bool,
}

impl Default for Weather {
    fn default() -> Self {
        Self { latency: 150 * US, jitter: 150 * US, loss_ppm: 0, bytes_per_s: 0, is_cut: false }
    }
}

type ConnId = u64;
/// 0: from the one that dialled; 1: to it.
type Direction = usize;

#[derive(Debug)]
enum Segment {
    /// Dials a port.
    Syn {
        port: u16,
    },
    SynAck,
    Data(Bytes),
    Fin,
    Reset,
}

#[derive(Debug)]
struct Parcel {
    conn: ConnId,
    direction: Direction,
    /// Its place among those of its direction.
    number: u64,
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
    /// Of narrow links: when everything sent so far has left.
    free_at: BTreeMap<(HostId, HostId), u64>,
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
            free_at: BTreeMap::new(),
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
        let ends = |conn: &Conn| {
            (conn.hosts[0] == one && conn.hosts[1] == other) || (conn.hosts[0] == other && conn.hosts[1] == one)
        };
        let broken: Vec<ConnId> = inner.conns.iter().filter(|(_, conn)| ends(conn)).map(|(id, _)| *id).collect();
        for conn in broken {
            for direction in [0, 1] {
                inner.arrive(Parcel { conn, direction, number: 0, segment: Segment::Reset });
            }
        }
    }
}

impl Inner {
    /// When a segment of that many bytes has left for a link.
    fn departure(&mut self, (from, to): (HostId, HostId), bytes_per_s: u64, bytes: u64) -> u64 {
        if bytes_per_s == 0 {
            return self.now;
        }
        let free_at = self.free_at.entry((from, to)).or_default();
        *free_at = (*free_at).max(self.now) + (bytes + HEAD_BYTES) * SECOND / bytes_per_s;
        *free_at
    }

    /// How much may be on its way or unread in one direction of a connection between the hosts.
    fn window(&self, from: HostId, to: HostId) -> usize {
        let is_narrow = self.links.get(&(from, to)).is_some_and(|(weather, _)| weather.bytes_per_s > 0);
        if is_narrow { NARROW_WINDOW_BYTES } else { WINDOW_BYTES }
    }
}

impl Segment {
    /// Payload.
    fn bytes(&self) -> u64 {
        if let Self::Data(bytes) = self { bytes.len() as u64 } else { 0 }
    }

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
