//! Many seeds side by side: progress while they run, and a report of what they exercised.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use goat_simulator::coverage::Coverage;
use goat_simulator::script::{Bug, Script};
use goat_simulator::world::{Ended, World};

use crate::{Options, jobs, report_failure, with_bug};

const YEAR_MS: f64 = 365.25 * 86_400_000.0;
const TELL_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    simulated_ms: u64,
    coverage: Coverage,
    failed: Vec<(u64, String)>,
}

/// Whether nothing was found.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let (next, is_over) = (AtomicU64::new(options.from), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    let wanted_ms = options.years.map(|years| (years * YEAR_MS) as u64);
    let is_enough = |sum: &Sum| match wanted_ms {
        Some(wanted_ms) => sum.simulated_ms >= wanted_ms,
        None => sum.seeds >= options.runs,
    };
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if wanted_ms.is_none() && seed >= options.from + options.runs {
                return;
            }
            let ended = World::new(Script::drawn(seed)).run();
            let mut sum = sum.lock().expect("no other thread panics with it");
            sum.add(seed, ended);
            if is_enough(&sum) || (!sum.failed.is_empty() && !options.keep_going) {
                is_over.store(true, Ordering::Relaxed);
            }
        }
    };
    let began = Instant::now();
    tell_while(jobs(options)?, work, || {
        eprintln!("{}", figures(&sum.lock().expect("no thread panics with it"), began))
    });
    let sum = sum.into_inner().expect("no thread panicked with it");
    println!("{}\n{}", figures(&sum, began), sum.coverage);
    conclude(&sum, options)
}

impl Sum {
    fn add(&mut self, seed: u64, ended: Ended) {
        self.seeds += 1;
        self.simulated_ms += ended.simulated_ms;
        self.coverage.merge(&ended.coverage);
        if let Some(failure) = ended.failure {
            println!("seed {seed} FAILED: {failure}");
            self.failed.push((seed, failure));
        }
    }
}

/// Works side by side, and tells how far it is while that lasts.
fn tell_while(threads: usize, work: impl Fn() + Sync, tell: impl Fn()) {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        let mut told = Instant::now();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tell();
            }
        }
    });
}

fn figures(sum: &Sum, began: Instant) -> String {
    let (seconds, simulated_s) = (began.elapsed().as_secs_f64(), sum.simulated_ms as f64 / 1e3);
    format!(
        "{} seeds in {seconds:.0} s: {:.4} years simulated, {:.0} times real time, {} failed",
        sum.seeds,
        sum.simulated_ms as f64 / YEAR_MS,
        simulated_s / seconds.max(1e-3),
        sum.failed.len()
    )
}

fn conclude(sum: &Sum, options: &Options) -> anyhow::Result<bool> {
    let missing = sum.coverage.missing();
    if options.demand_coverage && !missing.is_empty() {
        println!("never exercised: {}", missing.join(", "));
        return Ok(false);
    }
    let mut failed = sum.failed.clone();
    failed.sort();
    if let Some((seed, _)) = failed.first() {
        println!("{} seeds failed, the first is {seed}; again with: goat-simulator --seed {seed}", failed.len());
        report_failure(&Script::drawn(*seed), options)?;
    }
    Ok(sum.failed.is_empty())
}

/// Whether each of the bugs was found, within so many seeds.
pub(crate) fn find_bugs(bugs: &[Bug], from: u64, runs: u64) -> anyhow::Result<bool> {
    let mut are_all_found = true;
    for bug in bugs {
        let found = (from..from + runs).find_map(|seed| Some((seed, World::new(with_bug(seed, *bug)).run().failure?)));
        match found {
            Some((seed, failure)) => println!("{bug:?}: found after {} seeds: {failure}", seed - from + 1),
            None => {
                are_all_found = false;
                println!("{bug:?}: NOT FOUND by {runs} seeds");
            }
        }
    }
    Ok(are_all_found)
}
