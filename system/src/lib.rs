//! What our programs owe the machine that they are installed on, and nothing of what they do:
//!
//! ```text
//! problem      the last word of a program that cannot go on
//! notify       systemd hears that a program is ready, how it is, and that it lives
//! stall        ends a process of which a part stands still
//! man          man pages, from the same definitions as the help texts
//! config_file  reads a config file; and what a documented one says, for the tests of that
//! ```
#![forbid(unsafe_code)]

pub mod config_file;
pub mod man;
pub mod notify;
pub mod problem;
pub mod stall;
