//! Tests on real manager processes, in one binary.

mod cluster;
mod group;
mod refusals;
mod security;
mod sessions;
mod worker;
