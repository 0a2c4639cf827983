//! The result of a drill: gathered over its repeats, printed as text or JSON.

use std::path::PathBuf;

use serde::Serialize;

use super::role::Role;
use super::stage::Measured;
use super::{DrillOptions, Kind, Output};
use crate::recorder;
use crate::timeline::Moment;
use crate::up::say;
use crate::witness::Life;

/// One repeat.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub nth: u32,
    /// With it as `--seed`, this repeat's random choices are made again.
    pub seed: u64,
    #[serde(serialize_with = "as_map")]
    pub measured: Measured,
    pub violations: Vec<String>,
    pub record: recorder::Report,
    /// The longest that testcluster itself, through which all links go, stood still: the machine was too busy.
    pub stood_still_ms: u64,
    /// As in the report of all repeats.
    #[serde(serialize_with = "as_map")]
    pub doubled: Measured,
    /// Instances that started or ended, by the witness; with what their service wants when it is cut off.
    pub lives: Vec<(&'static str, Life)>,
    pub timeline: Vec<Moment>,
}

fn as_map<S: serde::Serializer>(measured: &Measured, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(measured.iter().copied())
}

/// One measure over all repeats, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Measure {
    pub name: &'static str,
    /// In how many repeats it was measured.
    pub count: usize,
    pub p50_ms: f64,
    pub max_ms: f64,
    /// What the project has set itself.
    pub target_ms: Option<f64>,
}

impl Measure {
    /// Whether no repeat took longer than the project has set itself.
    pub fn is_met(&self) -> bool {
        self.target_ms.is_none_or(|target| self.max_ms <= target)
    }
}

/// All repeats.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub drill: String,
    pub repeat: u32,
    pub load_per_s: f64,
    pub passed: bool,
    pub measures: Vec<Measure>,
    pub acknowledged: u64,
    pub failed: u64,
    pub repeated_attempts: u64,
    /// What ended the drill early.
    pub error: Option<String>,
    /// The directory that was left for a look.
    pub left: Option<PathBuf>,
    /// The longest that two instances of one slot were alive, by what the service wants when it is cut off.
    #[serde(serialize_with = "as_map")]
    pub doubled: Measured,
    pub runs: Vec<Outcome>,
    #[serde(skip)]
    kind: Kind,
}

impl Report {
    pub(super) fn begin(options: &DrillOptions) -> Self {
        Self {
            drill: options.kind.name(),
            repeat: options.repeat,
            load_per_s: options.load_per_s,
            passed: false,
            measures: Vec::new(),
            acknowledged: 0,
            failed: 0,
            repeated_attempts: 0,
            error: None,
            left: None,
            doubled: Role::ALL.map(|role| (role.word(), 0.0)).to_vec(),
            runs: Vec::new(),
            kind: options.kind,
        }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.acknowledged += outcome.record.acknowledged;
        self.failed += outcome.record.failed;
        self.repeated_attempts += outcome.record.repeated_attempts;
        for (longest, (_, ms)) in self.doubled.iter_mut().map(|(_, longest)| longest).zip(&outcome.doubled) {
            *longest = longest.max(*ms);
        }
        self.runs.push(outcome);
    }

    pub(super) fn finish(&mut self, error: Option<String>, left: Option<PathBuf>) {
        self.passed = error.is_none() && self.is_passed();
        (self.error, self.left) = (error, left);
        let mut names: Vec<&'static str> = Vec::new();
        for (name, _) in self.runs.iter().flat_map(|run| &run.measured) {
            if !names.contains(name) {
                names.push(name);
            }
        }
        self.measures = names.into_iter().map(|name| self.measure(name)).collect();
    }

    /// Of a cut that ended first, some are missing in some repeats.
    fn measure(&self, name: &'static str) -> Measure {
        let measured = self.runs.iter().flat_map(|run| &run.measured).filter(|(of, _)| *of == name);
        let mut values: Vec<f64> = measured.map(|(_, ms)| *ms).collect();
        values.sort_by(f64::total_cmp);
        let at = |at: usize| values.get(at).copied().unwrap_or_default();
        let last = values.len().saturating_sub(1);
        let (p50_ms, max_ms) = (at(last / 2), at(last));
        Measure { name, count: values.len(), p50_ms, max_ms, target_ms: self.kind.target_ms(name) }
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.error.as_deref() == Some(super::INTERRUPTED)
    }

    /// What one line has room for: the first measure that has a figure to reach, else the first.
    pub fn key_measure(&self) -> Option<&Measure> {
        self.measures.iter().find(|measure| measure.target_ms.is_some()).or(self.measures.first())
    }

    /// The first measure over what the project has set itself for it.
    pub fn missed(&self) -> Option<&Measure> {
        self.measures.iter().find(|measure| !measure.is_met())
    }

    /// Whether all repeats that were asked for ran, and nothing was wrong in any.
    pub fn is_passed(&self) -> bool {
        self.error.is_none()
            && self.runs.len() == self.repeat as usize
            && self.runs.iter().all(|run| run.violations.is_empty())
    }

    pub(super) fn print(&self, output: Output) {
        if output == Output::Json {
            say(&serde_json::to_string_pretty(self).expect("it is plain data"));
            return;
        }
        say("");
        for measure in &self.measures {
            let Measure { name, count, p50_ms, max_ms, target_ms } = measure;
            let target = target_ms.map(|target| format!("   to reach: {target:.0} ms")).unwrap_or_default();
            let of = if *count < self.runs.len() { format!("   in {count} repeats") } else { String::new() };
            say(&format!("{name:<44} p50 {p50_ms:>7.0} ms   max {max_ms:>7.0} ms{target}{of}"));
        }
        let doubled: Vec<_> = self.doubled.iter().map(|(role, ms)| format!("{role} {ms:.0} ms")).collect();
        say(&format!("longest with two live instances of a slot: {}", doubled.join(", ")));
        say(&format!(
            "writes: {} acknowledged, {} failed, {} attempts repeated",
            self.acknowledged, self.failed, self.repeated_attempts
        ));
        let wrong: usize = self.runs.iter().map(|run| run.violations.len()).sum();
        if wrong > 0 {
            say(&format!("{wrong} things were wrong; each is told above after WRONG"));
        }
        if let Some(error) = &self.error {
            say(&format!("ended early: {error}"));
        }
        if let Some(dir) = &self.left {
            say(&format!("logs and data are left in {}", dir.display()));
        }
        let verdict = if self.passed { "PASS" } else { "FAIL" };
        say(&format!("{verdict} {} ({} of {} repeats)", self.drill, self.runs.len(), self.repeat));
    }
}
