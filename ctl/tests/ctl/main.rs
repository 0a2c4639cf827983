//! goatctl as it is used: the binary itself against managers that a test makes up, on loopback.

mod changes;
mod control;
mod debug;
mod fake;
mod faults;
mod lists;
mod managers;
mod reads;
mod references;
mod restore;
mod run;
mod server;
mod snapshot;
mod usage;
mod verdicts;
mod waits;
