//! Chaos on real processes: managers, agents and Docker daemons, one for each worker, under several faults at a time, by a
//! schedule from a seed; and what must hold of containers, of the managers' states and of every answer.
//!
//! ```text
//! plan: seed ─► strikes ─► Ground ── breaks and mends ──► Cluster (testcluster)
//!                            └─ causes: what was done to whom and when ──┐
//! Witness: Docker's events, inspect and /proc ─► lives ──────────────────┼─► judge ─► sentences of what is wrong
//! Workload: clients with request ids ─► history ─► order, keys, replay ──┤
//! rest: after healing: whole, calm, of one mind, nothing left over ──────┘
//! ```
//! What is judged and what is not is in docs/testing.md.

pub mod causes;
pub mod clocks;
mod control;
pub mod fault;
pub mod ground;
mod hands;
mod heal;
pub mod judge;
mod members;
pub mod mind;
pub mod plan;
pub mod report;
mod rest;
mod round;
pub mod services;
pub mod weather;

use std::path::PathBuf;
use std::time::Duration;

pub use report::Report;

/// One seed.
#[derive(Debug, Clone)]
pub struct Chaos {
    pub seed: u64,
    pub dir: PathBuf,
    /// Of the storm.
    pub storm: Duration,
    /// Something is broken on purpose that has to be found.
    pub control: Option<Control>,
}

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Control {
    /// A container with the labels of a running task is started by hand in another worker's daemon
    SecondContainer,
    /// An agent is killed together with its watchdog, and its machine lives on: nobody ends what is leased
    NoFence,
}

/// What is missing here to play it; None: nothing.
pub fn missing() -> Option<String> {
    let daemons = goat_testcluster::daemons::missing().map(str::to_owned);
    daemons.or_else(|| (!goat_testcluster::programs::is_there("strace")).then(|| "strace".to_owned()))
}
