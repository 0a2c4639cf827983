//! The manager: the Raft group, the leader's loops, the control API.
//!
//! ```text
//! config    options from file, environment, flags
//! found     `init`: makes a cluster of one manager
//! newcomer  `join`: what a manager does before it is a member
//! identity  the other side of that: certificates and join tokens
//! raft      the group: transport, membership, proposals, reads
//! security  certificates: who signs them, who may call what
//! machine   the applied state and its change sets
//! directory what Raft's own path needs of the state, without its lock
//! locks     the rule for read-write locks, and a check of it
//! leader    what runs only while this manager leads
//! dispatcher  workers' sessions, leases, assignments
//! control   what goatctl calls
//! offline   what is done to a data directory while no manager runs on it
//! backup    the state as a file
//! debug     what a bug report needs of this manager
//! man       the man pages, beside what clap knows
//! notify    what systemd hears
//! presence  whether someone is there: second opinions
//! events    what has happened, for people
//! metrics   what is counted, and how it is called
//! duty      work that must never end, and what is told of it
//! inject    faults for tests
//! http      health and metrics pages
//! traced    which traced request led to which tasks
//! ```
#![forbid(unsafe_code)]

pub mod backup;
pub mod clock;
pub mod config;
pub mod connections;
pub mod control;
pub mod debug;
pub mod directory;
pub mod dispatcher;
pub mod duty;
pub mod events;
pub mod found;
pub mod http;
pub mod identity;
mod inject;
pub mod leader;
pub mod locks;
pub mod machine;
pub mod man;
pub mod metrics;
pub mod newcomer;
pub mod notify;
pub mod offline;
pub mod presence;
pub mod quota;
pub mod raft;
pub mod security;
pub mod server;
pub mod streams;
pub mod taskset;
pub mod traced;
