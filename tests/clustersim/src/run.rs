//! One seed from beginning to end: a calm start, then storm, healing and calm in turn.

use std::panic;
use std::time::Instant;

use parking_lot::Mutex;

use crate::conditions::{self, Conditions, Slow};
use crate::faults::{self, Lot};
use crate::judge;
use crate::kernel::{MS, SECOND};
use crate::trace::Trace;
use crate::world::{Shape, World};

/// A cluster forms within this.
const FORMS_WITHIN: u64 = 30 * SECOND;
/// After healing everything is as it has to be within this.
const CONVERGES_WITHIN: u64 = 120 * SECOND;
const STACK_BYTES: usize = 16 << 20;
const LOOK_EVERY: u64 = 500 * MS;
/// For leadership to settle after healing, before calm counts.
const SETTLES: u64 = 5 * SECOND;
/// In calm, at any round trip and fsync that must not stop anything, some request is answered within this. Clients ask about
/// once a second.
const ANSWERS_WITHIN: u64 = 10 * SECOND;

/// What is wanted of a run.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    pub seed: u64,
    /// Simulated time.
    pub time: u64,
    pub shape: Shape,
    /// What is slow throughout.
    pub slow: Slow,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub seed: u64,
    pub violations: Vec<String>,
    pub simulated_s: f64,
    pub real_s: f64,
    pub digest: u64,
    pub events: u64,
    pub faults: u64,
    pub requests: u64,
    pub entries: u64,
    pub terms: u64,
    pub tasks: u64,
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Panics of simulated programs count against them: a panic in a task ends only that task, and nobody would know.
fn note_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.lock().push(info.to_string().replace('\n', " "));
        before(info);
    }));
}

/// Runs one seed, on a new thread: what a thread keeps of random numbers is from before otherwise.
///
/// # Errors
/// Where the machine has no room for it.
pub fn run(order: Order, trace: Trace) -> anyhow::Result<Verdict> {
    note_panics();
    let thread = std::thread::Builder::new().name("simulation".into()).stack_size(STACK_BYTES);
    let simulation = thread.spawn(move || simulate(order, trace))?;
    simulation.join().map_err(|_| anyhow::anyhow!("the simulation itself panicked, see above"))?
}

fn simulate(order: Order, trace: Trace) -> anyhow::Result<Verdict> {
    let began = Instant::now();
    let mut world = World::new(order.shape, order.seed, trace)?;
    let mut lot = Lot::new(order.seed);
    world.desk.pause(true);
    world.conditions = Conditions::draw(order.seed, order.slow);
    world.start_all();
    settle(&mut world, FORMS_WITHIN, "the cluster does not form");
    conditions::begin(&mut world);
    if world.conditions.is_any() {
        calm(&mut world, &mut lot);
    }
    while world.kernel.now() < order.time && world.witness.violations().is_empty() {
        storm(&mut world, &mut lot);
        heal(&mut world);
        calm(&mut world, &mut lot);
    }
    let (digest, events) = world.trace.digest();
    let mut verdict = Verdict {
        seed: order.seed,
        violations: world.witness.violations(),
        simulated_s: world.kernel.now() as f64 / SECOND as f64,
        real_s: 0.0,
        digest,
        events,
        faults: lot.drawn,
        requests: world.desk.answered(),
        entries: world.witness.highest_applied(),
        terms: world.witness.highest_term(),
        tasks: world.machines.started(),
    };
    drop(world);
    verdict.real_s = began.elapsed().as_secs_f64();
    Ok(verdict)
}

/// Panics since the last look.
fn take_panics(world: &World) {
    let panics = std::mem::take(&mut *PANICS.lock());
    for text in panics {
        world.witness.violation(format!("panic: {text}"));
    }
}

fn storm(world: &mut World, lot: &mut Lot) {
    world.note(format_args!("storm"));
    world.desk.pause(false);
    world.desk.storm(true);
    let end = world.kernel.now() + lot.time(20 * SECOND, 90 * SECOND);
    while world.kernel.now() < end && world.witness.violations().is_empty() {
        world.run_for(lot.time(100 * MS, 8 * SECOND));
        lot.strike(world);
        take_panics(world);
    }
    judge::check_states(world);
}

fn heal(world: &mut World) {
    faults::heal(world);
    world.desk.storm(false);
    world.desk.pause(true);
    settle(world, CONVERGES_WITHIN, "not as it has to be after healing");
}

/// Waits until everything is as it has to be.
fn settle(world: &mut World, within: u64, what: &str) {
    let deadline = world.kernel.now() + within;
    loop {
        world.run_for(LOOK_EVERY);
        take_panics(world);
        let Some(missing) = judge::missing(world) else { break };
        if world.kernel.now() >= deadline {
            world.witness.violation(format!("{what}: {missing}"));
            break;
        }
    }
    judge::check_states(world);
}

/// Work goes on and nothing is done to the cluster: no term may begin.
fn calm(world: &mut World, lot: &mut Lot) {
    world.run_for(SETTLES);
    world.note(format_args!("calm"));
    world.witness.set_calm(true);
    world.desk.pause(false);
    let end = world.kernel.now() + lot.time(10 * SECOND, 60 * SECOND);
    while world.conditions.is_any() && world.kernel.now() + ANSWERS_WITHIN <= end {
        let answered = world.desk.answered();
        world.run_for(ANSWERS_WITHIN);
        if world.desk.answered() == answered {
            let seconds = ANSWERS_WITHIN / SECOND;
            world.witness.violation(format!("no request was answered for {seconds} s in calm"));
            break;
        }
    }
    world.run_for(end.saturating_sub(world.kernel.now()));
    world.desk.pause(true);
    settle(world, CONVERGES_WITHIN, "not as it has to be in calm");
    world.witness.set_calm(false);
}
