//! GOAT's managers and workers on a simulated network, disk and clock: the programs' own code, openraft and tonic included,
//! the same for the same seed. What this can and cannot see is in `docs/testing.md`.
//!
//! ```text
//! run      one seed: storms, healing, calm, and the verdict
//! faults   what is done to the cluster, by lot
//! judge    what has to be there after healing
//! witness  what must never be, looked at with every write
//! world    the hosts: managers, workers, watchdogs, clients
//! client, manager, worker, machine    what runs on them
//! disk, net    under them
//! kernel, interpose    time, and who runs next
//! trace    what happened
//! ```
//! One simulation per thread, and one thread per simulation.

pub mod client;
pub mod conditions;
pub mod disk;
pub mod faults;
mod interpose;
pub mod judge;
pub mod kernel;
pub mod machine;
mod manager;
pub mod net;
pub mod run;
pub mod shape;
pub mod trace;
pub mod witness;
pub mod worker;
pub mod world;
