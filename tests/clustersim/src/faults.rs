//! What is done to the cluster, by lot: each fault ends by itself, and all that is left of them can be healed at once.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::conditions;
use crate::disk::Health;
use crate::kernel::{HostId, MS, SECOND};
use crate::net::Weather;
use crate::world::World;

/// Clocks are wrong by less than what leases allow for (`rate_error_ppm` is 1,000).
const MAX_DRIFT_PPM: i64 = 900;
/// What clocks say of the time of day may be anything; this far (ns) it lies beyond all that a cluster waits for.
const MAX_STEP: i64 = 55 * 60 * SECOND as i64;

/// Of a fault being one of those that all managers bear, where links or disks are slow.
const SLOW_KIND: f64 = 0.2;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The program dies and is started again.
    Kill,
    /// The machine loses its power and gets it back.
    PowerLoss,
    /// All managers lose their power at once.
    Blackout,
    /// Nothing gets through between two hosts, either way.
    Cut,
    /// Nothing gets through one way.
    OneWay,
    /// A host is cut off from all managers.
    Isolate,
    /// Links from and to a host are slow and lose segments.
    Weather,
    SlowDisk,
    FailingDisk,
    /// A clock runs wrong.
    Drift,
    /// The time of day is set, wrong or right again.
    SetClock,
    /// The program is stopped and goes on later.
    Freeze,
    /// All connections between two hosts break.
    Reset,
    /// A task ends by itself.
    TaskEnds,
    /// All managers are far apart for a while.
    LongLinks,
    /// All links between managers are narrow for a while.
    NarrowLinks,
    /// All managers' disks are slow for a while.
    SlowDisks,
}

impl Kind {
    /// Each as often as it is named here.
    pub const ALL: [Self; 17] = [
        Self::Kill,
        Self::Kill,
        Self::PowerLoss,
        Self::PowerLoss,
        Self::Blackout,
        Self::Cut,
        Self::Cut,
        Self::OneWay,
        Self::Isolate,
        Self::Weather,
        Self::SlowDisk,
        Self::FailingDisk,
        Self::Drift,
        Self::SetClock,
        Self::Freeze,
        Self::Reset,
        Self::TaskEnds,
    ];

    /// Beside those, where links or disks are slow.
    pub const SLOW: [Self; 3] = [Self::LongLinks, Self::NarrowLinks, Self::SlowDisks];
}

/// Draws faults.
#[derive(Debug)]
pub struct Lot {
    random: StdRng,
    /// How many of them there were so far.
    pub drawn: u64,
}

impl Lot {
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed ^ 0x00fa_0175), drawn: 0 }
    }

    /// A time between two.
    pub fn time(&mut self, from: u64, to: u64) -> u64 {
        self.random.random_range(from..=to)
    }

    fn member(&mut self, world: &World) -> HostId {
        self.random.random_range(0..world.shape.members())
    }

    fn manager(&mut self, world: &World) -> HostId {
        self.random.random_range(0..world.shape.managers)
    }

    /// Two hosts, one of them a manager, the other a manager or a worker.
    fn pair(&mut self, world: &World) -> (HostId, HostId) {
        let one = self.manager(world);
        loop {
            let other = self.member(world);
            if other != one {
                return if self.random.random_bool(0.5) { (one, other) } else { (other, one) };
            }
        }
    }

    fn draw(&mut self, world: &World) -> Kind {
        if world.conditions.is_any() && self.random.random_bool(SLOW_KIND) {
            return Kind::SLOW[self.random.random_range(0..Kind::SLOW.len())];
        }
        Kind::ALL[self.random.random_range(0..Kind::ALL.len())]
    }

    /// Does one thing to the cluster.
    pub fn strike(&mut self, world: &mut World) {
        self.drawn += 1;
        let kind = self.draw(world);
        let lasts = if self.random.random_bool(0.7) {
            self.time(50 * MS, 4 * SECOND)
        } else {
            self.time(4 * SECOND, 20 * SECOND)
        };
        match kind {
            Kind::Kill | Kind::PowerLoss | Kind::Blackout | Kind::Freeze | Kind::TaskEnds => {
                self.strike_program(world, kind, lasts);
            }
            Kind::Cut | Kind::OneWay | Kind::Isolate | Kind::Weather | Kind::Reset => {
                self.strike_network(world, kind, lasts);
            }
            Kind::LongLinks | Kind::NarrowLinks | Kind::SlowDisks => conditions::slow_down(world, self, kind, lasts),
            Kind::SlowDisk => {
                let (host, sync_ms) = (self.manager(world), self.time(20, 400));
                let health = Health { sync_ms, ..world.healthy };
                disk(world, host, health, lasts);
            }
            Kind::FailingDisk => {
                let host = self.manager(world);
                let health = Health { is_failing: true, ..world.healthy };
                disk(world, host, health, lasts.min(SECOND));
            }
            Kind::Drift => {
                let (host, ppm) = (self.member(world), self.random.random_range(-MAX_DRIFT_PPM..=MAX_DRIFT_PPM));
                drift(world, host, ppm);
            }
            Kind::SetClock => {
                let (host, is_right) = (self.member(world), self.random.random_bool(0.3));
                let ahead = if is_right { 0 } else { self.random.random_range(-MAX_STEP..=MAX_STEP) };
                set_clock(world, host, ahead);
            }
        }
    }

    fn strike_program(&mut self, world: &mut World, kind: Kind, lasts: u64) {
        match kind {
            Kind::Kill => {
                let host = self.member(world);
                world.kill(host);
                world.start_after(host, lasts);
            }
            Kind::PowerLoss => power_loss(world, self.member(world), lasts),
            Kind::Blackout => {
                for host in 0..world.shape.managers {
                    let lasts = lasts + self.time(0, SECOND);
                    power_loss(world, host, lasts);
                }
            }
            Kind::Freeze => freeze(world, self.member(world), lasts),
            _ => {
                let worker = world.shape.managers + self.random.random_range(0..world.shape.workers);
                let choice = self.random.random_range(0..1_000);
                world.machines.crash_one(worker, choice);
            }
        }
    }

    fn strike_network(&mut self, world: &mut World, kind: Kind, lasts: u64) {
        let (one, other) = self.pair(world);
        match kind {
            Kind::Cut => {
                cut(world, one, other, lasts);
                cut(world, other, one, lasts);
            }
            Kind::OneWay => cut(world, one, other, lasts),
            Kind::Isolate => {
                for manager in (0..world.shape.managers).filter(|manager| *manager != one) {
                    cut(world, manager, one, lasts);
                    cut(world, one, manager, lasts);
                }
            }
            Kind::Weather => self.weather(world, lasts),
            _ => {
                world.note(format_args!("connections between {one} and {other} break"));
                world.net.reset_between(one, other);
            }
        }
    }

    fn weather(&mut self, world: &mut World, lasts: u64) {
        let host = self.member(world);
        let weather = Weather {
            latency: self.time(0, 60 * MS),
            jitter: self.time(0, 60 * MS),
            loss_ppm: self.random.random_range(0..50_000),
            ..Weather::default()
        };
        world.note(format_args!("bad weather around host {host}: {weather:?}"));
        for manager in (0..world.shape.managers).filter(|manager| *manager != host) {
            set_weather(world, host, manager, weather, lasts);
            set_weather(world, manager, host, weather, lasts);
        }
    }
}

fn power_loss(world: &mut World, host: HostId, lasts: u64) {
    world.lose_power(host);
    world.start_after(host, lasts);
    if !world.is_manager(host) {
        // Before its agent, as the real one is.
        world.start_after(world.shape.watchdog(host), lasts);
    }
}

fn cut(world: &mut World, from: HostId, to: HostId, lasts: u64) {
    world.note(format_args!("nothing gets from {from} to {to} any more"));
    let weather = Weather { is_cut: true, ..world.net.weather(from, to) };
    set_weather(world, from, to, weather, lasts);
}

pub(crate) fn set_weather(world: &mut World, from: HostId, to: HostId, weather: Weather, lasts: u64) {
    world.net.set_weather(from, to, weather);
    world.plan(lasts, move |world| world.net.set_weather(from, to, world.usual(from, to)));
}

pub(crate) fn disk(world: &mut World, host: HostId, health: Health, lasts: u64) {
    world.note(format_args!("host {host} has a bad disk: {health:?}"));
    world.disks[host].set_health(health);
    world.plan(lasts, move |world| world.disks[host].set_health(world.healthy));
}

fn drift(world: &mut World, host: HostId, ppm: i64) {
    world.note(format_args!("the clock of host {host} runs wrong by {ppm} ppm"));
    on_machine(world, host).for_each(|host| world.kernel.drift(host, ppm));
}

/// Who goes by the same clock: an agent, and its watchdog.
fn on_machine(world: &World, host: HostId) -> impl Iterator<Item = HostId> + use<> {
    let watchdog = (!world.is_manager(host)).then(|| world.shape.watchdog(host));
    std::iter::once(host).chain(watchdog)
}

fn set_clock(world: &mut World, host: HostId, ahead: i64) {
    world.note(format_args!("the time of day of host {host} is set to be ahead by {} ms", ahead / MS as i64));
    on_machine(world, host).for_each(|host| world.kernel.set_clock(host, ahead));
}

fn freeze(world: &mut World, host: HostId, lasts: u64) {
    world.note(format_args!("host {host} freezes"));
    world.kernel.freeze(host, true);
    world.plan(lasts, move |world| {
        world.note(format_args!("host {host} goes on"));
        world.kernel.freeze(host, false);
    });
}

/// Ends all faults: what is down is started, what is cut is mended. Clocks stay wrong.
pub fn heal(world: &mut World) {
    world.note(format_args!("everything is mended"));
    for from in 0..world.shape.hosts() {
        for to in 0..world.shape.hosts() {
            world.net.set_weather(from, to, world.usual(from, to));
        }
        world.kernel.freeze(from, false);
    }
    for disk in &world.disks {
        disk.set_health(world.healthy);
    }
    (0..world.shape.hosts()).for_each(|host| world.start(host));
}
