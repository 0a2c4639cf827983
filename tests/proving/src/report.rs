//! What a round has to say, and what is kept of one that failed.

use std::fmt::Write as _;
use std::path::Path;

use crate::judge::Findings;
use crate::judge::keys::Decided;
use crate::op::{Answer, Op};

/// One cluster's life.
#[derive(Debug, Default)]
pub struct Report {
    pub seed: u64,
    /// Attempts, and how they ended.
    pub attempts: usize,
    pub done: usize,
    pub reads: usize,
    pub refused: usize,
    pub unknown: usize,
    /// Attempts beyond the first of their request.
    pub repeated: usize,
    pub entries: u64,
    pub services: Decided,
    /// What was done to the cluster.
    pub told: Vec<String>,
    pub faults: usize,
    pub findings: Findings,
    /// The cluster did not do what it must to the end, which is among the findings.
    pub is_stuck: bool,
}

impl Report {
    pub fn of(seed: u64, ops: &[Op]) -> Self {
        let count = |is: fn(&Answer) -> bool| ops.iter().filter(|op| is(&op.answer)).count();
        let requests: Vec<_> = ops.iter().filter_map(|op| op.request.as_ref()).collect();
        let distinct: std::collections::HashSet<_> = requests.iter().collect();
        Self {
            seed,
            attempts: ops.len(),
            done: count(|answer| matches!(answer, Answer::Done { .. })),
            reads: count(|answer| matches!(answer, Answer::Service { .. } | Answer::Services { .. })),
            refused: count(|answer| matches!(answer, Answer::Refused { .. })),
            unknown: count(Answer::is_unknown),
            repeated: requests.len() - distinct.len(),
            ..Self::default()
        }
    }

    /// Whether an answer was wrong, and not only late.
    pub fn has_wrong_answers(&self) -> bool {
        self.findings.violations.len() > usize::from(self.is_stuck)
    }

    /// One line.
    pub fn line(&self) -> String {
        let Decided { services, undecided } = self.services;
        let mut line = format!(
            "seed {}: {} faults, {} attempts ({} acknowledged, {} reads, {} refused, {} unknown, {} repeated), log of {}, \
             {services} services linearizable",
            self.seed,
            self.faults,
            self.attempts,
            self.done,
            self.reads,
            self.refused,
            self.unknown,
            self.repeated,
            self.entries
        );
        if undecided > 0 {
            let _ = write!(line, ", {undecided} undecided");
        }
        let wrong = self.findings.violations.len() + self.findings.more;
        if wrong > 0 {
            let _ = write!(line, ", {wrong} VIOLATIONS");
        }
        line
    }

    /// Leaves what happened beside the cluster's own files.
    pub fn keep(&self, dir: &Path, ops: &[Op]) -> std::io::Result<()> {
        let lines = |texts: Vec<String>| texts.join("\n") + "\n";
        std::fs::write(dir.join("violations.txt"), lines(self.findings.violations.clone()))?;
        std::fs::write(dir.join("faults.txt"), lines(self.told.clone()))?;
        std::fs::write(dir.join("history.txt"), lines(ops.iter().map(Op::to_string).collect()))
    }
}
