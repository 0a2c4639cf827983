//! The proving ground's part on real managers with real RocksDB: histories of clients under faults, power losses, and, with
//! workers and Docker, [`chaos`].
//!
//! ```text
//! Workload ── asks every manager ──► Book of attempts ──┐
//! Field / Power ── break the cluster, and heal it        ├─► judge ─► sentences of what is wrong
//! Collected ── the log of managers that do not run ──────┘    order, replay, keys (linear)
//! ```
//! What each can see and cannot is in docs/testing.md.

pub mod chaos;
pub mod collected;
pub mod faults;
pub mod judge;
pub mod linear;
pub mod op;
pub mod power;
pub mod report;
pub mod round;
pub mod workload;
