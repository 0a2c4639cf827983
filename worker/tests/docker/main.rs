//! The Docker runtime against daemons and a registry of the tests' own, which they kill, freeze, fill and cut off.
//!
//! Needs root (mounts, daemons), `dockerd`, `docker-registry`, and a static `busybox` (`tests/deps` installs them). Where
//! one is missing, each test says so on standard error and is left out.

mod daemon;
mod disk;
mod hands;
mod outages;
mod processes;
mod proxy;
mod pulls;
mod registry;
mod versions;
mod watchdog;
mod worker;
