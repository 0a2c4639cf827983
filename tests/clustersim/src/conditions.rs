//! Conditions that hold throughout a run: how far managers are apart, how narrow their links and how slow their disks are.
//! None of them may stop anything. Faults come on top, and healing leads back to them.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::Health;
use crate::faults::{self, Kind, Lot};
use crate::kernel::{HostId, MS};
use crate::net::Weather;
use crate::world::World;

/// Round trips between managers (ms): the largest that the default settings must work at, and some below.
const ROUND_TRIPS_MS: [u64; 5] = [20, 60, 100, 200, 300];
/// Of every fsync (ms), as above.
const SYNCS_MS: [u64; 5] = [2, 20, 50, 100, 200];
/// Of the delay one way.
const JITTER_PERCENT: u64 = 20;
const LOSS_PPM: u32 = 10_000;
/// 1 Mbit/s.
const NARROW_BYTES_PER_S: u64 = 125_000;

/// What `--links` and `--disks` ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slow {
    pub links: bool,
    pub disks: bool,
}

/// Conditions of one run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conditions {
    /// Between managers; `None`: as between all others.
    pub links: Option<Weather>,
    /// Of every manager's disk; `None`: as by default.
    pub disks: Option<Health>,
}

impl Conditions {
    /// Draws conditions by the seed.
    pub fn draw(seed: u64, slow: Slow) -> Self {
        let random = &mut StdRng::seed_from_u64(seed ^ 0x510a_0000);
        let round_trip_ms = ROUND_TRIPS_MS[random.random_range(0..ROUND_TRIPS_MS.len())];
        let (is_jittery, is_lossy, is_narrow) =
            (random.random_bool(0.5), random.random_bool(0.25), random.random_bool(0.25));
        let sync_ms = SYNCS_MS[random.random_range(0..SYNCS_MS.len())];
        let latency = round_trip_ms * MS / 2;
        let links = Weather {
            latency,
            jitter: if is_jittery { latency * JITTER_PERCENT / 100 } else { 0 },
            loss_ppm: if is_lossy { LOSS_PPM } else { 0 },
            bytes_per_s: if is_narrow { NARROW_BYTES_PER_S } else { 0 },
            is_cut: false,
        };
        Self {
            links: slow.links.then_some(links),
            disks: slow.disks.then_some(Health { sync_ms, is_steady: true, ..Health::default() }),
        }
    }

    pub const fn is_any(&self) -> bool {
        self.links.is_some() || self.disks.is_some()
    }
}

/// They hold from now on.
pub fn begin(world: &mut World) {
    let conditions = world.conditions;
    if !conditions.is_any() {
        return;
    }
    world.note(format_args!("from now on: {conditions:?}"));
    if let Some(health) = conditions.disks {
        world.healthy = Health { is_lying: world.healthy.is_lying, ..health };
    }
    let managers = world.shape.managers;
    for (from, to) in (0..managers).flat_map(|from| (0..managers).map(move |to| (from, to))) {
        world.net.set_weather(from, to, world.usual(from, to));
    }
    for disk in &world.disks {
        disk.set_health(world.healthy);
    }
}

impl World {
    /// How the link is without a fault.
    pub fn usual(&self, from: HostId, to: HostId) -> Weather {
        let are_managers = self.is_manager(from) && self.is_manager(to);
        self.conditions.links.filter(|_| are_managers).unwrap_or_default()
    }
}

/// A fault that all managers bear at once.
pub(crate) fn slow_down(world: &mut World, lot: &mut Lot, kind: Kind, lasts: u64) {
    let managers = 0..world.shape.managers;
    if kind == Kind::SlowDisks {
        let health = Health { sync_ms: lot.time(20, 200), is_steady: true, ..world.healthy };
        return managers.for_each(|host| faults::disk(world, host, health, lasts));
    }
    let latency = lot.time(20 * MS, 150 * MS);
    world.note(format_args!("{kind:?} between all managers: {} ms one way, if they are long", latency / MS));
    for (from, to) in managers.clone().flat_map(|from| managers.clone().map(move |to| (from, to))) {
        let usual = world.usual(from, to);
        let weather = match kind {
            Kind::LongLinks => Weather { latency, ..usual },
            _ => Weather { bytes_per_s: NARROW_BYTES_PER_S, ..usual },
        };
        faults::set_weather(world, from, to, weather, lasts);
    }
}
