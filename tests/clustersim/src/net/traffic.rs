//! Segments on their way: sent, late, held by a cut, and what their arrival does.

use std::net::SocketAddr;
use std::task::Waker;

use rand::RngExt;

use super::table::{Conn, Pipe};
use super::{ConnId, Direction, Inner, Parcel, RETRANSMIT_AT_MOST, Segment, Weather, ip};
use crate::kernel::{HostId, MS, SECOND, US};

/// TCP sends again what is not acknowledged after this, doubled each time.
const RETRANSMIT: u64 = 200 * MS;

impl Inner {
    pub(super) fn is_current(&self, host: HostId, life: u64) -> bool {
        self.lives[host] == life
    }

    pub(super) fn wake(&mut self, host: HostId, waker: Option<Waker>) {
        self.woken.extend(waker.map(|waker| (host, waker)));
    }

    /// Ends every connection of the host's, and tells the other ends within `spread`.
    pub(super) fn reset_all(&mut self, host: HostId, spread: u64) {
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
            self.send_after(Parcel { conn, direction, number: 0, segment: Segment::Reset }, after);
        }
    }

    /// Sends a segment behind all others of its direction; a reset overtakes them.
    pub(super) fn send(&mut self, conn: ConnId, direction: Direction, segment: Segment) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        let pipe = &mut known.pipes[direction];
        let number = pipe.sent;
        pipe.sent += 1;
        self.send_after(Parcel { conn, direction, number, segment }, 0);
    }

    /// Puts a segment on its way, for the first time or again.
    pub(super) fn send_after(&mut self, parcel: Parcel, after: u64) {
        let Some(conn) = self.conns.get(&parcel.conn) else { return };
        let (from, to) = (conn.hosts[parcel.direction], conn.hosts[1 - parcel.direction]);
        let weather = self.links.get(&(from, to)).map_or_else(Weather::default, |link| link.0);
        let mut latency = weather.latency + self.random.random_range(0..=weather.jitter);
        let mut again = RETRANSMIT;
        while weather.loss_ppm > 0 && self.random.random_range(0..1_000_000) < weather.loss_ppm {
            latency += again;
            again = (again * 2).min(RETRANSMIT_AT_MOST);
        }
        let departure = self.departure((from, to), weather.bytes_per_s, parcel.segment.bytes());
        let at = departure + after + latency;
        let Some(conn) = self.conns.get_mut(&parcel.conn) else { return };
        // Behind what was late.
        let pipe = &mut conn.pipes[parcel.direction];
        let at = at.max(pipe.last_arrival);
        pipe.last_arrival = at;
        self.enqueue(at, parcel);
    }

    fn enqueue(&mut self, at: u64, parcel: Parcel) {
        self.next += 1;
        self.queue.insert((at, self.next), parcel);
    }

    /// What comes before its turn waits for what was sent before it.
    pub(super) fn arrive(&mut self, parcel: Parcel) {
        let Some(conn) = self.conns.get_mut(&parcel.conn) else { return };
        let (from, to) = (conn.hosts[parcel.direction], conn.hosts[1 - parcel.direction]);
        if let Some((weather, held)) = self.links.get_mut(&(from, to))
            && weather.is_cut
        {
            return held.push(parcel);
        }
        let pipe = &mut conn.pipes[parcel.direction];
        if !matches!(parcel.segment, Segment::Reset) {
            if parcel.number > pipe.received {
                let at = pipe.last_arrival.max(self.now + US);
                return self.enqueue(at, parcel);
            }
            pipe.received += 1;
        }
        self.trace.arrival(self.now, from, to, parcel.conn, &parcel.segment.summary());
        if let Segment::Syn { port } = parcel.segment {
            self.dialled(parcel.conn, from, to, port);
        } else if self.listeners[to].is_some() && conn.lives[1 - parcel.direction] == self.lives[to] {
            self.hear(to, parcel);
        }
    }

    /// A segment has come to a host that lives and knows its connection.
    fn hear(&mut self, to: HostId, parcel: Parcel) {
        let Parcel { conn: id, direction, segment, .. } = parcel;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let pipe = &mut conn.pipes[direction];
        let mut wakers = [None, None];
        match segment {
            Segment::Data(bytes) if pipe.is_reader_gone => {
                pipe.unread = pipe.unread.saturating_sub(bytes.len());
                self.reset(id, 1 - direction);
            }
            Segment::Data(bytes) => {
                pipe.arrived.push_back(bytes);
                wakers[0] = pipe.reader.take();
            }
            Segment::Fin => {
                pipe.has_ended = true;
                wakers[0] = pipe.reader.take();
            }
            Segment::SynAck => {
                wakers[0] = pipe.reader.take();
                conn.is_open = true;
            }
            Segment::Reset => {
                wakers = [pipe.reader.take(), conn.pipes[1 - direction].writer.take()];
                conn.is_reset = true;
            }
            Segment::Syn { .. } => {}
        }
        for waker in wakers {
            self.wake(to, waker);
        }
        self.forget_finished(id);
    }

    fn reset(&mut self, conn: ConnId, direction: Direction) {
        self.send_after(Parcel { conn, direction, number: 0, segment: Segment::Reset }, 0);
    }

    fn dialled(&mut self, id: ConnId, from: HostId, to: HostId, port: u16) {
        let Some(listeners) = &mut self.listeners[to] else {
            // Nobody answers; the caller's kernel asks again.
            self.send_after(Parcel { conn: id, direction: 0, number: 0, segment: Segment::Syn { port } }, SECOND);
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.pipes[0].received = 0;
            }
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
            None => self.reset(id, 1),
        }
    }

    pub(super) fn forget_finished(&mut self, id: ConnId) {
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
