//! Declarations of RocksDB's C interface, made from the header that is installed.
//!
//! No version of the crate `rocksdb` builds with each RocksDB that Debian has: a function that is missing, or has other
//! parameters, ends its build, whether anybody calls it or not. This crate takes the place of its `librocksdb-sys`
//! (`[patch.crates-io]` in the workspace's manifest) and declares those three functions itself if the installed release
//! does not fit. They panic; the store calls none of them. docs/decisions/0011-rocksdb-binding.md says what else was
//! considered.
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals, clippy::all, clippy::pedantic, clippy::nursery)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

/// # Safety
/// It does nothing but panic.
#[cfg(has_no_rocksdb_block_based_options_set_block_cache_compressed)]
pub unsafe fn rocksdb_block_based_options_set_block_cache_compressed(
    _: *mut rocksdb_block_based_table_options_t,
    _: *mut rocksdb_cache_t,
) {
    panic!("the installed RocksDB has no compressed block cache");
}

/// # Safety
/// It does nothing but panic.
#[cfg(has_no_rocksdb_options_set_access_hint_on_compaction_start)]
pub unsafe fn rocksdb_options_set_access_hint_on_compaction_start(_: *mut rocksdb_options_t, _: libc::c_int) {
    panic!("the installed RocksDB takes no access hints");
}

/// # Safety
/// It does nothing but panic.
#[cfg(has_no_rocksdb_options_set_plain_table_factory)]
pub unsafe fn rocksdb_options_set_plain_table_factory(
    _: *mut rocksdb_options_t,
    _: u32,
    _: libc::c_int,
    _: f64,
    _: usize,
) {
    panic!("the installed RocksDB's plain tables have other parameters");
}
