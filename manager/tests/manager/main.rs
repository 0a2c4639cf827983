//! Tests on real manager processes, in one binary.

mod check;
mod cluster;
mod group;
mod recover;
mod refusals;
mod restore;
mod security;
mod sessions;
mod snapshot;
mod worker;
