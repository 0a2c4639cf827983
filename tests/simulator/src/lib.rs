//! A simulated cluster around the real core: its state, planner, scheduler, leases and membership run as they are; what
//! carries them (managers' log, sessions, workers, users, clocks, networks) is played here, as the real programs do it.
//!
//! ```text
//! shape ─► script (mischief, each with its time) ─► world: one queue of events ─► judge after every step
//!             ▲                                                                └─► coverage: what was exercised
//!             └── shrink: leaves out what a failure does not need
//! ```
//! A run is its script, and a script is drawn from a seed. Nothing here reads a clock of the machine, except for progress
//! in the binary.

pub mod coverage;
pub mod judge;
mod leading;
pub mod mischief;
pub mod random;
pub mod script;
pub mod shrink;
mod wire;
mod worker;
pub mod world;
