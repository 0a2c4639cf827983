//! The store through its public API: openraft's own suite, crashes, losses of power, damage. One program, since each would
//! compile openraft's generics anew.

mod common;

mod cluster;
mod crash;
mod directory;
mod log;
mod lost;
mod manifest;
mod recovery;
mod restore;
mod snapshots;
mod suite;
mod unsynced;
mod witness;
