//! The part of RocksDB that the store uses, over RocksDB's C interface, for any release that is installed: the few functions
//! that are called have had the same signatures from RocksDB 7 to 9. `docs/decisions/0011-rocksdb-binding.md` says why the
//! crate `rocksdb` is not used.
//!
//! Everything unsafe is in here. What is exported is safe: families are named by their number in the database they were
//! opened with, and batches, iterators and snapshots borrow their database.

#![allow(unsafe_code, reason = "RocksDB is called through its C interface")]

mod batch;
mod db;
mod error;
mod ffi;
mod options;
pub mod properties;
mod read;

pub use batch::Batch;
pub use db::Db;
pub use error::{Error, ErrorKind};
pub use options::{Cache, LogLevel, Options, RecoveryMode, TableOptions};
pub use read::{Pair, Pairs, Snapshot};
