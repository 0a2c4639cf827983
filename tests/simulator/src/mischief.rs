//! What is done to the world: by fate, and by people. Values, and how they are drawn; what they do is the world's.

mod people;
mod place;

use serde::{Deserialize, Serialize};

pub use people::{Wanted, Wish};
pub use place::Place;

use crate::random::Random;
use crate::script::{Event, Shape, Weather};

/// Managers that there may be, those that join later included.
pub const MAX_MANAGERS: usize = 6;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// A manager's process or machine is gone; what it has written is not.
    CrashManager(usize),
    StartManager(usize),
    FreezeManager(usize),
    ThawManager(usize),
    /// Its time of day is set, to so much ahead of the right one.
    SetClock {
        manager: usize,
        ahead_ms: u64,
    },
    /// A worker with a certificate of the cluster reports what is not so: of others' tasks, of tasks that never were, and
    /// beyond every limit.
    Misreport {
        worker: usize,
        lie: Lie,
    },
    /// It is elected, if it can be.
    Elect(usize),
    /// The power goes.
    CrashMachine(usize),
    StartMachine(usize),
    /// The agent alone.
    KillAgent(usize),
    StartAgent(usize),
    FreezeAgent(usize),
    ThawAgent(usize),
    KillWatchdog(usize),
    Suspend(usize),
    Resume(usize),
    /// Nothing gets through, one way.
    Cut {
        from: Place,
        to: Place,
    },
    Mend {
        from: Place,
        to: Place,
    },
    /// Nothing gets in or out.
    Isolate(Place),
    Rejoin(Place),
    /// Messages are late for a while.
    Slow {
        for_ms: u64,
        most_ms: u64,
    },
    /// Somebody asks something of a manager.
    Ask {
        via: usize,
        wish: Wish,
    },
}

/// What a hostile worker reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lie {
    /// Tasks of other workers have failed.
    OthersFailed,
    /// Tasks of other workers run here.
    OthersRunHere,
    /// Its own tasks end at the end of time.
    FarFuture,
    /// Its own tasks failed with texts beyond the limits.
    LongTexts,
    /// Tasks that never were run here.
    NeverWere,
}

impl Lie {
    pub const ALL: [Self; 5] =
        [Self::OthersFailed, Self::OthersRunHere, Self::FarFuture, Self::LongTexts, Self::NeverWere];
}

/// Everything that is done to a world of this shape.
pub fn draw(shape: &Shape) -> Vec<Event> {
    let mut drawing =
        Drawing { shape, random: Random::new(shape.seed, 2), events: Vec::new(), victim_until_ms: 0, victim: 0 };
    let mut now_ms = 3_000;
    drawing.beginning();
    while now_ms < shape.heal_at_ms {
        drawing.deed(now_ms);
        now_ms += 1 + drawing.random.below(2 * shape.gap_ms);
    }
    drawing.clocks();
    drawing.lies();
    let mut events = drawing.events;
    events.retain(|event| event.at_ms < shape.heal_at_ms);
    events.sort_by_key(|event| event.at_ms);
    events
}

struct Drawing<'a> {
    shape: &'a Shape,
    random: Random,
    events: Vec<Event>,
    /// In gentle weather: the worker that is in trouble, and until when.
    victim: usize,
    victim_until_ms: u64,
}

impl Drawing<'_> {
    fn push(&mut self, at_ms: u64, deed: Deed) {
        let number = self.events.len() as u64 + 1;
        self.events.push(Event { at_ms, deed, number });
    }

    fn beginning(&mut self) {
        for at in 0..3 {
            let wish = Wish::create(&mut self.random);
            let via = self.manager();
            self.push(500 + at * 300, Deed::Ask { via, wish });
        }
    }

    fn manager(&mut self) -> usize {
        self.random.below(self.shape.managers as u64) as usize
    }

    /// How long something lasts: mostly moments, sometimes longer than any lease.
    fn span_ms(&mut self) -> u64 {
        match self.random.below(4) {
            0 => self.random.between(50, 1_000),
            1 | 2 => self.random.between(1_000, 8_000),
            _ => self.random.between(8_000, 40_000),
        }
    }

    fn deed(&mut self, now_ms: u64) {
        let span_ms = self.span_ms();
        match self.random.below(20) {
            0..=9 => {
                let wish = Wish::draw(&mut self.random, self.shape);
                let via = self.manager();
                self.push(now_ms, Deed::Ask { via, wish });
            }
            10..=12 => self.hurt_manager(now_ms, span_ms),
            13 if self.shape.weather != Weather::Gentle => {
                let (for_ms, most_ms) = (span_ms, self.random.between(50, 6_000));
                self.push(now_ms, Deed::Slow { for_ms, most_ms });
            }
            14 => self.between_managers(now_ms, span_ms),
            _ => self.hurt_worker(now_ms, span_ms),
        }
    }

    /// In one world of four, managers' times of day are set while they run. Drawn apart, so that other worlds are as they
    /// would be without.
    fn clocks(&mut self) {
        self.random = Random::new(self.shape.seed, 6);
        if !self.random.once_in(4) {
            return;
        }
        for _ in 0..self.random.between(1, 6) {
            let (at_ms, manager) = (self.random.between(3_000, self.shape.heal_at_ms), self.manager());
            let most_ms = [1_000, 60_000, 3 * 3_600_000][self.random.below(3) as usize];
            let ahead_ms = self.random.below(most_ms);
            self.push(at_ms, Deed::SetClock { manager, ahead_ms });
        }
    }

    /// In one world of four a worker is hostile. Drawn apart, as clocks are.
    fn lies(&mut self) {
        self.random = Random::new(self.shape.seed, 7);
        if !self.random.once_in(4) {
            return;
        }
        let worker = self.random.below(self.shape.workers as u64) as usize;
        for _ in 0..self.random.between(1, 12) {
            let at_ms = self.random.between(3_000, self.shape.heal_at_ms);
            let lie = Lie::ALL[self.random.below(Lie::ALL.len() as u64) as usize];
            self.push(at_ms, Deed::Misreport { worker, lie });
        }
    }

    fn hurt_manager(&mut self, now_ms: u64, span_ms: u64) {
        let at = self.manager();
        let (first, last) = match self.random.below(6) {
            5 => return self.cut_from_other_managers(now_ms, span_ms, at),
            0 => (Deed::CrashManager(at), Some(Deed::StartManager(at))),
            1 => (Deed::FreezeManager(at), Some(Deed::ThawManager(at))),
            2 => (Deed::Isolate(Place::Manager(at)), Some(Deed::Rejoin(Place::Manager(at)))),
            _ => (Deed::Elect(at), None),
        };
        self.push(now_ms, first);
        if let Some(last) = last {
            self.push(now_ms + span_ms, last);
        }
    }

    /// It is cut off from all others of its kind, and workers reach it.
    fn cut_from_other_managers(&mut self, now_ms: u64, span_ms: u64, at: usize) {
        for other in (0..MAX_MANAGERS).filter(|other| *other != at) {
            let (one, other) = (Place::Manager(at), Place::Manager(other));
            for (from, to) in [(one, other), (other, one)] {
                self.push(now_ms, Deed::Cut { from, to });
                self.push(now_ms + span_ms, Deed::Mend { from, to });
            }
        }
    }

    fn between_managers(&mut self, now_ms: u64, span_ms: u64) {
        let (from, to) = (Place::Manager(self.manager()), Place::Manager(self.manager()));
        self.push(now_ms, Deed::Cut { from, to });
        self.push(now_ms + span_ms, Deed::Mend { from, to });
    }

    /// None in gentle weather while another one is in trouble.
    fn worker(&mut self, now_ms: u64, span_ms: u64) -> Option<usize> {
        let at = self.random.below(self.shape.workers as u64) as usize;
        if self.shape.weather == Weather::Gentle {
            // Long enough for it to be given up and to be back.
            if self.victim_until_ms > now_ms && self.victim != at {
                return None;
            }
            (self.victim, self.victim_until_ms) = (at, self.victim_until_ms.max(now_ms + span_ms + 20_000));
        }
        Some(at)
    }

    fn hurt_worker(&mut self, now_ms: u64, span_ms: u64) {
        let Some(at) = self.worker(now_ms, span_ms) else { return };
        let place = Place::Worker(at);
        let manager = Place::Manager(self.manager());
        let other = Place::Worker(self.random.below(self.shape.workers as u64) as usize);
        let (first, last) = match self.random.below(14) {
            0 | 1 => (Deed::CrashMachine(at), Deed::StartMachine(at)),
            2 | 3 => (Deed::KillAgent(at), Deed::StartAgent(at)),
            4 => (Deed::FreezeAgent(at), Deed::ThawAgent(at)),
            5 => (Deed::Suspend(at), Deed::Resume(at)),
            6 => (Deed::Isolate(place), Deed::Rejoin(place)),
            7 => (Deed::Cut { from: place, to: manager }, Deed::Mend { from: place, to: manager }),
            8 => (Deed::Cut { from: manager, to: place }, Deed::Mend { from: manager, to: place }),
            9 => (Deed::Cut { from: place, to: other }, Deed::Mend { from: place, to: other }),
            10 => return self.push(now_ms, Deed::KillWatchdog(at)),
            11 | 12 if self.shape.weather != Weather::Gentle => return self.slow_before_it_ends(now_ms, span_ms, at),
            _ => return self.cut_from_managers(now_ms, span_ms, place),
        };
        self.push(now_ms, first);
        self.push(now_ms + span_ms, last);
    }

    /// Its last grant comes late, though not so late that it would look for another leader; then nobody renews it.
    fn slow_before_it_ends(&mut self, now_ms: u64, span_ms: u64, at: usize) {
        let (for_ms, most_ms) = (self.random.between(1_000, 4_000), self.random.between(600, 950));
        let (first, last) = match self.random.once_in(2) {
            true => (Deed::KillAgent(at), Deed::StartAgent(at)),
            false => (Deed::FreezeAgent(at), Deed::ThawAgent(at)),
        };
        self.push(now_ms, Deed::Slow { for_ms, most_ms });
        self.push(now_ms + for_ms, first);
        // Long enough for it to be given up.
        self.push(now_ms + for_ms + span_ms.max(6_000), last);
    }

    /// Of all managers, one way or both; other workers are reached.
    fn cut_from_managers(&mut self, now_ms: u64, span_ms: u64, place: Place) {
        let ways = self.random.below(3);
        for at in 0..self.shape.managers {
            let manager = Place::Manager(at);
            for (from, to) in [(place, manager), (manager, place)].into_iter().skip(usize::from(ways == 1)) {
                self.push(now_ms, Deed::Cut { from, to });
                self.push(now_ms + span_ms, Deed::Mend { from, to });
                if ways == 2 {
                    break;
                }
            }
        }
    }
}
