//! The functions of RocksDB that this crate calls. build.rs reads this file, and the C compiler compares each signature
//! with the installed `<rocksdb/c.h>`: a RocksDB that lacks one, or has another signature, ends the build.

#![allow(non_camel_case_types, reason = "the names of <rocksdb/c.h>")]

use std::ffi::{c_char, c_int, c_uchar, c_uint, c_void};

/// Types of which only RocksDB knows what is in them.
macro_rules! opaque {
    ($($name:ident)*) => {
        $(
            #[repr(C)]
            #[derive(Debug)]
            pub(crate) struct $name {
                _private: [u8; 0],
            }
        )*
    };
}

opaque! {
    rocksdb_block_based_table_options_t
    rocksdb_cache_t
    rocksdb_column_family_handle_t
    rocksdb_iterator_t
    rocksdb_options_t
    rocksdb_pinnableslice_t
    rocksdb_readoptions_t
    rocksdb_snapshot_t
    rocksdb_t
    rocksdb_writebatch_t
    rocksdb_writeoptions_t
}

unsafe extern "C" {
    pub(crate) fn rocksdb_free(pointer: *mut c_void);

    // Options of a database and of a column family.
    pub(crate) fn rocksdb_options_create() -> *mut rocksdb_options_t;
    pub(crate) fn rocksdb_options_destroy(options: *mut rocksdb_options_t);
    pub(crate) fn rocksdb_options_set_create_if_missing(options: *mut rocksdb_options_t, value: c_uchar);
    pub(crate) fn rocksdb_options_set_create_missing_column_families(options: *mut rocksdb_options_t, value: c_uchar);
    pub(crate) fn rocksdb_options_set_wal_recovery_mode(options: *mut rocksdb_options_t, value: c_int);
    pub(crate) fn rocksdb_options_set_max_total_wal_size(options: *mut rocksdb_options_t, value: u64);
    pub(crate) fn rocksdb_options_set_max_background_jobs(options: *mut rocksdb_options_t, value: c_int);
    pub(crate) fn rocksdb_options_set_max_open_files(options: *mut rocksdb_options_t, value: c_int);
    pub(crate) fn rocksdb_options_set_bytes_per_sync(options: *mut rocksdb_options_t, value: u64);
    pub(crate) fn rocksdb_options_set_info_log_level(options: *mut rocksdb_options_t, value: c_int);
    pub(crate) fn rocksdb_options_set_keep_log_file_num(options: *mut rocksdb_options_t, value: usize);
    pub(crate) fn rocksdb_options_set_max_log_file_size(options: *mut rocksdb_options_t, value: usize);
    pub(crate) fn rocksdb_options_set_stats_dump_period_sec(options: *mut rocksdb_options_t, value: c_uint);
    pub(crate) fn rocksdb_options_set_stats_persist_period_sec(options: *mut rocksdb_options_t, value: c_uint);
    pub(crate) fn rocksdb_options_set_block_based_table_factory(
        options: *mut rocksdb_options_t,
        table: *mut rocksdb_block_based_table_options_t,
    );
    pub(crate) fn rocksdb_options_set_write_buffer_size(options: *mut rocksdb_options_t, value: usize);
    pub(crate) fn rocksdb_options_set_max_write_buffer_number(options: *mut rocksdb_options_t, value: c_int);
    pub(crate) fn rocksdb_options_set_target_file_size_base(options: *mut rocksdb_options_t, value: u64);
    pub(crate) fn rocksdb_options_set_compression(options: *mut rocksdb_options_t, value: c_int);
    pub(crate) fn rocksdb_options_enable_statistics(options: *mut rocksdb_options_t);
    pub(crate) fn rocksdb_options_statistics_get_string(options: *mut rocksdb_options_t) -> *mut c_char;

    // Tables, and the cache of their blocks.
    pub(crate) fn rocksdb_block_based_options_create() -> *mut rocksdb_block_based_table_options_t;
    pub(crate) fn rocksdb_block_based_options_destroy(options: *mut rocksdb_block_based_table_options_t);
    pub(crate) fn rocksdb_block_based_options_set_block_cache(
        options: *mut rocksdb_block_based_table_options_t,
        block_cache: *mut rocksdb_cache_t,
    );
    pub(crate) fn rocksdb_block_based_options_set_cache_index_and_filter_blocks(
        options: *mut rocksdb_block_based_table_options_t,
        value: c_uchar,
    );
    pub(crate) fn rocksdb_block_based_options_set_format_version(
        options: *mut rocksdb_block_based_table_options_t,
        value: c_int,
    );
    pub(crate) fn rocksdb_cache_create_lru(capacity: usize) -> *mut rocksdb_cache_t;
    pub(crate) fn rocksdb_cache_destroy(cache: *mut rocksdb_cache_t);

    // A database and its column families.
    pub(crate) fn rocksdb_open_column_families(
        options: *const rocksdb_options_t,
        path: *const c_char,
        family_count: c_int,
        family_names: *const *const c_char,
        family_options: *const *const rocksdb_options_t,
        families: *mut *mut rocksdb_column_family_handle_t,
        error: *mut *mut c_char,
    ) -> *mut rocksdb_t;
    pub(crate) fn rocksdb_open_for_read_only_column_families(
        options: *const rocksdb_options_t,
        path: *const c_char,
        family_count: c_int,
        family_names: *const *const c_char,
        family_options: *const *const rocksdb_options_t,
        families: *mut *mut rocksdb_column_family_handle_t,
        error_if_wal_file_exists: c_uchar,
        error: *mut *mut c_char,
    ) -> *mut rocksdb_t;
    pub(crate) fn rocksdb_column_family_handle_destroy(family: *mut rocksdb_column_family_handle_t);
    pub(crate) fn rocksdb_close(db: *mut rocksdb_t);
    pub(crate) fn rocksdb_property_int_cf(
        db: *mut rocksdb_t,
        family: *mut rocksdb_column_family_handle_t,
        name: *const c_char,
        value: *mut u64,
    ) -> c_int;

    // Reads.
    pub(crate) fn rocksdb_get_pinned_cf(
        db: *mut rocksdb_t,
        options: *const rocksdb_readoptions_t,
        family: *mut rocksdb_column_family_handle_t,
        key: *const c_char,
        key_len: usize,
        error: *mut *mut c_char,
    ) -> *mut rocksdb_pinnableslice_t;
    pub(crate) fn rocksdb_pinnableslice_destroy(slice: *mut rocksdb_pinnableslice_t);
    pub(crate) fn rocksdb_pinnableslice_value(
        slice: *const rocksdb_pinnableslice_t,
        value_len: *mut usize,
    ) -> *const c_char;

    // Options of reads.
    pub(crate) fn rocksdb_readoptions_create() -> *mut rocksdb_readoptions_t;
    pub(crate) fn rocksdb_readoptions_destroy(options: *mut rocksdb_readoptions_t);
    pub(crate) fn rocksdb_readoptions_set_snapshot(
        options: *mut rocksdb_readoptions_t,
        snapshot: *const rocksdb_snapshot_t,
    );
    pub(crate) fn rocksdb_readoptions_set_iterate_upper_bound(
        options: *mut rocksdb_readoptions_t,
        key: *const c_char,
        key_len: usize,
    );

    // Iterators.
    pub(crate) fn rocksdb_create_iterator_cf(
        db: *mut rocksdb_t,
        options: *const rocksdb_readoptions_t,
        family: *mut rocksdb_column_family_handle_t,
    ) -> *mut rocksdb_iterator_t;
    pub(crate) fn rocksdb_iter_destroy(iterator: *mut rocksdb_iterator_t);
    pub(crate) fn rocksdb_iter_valid(iterator: *const rocksdb_iterator_t) -> c_uchar;
    pub(crate) fn rocksdb_iter_seek(iterator: *mut rocksdb_iterator_t, key: *const c_char, key_len: usize);
    pub(crate) fn rocksdb_iter_seek_to_last(iterator: *mut rocksdb_iterator_t);
    pub(crate) fn rocksdb_iter_next(iterator: *mut rocksdb_iterator_t);
    pub(crate) fn rocksdb_iter_key(iterator: *const rocksdb_iterator_t, key_len: *mut usize) -> *const c_char;
    pub(crate) fn rocksdb_iter_value(iterator: *const rocksdb_iterator_t, value_len: *mut usize) -> *const c_char;
    pub(crate) fn rocksdb_iter_get_error(iterator: *const rocksdb_iterator_t, error: *mut *mut c_char);

    // Snapshots.
    pub(crate) fn rocksdb_create_snapshot(db: *mut rocksdb_t) -> *const rocksdb_snapshot_t;
    pub(crate) fn rocksdb_release_snapshot(db: *mut rocksdb_t, snapshot: *const rocksdb_snapshot_t);

    // Writes.
    pub(crate) fn rocksdb_writeoptions_create() -> *mut rocksdb_writeoptions_t;
    pub(crate) fn rocksdb_writeoptions_destroy(options: *mut rocksdb_writeoptions_t);
    pub(crate) fn rocksdb_writeoptions_set_sync(options: *mut rocksdb_writeoptions_t, value: c_uchar);
    pub(crate) fn rocksdb_writebatch_create() -> *mut rocksdb_writebatch_t;
    pub(crate) fn rocksdb_writebatch_destroy(batch: *mut rocksdb_writebatch_t);
    pub(crate) fn rocksdb_writebatch_put_cf(
        batch: *mut rocksdb_writebatch_t,
        family: *mut rocksdb_column_family_handle_t,
        key: *const c_char,
        key_len: usize,
        value: *const c_char,
        value_len: usize,
    );
    pub(crate) fn rocksdb_writebatch_delete_cf(
        batch: *mut rocksdb_writebatch_t,
        family: *mut rocksdb_column_family_handle_t,
        key: *const c_char,
        key_len: usize,
    );
    pub(crate) fn rocksdb_writebatch_delete_range_cf(
        batch: *mut rocksdb_writebatch_t,
        family: *mut rocksdb_column_family_handle_t,
        from: *const c_char,
        from_len: usize,
        until: *const c_char,
        until_len: usize,
    );
    pub(crate) fn rocksdb_write(
        db: *mut rocksdb_t,
        options: *const rocksdb_writeoptions_t,
        batch: *mut rocksdb_writebatch_t,
        error: *mut *mut c_char,
    );
}
