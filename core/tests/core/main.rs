//! Tests of the domain as a whole: what commands, planner and leases do together. One binary, because each costs a link.

mod archive;
mod backoff;
mod capacity;
mod causes;
mod checker;
mod cures;
mod drains;
mod extremes;
mod fencing;
mod formats;
mod managers;
mod pending;
mod pieces;
mod properties;
mod refusals;
mod reports;
mod restored;
mod retries;
mod returns;
mod security;
mod stale;
mod stories;
mod support;
mod timing;
mod undo;
mod updates;
