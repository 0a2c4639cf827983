//! A run, written down: the shape of the world and what is done to it, one JSON object a line. The same script gives the
//! same run.

use std::fmt::Write as _;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::mischief::Deed;
use crate::random::Random;

/// What the world is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub seed: u64,
    /// At the beginning.
    pub managers: usize,
    pub workers: usize,
    /// Bound on the error of clocks' rates.
    pub rate_error_ppm: u64,
    /// By how much managers' times of day may differ.
    pub wall_error_ms: u64,
    pub weather: Weather,
    /// Between two deeds, on average.
    pub gap_ms: u64,
    /// When everything is mended.
    pub heal_at_ms: u64,
    pub history: usize,
    /// Something that is wrong in this world, so that the judge can be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bug: Option<Bug>,
}

/// What workers may expect of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weather {
    /// Anything at any time. What stops only in isolation may then run twice.
    Wild,
    /// As wild, and no worker answers another: what stops only in isolation is as good as what always stops.
    Mute,
    /// One worker at a time is in trouble, and messages are not late by seconds: then what stops only in isolation runs
    /// once.
    Gentle,
}

/// A wrong turn of what is played here around the core. See docs/testing.md for those in the programs themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bug {
    /// Heartbeats are granted without asking a quorum.
    NoQuorumCheck,
    /// A new leader takes silence for what it is.
    NewLeaderDoesNotWait,
    /// The end of a lease is taken for the end of the task.
    KillTakesNoTime,
    /// The worker counts its lease from when the grant came.
    LeaseFromReceipt,
    /// An agent that begins anew does not look at what runs.
    AdoptionForgets,
    /// An agent that begins anew takes what has ended for new.
    JournalForgets,
    /// Increments of assignments that are missing are not missed.
    GapNotNoticed,
    /// Nothing ends what is leased where the agent is dead.
    NoWatchdog,
    /// A manager's retry comes under another request id.
    FreshRequestIds,
}

impl Bug {
    pub const ALL: [Self; 9] = [
        Self::NoQuorumCheck,
        Self::NewLeaderDoesNotWait,
        Self::KillTakesNoTime,
        Self::LeaseFromReceipt,
        Self::AdoptionForgets,
        Self::JournalForgets,
        Self::GapNotNoticed,
        Self::NoWatchdog,
        Self::FreshRequestIds,
    ];
}

impl Shape {
    pub fn drawn(seed: u64) -> Self {
        let mut random = Random::new(seed, 1);
        let weather = match random.below(4) {
            0 => Weather::Gentle,
            1 => Weather::Mute,
            _ => Weather::Wild,
        };
        // Storms, squalls and calm.
        let gap_ms = [250, 700, 2_000, 6_000][random.below(4) as usize];
        Self {
            seed,
            managers: [1, 3, 3, 3, 5][random.below(5) as usize],
            workers: random.between(2, 7) as usize,
            rate_error_ppm: [1_000, 1_000, 20_000][random.below(3) as usize],
            // Now and then, a machine whose clock nobody has set.
            wall_error_ms: [20, 20, 3_000, 3_600_000][random.below(4) as usize],
            weather,
            gap_ms,
            heal_at_ms: (gap_ms * 150).clamp(60_000, 400_000),
            history: random.between(1, 5) as usize,
            bug: None,
        }
    }
}

/// A deed and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at_ms: u64,
    #[serde(rename = "do")]
    pub deed: Deed,
    /// A request's number, which its id comes from; kept when others are left out.
    pub number: u64,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub shape: Shape,
    /// In the order of time.
    pub events: Vec<Event>,
}

impl Script {
    pub fn drawn(seed: u64) -> Self {
        Self::of(Shape::drawn(seed))
    }

    pub fn of(shape: Shape) -> Self {
        let events = crate::mischief::draw(&shape);
        Self { shape, events }
    }

    pub fn to_text(&self) -> String {
        let line = |value: &dyn Fn() -> serde_json::Result<String>| value().expect("our own types have a form");
        let mut text = line(&|| serde_json::to_string(&self.shape)) + "\n";
        for event in &self.events {
            writeln!(text, "{}", line(&|| serde_json::to_string(event))).expect("a string takes everything");
        }
        text
    }

    /// Reads what [`Script::to_text`] wrote; empty lines and those that begin with `#` are left out.
    pub fn from_text(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        let Some((_, first)) = lines.next() else { bail!("the script is empty") };
        let shape = serde_json::from_str(first).context("line 1: the shape of the world is expected")?;
        let mut events: Vec<Event> = Vec::new();
        for (at, line) in lines {
            let event: Event = serde_json::from_str(line).with_context(|| format!("line {}", at + 1))?;
            if events.last().is_some_and(|last| last.at_ms > event.at_ms) {
                bail!("line {}: it is earlier than the line before", at + 1);
            }
            events.push(event);
        }
        Ok(Self { shape, events })
    }
}
