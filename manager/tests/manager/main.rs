//! Tests on real manager processes, in one binary.

mod check;
mod cluster;
mod group;
mod readdress;
mod recover;
mod refusals;
mod retries;
mod security;
mod sessions;
mod snapshot;
mod worker;
