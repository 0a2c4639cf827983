//! The result of a drill: gathered over its repeats, printed as text or JSON.

use std::path::PathBuf;

use serde::Serialize;

use super::stage::Measured;
use super::{DrillOptions, Output};
use crate::recorder;
use crate::timeline::Moment;
use crate::up::say;

/// One repeat.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub nth: u32,
    #[serde(serialize_with = "as_map")]
    pub measured: Measured,
    pub violations: Vec<String>,
    pub record: recorder::Report,
    pub timeline: Vec<Moment>,
}

fn as_map<S: serde::Serializer>(measured: &Measured, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(measured.iter().copied())
}

/// One measure over all repeats, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Measure {
    pub name: &'static str,
    pub p50_ms: f64,
    pub max_ms: f64,
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
    pub runs: Vec<Outcome>,
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
            runs: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.acknowledged += outcome.record.acknowledged;
        self.failed += outcome.record.failed;
        self.repeated_attempts += outcome.record.repeated_attempts;
        self.runs.push(outcome);
    }

    pub(super) fn finish(&mut self, error: Option<String>, left: Option<PathBuf>) {
        self.passed = error.is_none() && self.is_passed();
        (self.error, self.left) = (error, left);
        let names: Vec<_> =
            self.runs.first().map(|run| run.measured.iter().map(|(name, _)| *name).collect()).unwrap_or_default();
        for name in names {
            let values =
                self.runs.iter().flat_map(|run| &run.measured).filter(|(of, _)| *of == name).map(|(_, ms)| *ms);
            let mut values: Vec<f64> = values.collect();
            values.sort_by(f64::total_cmp);
            let (p50_ms, max_ms) = (values[(values.len() - 1) / 2], values[values.len() - 1]);
            self.measures.push(Measure { name, p50_ms, max_ms });
        }
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
            say(&format!("{:<52} p50 {:>7.0} ms   max {:>7.0} ms", measure.name, measure.p50_ms, measure.max_ms));
        }
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
