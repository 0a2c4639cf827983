//! What a round has to say, and what is kept of one that failed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use goat_testcluster::witness::Life;

use crate::op::Op;

/// One round.
#[derive(Debug, Default)]
pub struct Report {
    pub seed: u64,
    /// How often each kind of fault was played to its end.
    pub played: BTreeMap<&'static str, usize>,
    pub missed: usize,
    /// Containers that began.
    pub starts: usize,
    pub attempts: usize,
    /// Writes that were acknowledged.
    pub done: usize,
    /// From the end of the storm until everything was as it should be.
    pub healed_ms: u64,
    /// Commands in the log that were replayed; None where it was not.
    pub replayed: Option<u64>,
    pub stood_still_ms: u64,
    pub excused: Vec<String>,
    pub violations: Vec<String>,
    /// What was done and seen, by time.
    pub told: Vec<String>,
    pub lives: Vec<Life>,
    pub ops: Vec<Op>,
    /// Where what is left of it is.
    pub kept: Option<PathBuf>,
}

impl Report {
    pub fn faults(&self) -> usize {
        self.played.values().sum()
    }

    /// One line.
    pub fn line(&self) -> String {
        let Self { seed, missed, starts, attempts, done, healed_ms, stood_still_ms, .. } = self;
        let mut line = format!(
            "seed {seed}: {} faults ({missed} more not played to their end), {starts} starts of containers, {attempts} attempts, \
             {done} writes acknowledged, whole after {:.1} s",
            self.faults(),
            *healed_ms as f64 / 1e3
        );
        if let Some(entries) = self.replayed {
            let _ = write!(line, ", log of {entries} replayed");
        }
        if *stood_still_ms >= 250 {
            let _ = write!(line, ", machine stood still for {stood_still_ms} ms");
        }
        if !self.excused.is_empty() {
            let _ = write!(line, ", {} excused", self.excused.len());
        }
        if !self.violations.is_empty() {
            let _ = write!(line, ", {} VIOLATIONS", self.violations.len());
        }
        line
    }

    /// Leaves what happened beside the cluster's own files.
    pub fn keep(&self, dir: &Path) -> std::io::Result<()> {
        let lines = |texts: &[String]| texts.join("\n") + "\n";
        std::fs::write(dir.join("violations.txt"), lines(&self.violations))?;
        std::fs::write(dir.join("excused.txt"), lines(&self.excused))?;
        std::fs::write(dir.join("faults.txt"), lines(&self.told))?;
        let lives: Vec<_> = self.lives.iter().map(|life| format!("{} {life:?}", life.from_ms)).collect();
        std::fs::write(dir.join("lives.txt"), lines(&lives))?;
        std::fs::write(dir.join("history.txt"), lines(&self.ops.iter().map(Op::to_string).collect::<Vec<_>>()))
    }
}

/// Of all rounds.
#[derive(Debug, Default)]
pub struct Total {
    rounds: usize,
    played: BTreeMap<&'static str, usize>,
    starts: usize,
    done: usize,
    excused: usize,
    failed: Vec<u64>,
    /// Something has to be found in every round.
    is_control: bool,
}

impl Total {
    /// `is_control`: something has to be found in every round.
    pub fn of(is_control: bool) -> Self {
        Self { is_control, ..Self::default() }
    }

    /// The next one has that number added to the first seed.
    pub const fn rounds(&self) -> usize {
        self.rounds
    }

    /// Prints it too.
    pub fn add(&mut self, report: &Report) {
        println!("{}", report.line());
        for text in &report.excused {
            println!("  excused: {text}");
        }
        if !report.violations.is_empty() {
            if !self.is_control {
                report.told.iter().for_each(|told| println!("  {told}"));
            }
            report.violations.iter().for_each(|violation| println!("WRONG {violation}"));
            self.failed.push(report.seed);
        }
        if let Some(kept) = &report.kept {
            println!("kept in {}", kept.display());
        }
        self.rounds += 1;
        for (kind, count) in &report.played {
            *self.played.entry(kind).or_default() += count;
        }
        self.starts += report.starts;
        self.done += report.done;
        self.excused += report.excused.len();
    }

    /// Whether it was as it should be.
    pub fn tell(&self) -> bool {
        let Self { rounds, played, starts, done, excused, failed, is_control } = self;
        let faults: usize = played.values().sum();
        for (kind, count) in played {
            println!("  {count:>6} × {kind}");
        }
        println!(
            "{rounds} rounds, {faults} faults, {starts} starts of containers, {done} acknowledged writes, {excused} excused, \
             {} rounds with violations",
            failed.len()
        );
        if *is_control {
            println!("control: something was found in {} of {rounds} rounds; it must be in every one", failed.len());
            return failed.len() == *rounds;
        }
        if !failed.is_empty() {
            println!("failed: seeds {failed:?}; one again with --seed");
        }
        failed.is_empty()
    }
}
