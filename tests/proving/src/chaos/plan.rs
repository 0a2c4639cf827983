//! The schedule of a storm, drawn from its seed: what is done to whom, when and for how long, several things at a time.
//! Pure. Whoever leads when something is done to the leader is not known here; all else is.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::fault::{Fault, LEADER, Sides, Way};

/// So many faults at a time, at the most.
pub const LANES: usize = 3;
/// Between two faults of a lane.
const PAUSE_MS: std::ops::Range<u64> = 200..3_000;
/// Of clocks' steps. Two machines may be as far apart as certificates are backdated.
const STEP_MS: std::ops::Range<i64> = -3_300_000..3_300_000;

/// One fault, from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// Since the storm began.
    pub at_ms: u64,
    pub hold_ms: u64,
    pub fault: Fault,
}

/// What the seed decides besides the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Containers outlive their daemon.
    pub is_live_restore: bool,
    /// Managers take snapshots often and purge their logs.
    pub has_snapshots: bool,
    /// How wrong the rate of each member's clock is.
    pub ppm: Vec<(String, i64)>,
}

/// Within the bound that fencing rests on (docs/fencing.md).
const MOST_PPM: i64 = 900;

/// The members that a storm is drawn for.
#[derive(Debug, Clone)]
pub struct Cast {
    pub managers: Vec<String>,
    pub workers: Vec<String>,
}

impl Cast {
    pub fn of(managers: u8, workers: u8) -> Self {
        let named = |letter: char, count: u8| (1..=count).map(|n| format!("{letter}{n}")).collect();
        Self { managers: named('m', managers), workers: named('w', workers) }
    }

    fn all(&self) -> Vec<String> {
        self.managers.iter().chain(&self.workers).cloned().collect()
    }
}

/// The shape of a seed's cluster.
pub fn shape(seed: u64, cast: &Cast, spares: u8) -> Shape {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(7_919));
    let spares = (1..=spares).map(|n| format!("m{}", cast.managers.len() + usize::from(n)));
    let members: Vec<String> = cast.all().into_iter().chain(spares).collect();
    // Half of them at the ends of what is allowed.
    let mut ppm = |_: &String| match rng.random_range(0..4) {
        0 => -MOST_PPM,
        1 => MOST_PPM,
        _ => rng.random_range(-MOST_PPM..=MOST_PPM),
    };
    let ppm = members.iter().map(|name| (name.clone(), ppm(name))).collect();
    Shape { is_live_restore: seed / 2 % 2 == 1, has_snapshots: seed % 2 == 1, ppm }
}

/// The schedule, in the order of beginnings.
pub fn draw(seed: u64, length_ms: u64, cast: &Cast) -> Vec<Strike> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut strikes: Vec<Strike> = Vec::new();
    let mut free_at: Vec<u64> = (0..LANES as u64).map(|lane| lane * 1_500).collect();
    loop {
        let lane = (0..LANES).min_by_key(|lane| free_at[*lane]).unwrap_or_default();
        let at_ms = free_at[lane] + rng.random_range(PAUSE_MS);
        if at_ms + 1_000 > length_ms {
            break;
        }
        let hold_ms = hold(&mut rng).min(length_ms - at_ms);
        let held: Vec<String> = strikes
            .iter()
            .filter(|strike| strike.at_ms + strike.hold_ms + 1_000 > at_ms)
            .flat_map(|strike| strike.fault.claims())
            .collect();
        let is_free = |fault: &Fault| fault.claims().iter().all(|claim| !held.contains(claim));
        // With as many things as there are, one that is free is soon drawn.
        let drawn = (0..50).map(|_| fault(&mut rng, cast)).find(is_free);
        free_at[lane] = at_ms + hold_ms;
        strikes.extend(drawn.map(|fault| Strike { at_ms, hold_ms, fault }));
    }
    strikes.sort_by_key(|strike| strike.at_ms);
    strikes
}

/// Shorter than anything notices, around a lease's length, and long enough for everything to be given away.
fn hold(rng: &mut StdRng) -> u64 {
    match rng.random_range(0..10) {
        0..2 => rng.random_range(200..1_500),
        2..6 => rng.random_range(1_500..6_000),
        _ => rng.random_range(6_000..16_000),
    }
}

fn fault(rng: &mut StdRng, cast: &Cast) -> Fault {
    let manager = |rng: &mut StdRng| match rng.random_bool(0.3) {
        true => LEADER.to_owned(),
        false => one(rng, &cast.managers),
    };
    let worker = |rng: &mut StdRng| one(rng, &cast.workers);
    match rng.random_range(0..100) {
        0..8 => Fault::KillManagers(vec![manager(rng)]),
        8..11 => Fault::KillManagers(some(rng, &cast.managers, 2..=cast.managers.len())),
        11..16 => Fault::FreezeManager(manager(rng)),
        16..19 => Fault::SyncsFail(manager(rng)),
        19..22 => Fault::FillManager(manager(rng)),
        22..25 => Fault::Transfer,
        25..28 => Fault::Demote(one(rng, &cast.managers)),
        28..31 => Fault::Replace(one(rng, &cast.managers)),
        31..34 => Fault::Resize,
        34..39 => Fault::KillAgent(worker(rng)),
        39..43 => Fault::FreezeAgent(worker(rng)),
        43..48 => Fault::KillMachine(worker(rng)),
        48..53 => Fault::KillDaemon(worker(rng)),
        53..56 => Fault::StopDaemon(worker(rng)),
        56..60 => Fault::FreezeDaemon(worker(rng)),
        60..62 => Fault::FillDaemon(worker(rng)),
        62..64 => Fault::FillAgent(worker(rng)),
        64..70 => cut(rng, cast, Way::Both),
        70..75 => cut(rng, cast, Way::Forth),
        75..79 => cut(rng, cast, Way::Back),
        79..83 => bridge(rng, cast),
        83..87 => delay(rng, cast),
        87..90 => Fault::StepClock(one(rng, &cast.all()), rng.random_range(STEP_MS)),
        90..93 => Fault::Drain(worker(rng)),
        93..96 => Fault::Scale(rng.random_range(1..6)),
        96..98 => Fault::Update,
        _ => Fault::Recreate,
    }
}

fn one(rng: &mut StdRng, names: &[String]) -> String {
    names.choose(rng).cloned().unwrap_or_default()
}

fn some(rng: &mut StdRng, names: &[String], count: std::ops::RangeInclusive<usize>) -> Vec<String> {
    let mut names = names.to_vec();
    names.shuffle(rng);
    names.truncate(rng.random_range(count));
    names.sort();
    names
}

/// One member from all others, a few from the rest, or single links.
fn sides(rng: &mut StdRng, cast: &Cast) -> Sides {
    let all = cast.all();
    let ones = match rng.random_range(0..3) {
        0 => vec![one(rng, &cast.workers)],
        1 => vec![one(rng, &cast.managers)],
        _ => some(rng, &all, 2..=3),
    };
    let rest: Vec<String> = all.into_iter().filter(|name| !ones.contains(name)).collect();
    let others = match rng.random_bool(0.7) {
        true => rest,
        false => some(rng, &rest, 1..=2),
    };
    Sides { ones, others }
}

fn cut(rng: &mut StdRng, cast: &Cast, way: Way) -> Fault {
    Fault::Cut(sides(rng, cast), way)
}

/// Two halves, and one or two members that reach both.
fn bridge(rng: &mut StdRng, cast: &Cast) -> Fault {
    let mut all = cast.all();
    all.shuffle(rng);
    all.truncate(all.len() - rng.random_range(1..=2));
    let mut others = all.split_off(all.len() / 2);
    all.sort();
    others.sort();
    Fault::Bridge(Sides { ones: all, others })
}

fn delay(rng: &mut StdRng, cast: &Cast) -> Fault {
    let ms = rng.random_range(20..400);
    Fault::Delay(sides(rng, cast), ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH_MS: u64 = 60_000;

    #[test]
    fn a_seed_is_a_schedule_and_another_seed_is_another() {
        let cast = Cast::of(3, 3);
        assert_eq!(draw(7, LENGTH_MS, &cast), draw(7, LENGTH_MS, &cast));
        assert_ne!(draw(7, LENGTH_MS, &cast), draw(8, LENGTH_MS, &cast));
        assert_eq!(shape(7, &cast, 1), shape(7, &cast, 1));
        assert_eq!(shape(7, &cast, 1).ppm.len(), 7);
    }

    #[test]
    fn faults_overlap_and_no_two_have_one_thing_at_a_time() {
        let cast = Cast::of(3, 3);
        let mut most = 0;
        for seed in 0..200 {
            let strikes = draw(seed, LENGTH_MS, &cast);
            assert!(strikes.len() > 10, "{seed}: {}", strikes.len());
            for (nth, strike) in strikes.iter().enumerate() {
                assert!(strike.at_ms + strike.hold_ms <= LENGTH_MS);
                let meets = |other: &&Strike| other.at_ms + other.hold_ms > strike.at_ms;
                let before: Vec<_> = strikes[..nth].iter().filter(meets).collect();
                most = most.max(before.len() + 1);
                for other in before {
                    let claims = other.fault.claims();
                    assert!(strike.fault.claims().iter().all(|claim| !claims.contains(claim)), "seed {seed}");
                }
            }
        }
        assert_eq!(most, LANES);
    }

    #[test]
    fn a_hundred_seeds_have_every_kind() {
        let cast = Cast::of(3, 3);
        let kinds: std::collections::BTreeSet<_> =
            (0..100).flat_map(|seed| draw(seed, LENGTH_MS, &cast)).map(|strike| strike.fault.kind()).collect();
        assert_eq!(kinds.len(), 25, "{kinds:?}");
    }
}
