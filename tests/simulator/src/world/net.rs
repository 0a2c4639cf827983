//! Ways between machines: which are cut, and how long messages take.

use crate::mischief::{MAX_MANAGERS, Place};
use crate::random::Random;
use crate::script::{Shape, Weather};
use crate::wire::{Down, Up};

use super::{Event, World};

const PLACES: usize = 64;

#[derive(Debug)]
pub(crate) struct Net {
    /// By sender, a bit for each receiver.
    cut: [u64; PLACES],
    isolated: u64,
    slow_until_ms: u64,
    slow_most_ms: u64,
    weather: Weather,
    random: Random,
}

impl Net {
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            cut: [0; PLACES],
            isolated: 0,
            slow_until_ms: 0,
            slow_most_ms: 0,
            weather: shape.weather,
            random: Random::new(shape.seed, 4),
        }
    }

    pub(super) fn draw_chance(&mut self, seed: u64) {
        self.random = Random::new(seed, 4);
    }

    pub(crate) fn is_open(&self, from: Place, to: Place) -> bool {
        let (from, to) = (from.index(), to.index());
        from == to || ((self.isolated >> from | self.isolated >> to) & 1 == 0 && self.cut[from] >> to & 1 == 0)
    }

    pub(crate) fn is_open_both_ways(&self, a: Place, b: Place) -> bool {
        self.is_open(a, b) && self.is_open(b, a)
    }

    pub(super) fn set_cut(&mut self, from: Place, to: Place, is_cut: bool) {
        let bit = 1 << to.index();
        if is_cut { self.cut[from.index()] |= bit } else { self.cut[from.index()] &= !bit }
    }

    pub(super) fn set_isolated(&mut self, place: Place, is_isolated: bool) {
        let bit = 1 << place.index();
        if is_isolated { self.isolated |= bit } else { self.isolated &= !bit }
    }

    pub(super) fn slow(&mut self, until_ms: u64, most_ms: u64) {
        (self.slow_until_ms, self.slow_most_ms) = (until_ms, most_ms);
    }

    pub(super) fn heal(&mut self) {
        (self.cut, self.isolated, self.slow_until_ms) = ([0; PLACES], 0, 0);
    }

    /// How long a message takes.
    pub(crate) fn delay_ms(&mut self, now_ms: u64) -> u64 {
        let random = &mut self.random;
        if now_ms < self.slow_until_ms && random.once_in(4) {
            return 1 + random.below(self.slow_most_ms);
        }
        match random.below(64) {
            0 if self.weather != Weather::Gentle => 1 + random.below(400),
            0..=3 => 1 + random.below(60),
            _ => 1 + random.below(3),
        }
    }
}

impl World {
    /// Whether a message gets through on a connection now.
    fn gets_through(&self, worker: usize, manager: usize, via: Option<usize>, is_up: bool) -> bool {
        let (worker, manager) = (Place::Worker(worker), Place::Manager(manager));
        let way = |from, to| if is_up { self.net.is_open(from, to) } else { self.net.is_open(to, from) };
        match via {
            None => way(worker, manager),
            Some(via) => {
                let through = &self.managers[via];
                through.is_up
                    && !through.is_frozen
                    && way(worker, Place::Manager(via))
                    && way(Place::Manager(via), manager)
            }
        }
    }

    pub(crate) fn send_up(&mut self, number: u32, message: Up) {
        let delay_ms = self.net.delay_ms(self.now_ms);
        let Some(connection) = self.connections.all.get_mut(&number) else { return };
        let hops = if connection.via.is_some() { 2 } else { 1 };
        let at_ms = connection.up.push(self.now_ms + hops * delay_ms, message);
        self.at(at_ms, Event::Arrive { connection: number, is_up: true });
    }

    pub(crate) fn send_down(&mut self, number: u32, term: u64, message: Down) {
        let delay_ms = self.net.delay_ms(self.now_ms);
        let Some(connection) = self.connections.all.get_mut(&number) else { return };
        let hops = if connection.via.is_some() { 2 } else { 1 };
        let at_ms = connection.down.push(self.now_ms + hops * delay_ms, (term, message));
        self.at(at_ms, Event::Arrive { connection: number, is_up: false });
    }

    /// Whatever is due on a stream. Held up by a cut, or by a reader who stands still, it stays where it is.
    pub(super) fn arrive(&mut self, number: u32, is_up: bool) {
        loop {
            let now_ms = self.now_ms;
            let Some(connection) = self.connections.all.get(&number) else { return };
            let (worker, manager, via) = (connection.worker, connection.manager, connection.via);
            let is_awake = if is_up { !self.managers[manager].is_frozen } else { self.machines[worker].hears() };
            if !is_awake || !self.gets_through(worker, manager, via, is_up) {
                return;
            }
            let connection = self.connections.all.get_mut(&number).expect("it was there a moment ago");
            if is_up {
                let Some(message) = connection.up.pop_due(now_ms) else { return };
                if connection.up.is_read {
                    self.manager_hears(manager, number, message);
                }
            } else {
                let Some((term, message)) = connection.down.pop_due(now_ms) else { return };
                if connection.down.is_read {
                    self.agent_hears(worker, number, term, message);
                }
            }
        }
    }

    /// Something was mended, or goes on: what was held up may arrive.
    pub(crate) fn look_at_streams(&mut self) {
        let held = |connection: &crate::wire::Connection| {
            let (up, down) = (&connection.up.messages, &connection.down.messages);
            [(!up.is_empty(), true), (!down.is_empty(), false)]
        };
        let numbers: Vec<(u32, bool)> = self
            .connections
            .all
            .iter()
            .flat_map(|(number, connection)| held(connection).map(|(is_held, is_up)| (*number, is_held, is_up)))
            .filter_map(|(number, is_held, is_up)| is_held.then_some((number, is_up)))
            .collect();
        for (connection, is_up) in numbers {
            self.after(1, Event::Arrive { connection, is_up });
        }
    }

    /// A machine's connections go with it: whoever is at the other end is not told.
    pub(crate) fn drop_connections_of(&mut self, place: Place) {
        let all = self.connections.all.iter();
        let of_place = all.filter(|(_, connection)| match place {
            Place::Worker(at) => connection.worker == at,
            Place::Manager(at) => connection.manager == at,
        });
        for number in of_place.map(|(number, _)| *number).collect::<Vec<_>>() {
            match place {
                Place::Worker(_) => self.connections.leave_down(number),
                Place::Manager(_) => self.connections.leave_up(number),
            }
        }
    }
}

const _: () = assert!(MAX_MANAGERS < PLACES);
