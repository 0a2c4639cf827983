//! A local GOAT cluster of real processes that can be started, broken and healed, and the drills that do so.
//!
//! ```text
//! Cluster ── starts, kills, freezes ──► goat-manager m1.. , goat-worker w1..   (`cluster`, `process`, `ledger`)
//!    ├── Links ── every connection to a member passes through one, and can be cut or delayed there   (`links`)
//!    ├── Front ── 127.0.0.1:7777 to the running replicas of echo   (`front`)
//!    └── control socket ◄── Remote ◄── `testcluster kill m1`, drills   (`control`)
//! Witness ── when instances ran, from the runtimes' own word   (`witness`)
//! Recorder ── writes without pause and remembers what was acknowledged   (`recorder`)
//! ```
//! It links none of the programs that it starts: it knows them by their command lines and by the wire.
#![cfg(feature = "cluster")]
#![forbid(unsafe_code)]

pub mod bench;
pub mod client;
pub mod cluster;
pub mod control;
pub mod daemons;
pub mod directory;
pub mod drill;
pub mod echo;
pub mod error;
pub mod front;
mod goatctl;
pub mod images;
pub mod launch;
pub mod layout;
pub mod ledger;
pub mod links;
pub mod metrics;
pub mod names;
pub mod options;
pub mod process;
pub mod programs;
pub mod pulse;
pub mod recorder;
pub mod registry;
pub mod remains;
pub mod runtime;
pub mod shape;
pub mod slow_disk;
pub mod subnet;
pub mod supervisor;
pub mod taskset;
pub mod timeline;
pub mod tracer;
pub mod up;
pub mod view;
pub mod volumes;
pub mod wire;
pub mod witness;
mod writer;

pub use client::Client;
pub use cluster::{Cluster, Options};
pub use control::Remote;
pub use error::Error;
pub use layout::Layout;
pub use recorder::Recorder;
pub use timeline::Timeline;
