//! Tests on real manager processes, in one binary.

mod check;
mod cluster;
mod config;
mod group;
mod leases;
mod logs;
mod output;
mod readdress;
mod recover;
mod refusals;
mod restore;
mod retries;
mod security;
mod sessions;
mod snapshot;
mod strangers;
mod worker;
