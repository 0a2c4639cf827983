//! goatctl as it is used: the binary itself against managers that a test makes up, on loopback.

mod changes;
mod control;
mod fake;
mod faults;
mod lists;
mod managers;
mod reads;
mod run;
mod server;
mod snapshot;
mod usage;
mod waits;
