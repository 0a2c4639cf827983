//! What runs have exercised: a run that exercises nothing shows here.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

/// What a few hundred seeds exercise many times over. One of these at zero means that the simulation, or what it simulates,
/// has lost something.
pub const EXPECTED: &[&str] = &[
    "agents restarted",
    "assignments sent in full",
    "clocks set",
    "commands",
    "commands refused",
    "elections",
    "freezes ended",
    "freezes stopped",
    "gaps noticed",
    "false reports",
    "grants",
    "grants refused for want of a quorum",
    "lease ends by the agent",
    "lease ends by the watchdog",
    "leaders that did not know they were deposed",
    "managers added",
    "managers removed",
    "managers restarted from their rows",
    "moves",
    "nodes disconnected",
    "nodes down",
    "nodes removed",
    "plan steps",
    "plans on an old view",
    "proposals that outlived their leader",
    "relayed sessions",
    "reports without news",
    "requests acknowledged",
    "requests answered from memory",
    "rotations of the authority ended",
    "sessions",
    "tasks adopted",
    "tasks created",
    "tasks drained",
    "tasks failed",
    "tasks fenced",
    "tasks lost",
    "tasks replaced by an update",
    "tasks sheltered by other workers",
    "tasks taken back",
];

impl Coverage {
    pub fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    pub fn add(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.counts.entry(what).or_default() += times;
        }
    }

    pub fn get(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    pub fn merge(&mut self, other: &Self) {
        for (what, times) in &other.counts {
            self.add(what, *times);
        }
    }

    /// What was expected and never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        EXPECTED.iter().copied().filter(|what| self.get(what) == 0).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.counts.keys().map(|what| what.len()).max().unwrap_or(0);
        for (what, times) in &self.counts {
            writeln!(f, "  {what:width$}  {times}")?;
        }
        Ok(())
    }
}
