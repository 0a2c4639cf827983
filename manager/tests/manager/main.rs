//! Tests on real manager processes, in one binary.

mod bounds;
mod check;
mod cluster;
mod config;
mod directory;
mod duties;
mod group;
mod leases;
mod logs;
mod opinions;
mod output;
mod readdress;
mod recover;
mod redirects;
mod references;
mod refusals;
mod restore;
mod retries;
mod security;
mod sessions;
mod sizes;
mod snapshot;
mod strangers;
mod worker;
