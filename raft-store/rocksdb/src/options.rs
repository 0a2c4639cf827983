//! How databases and column families are opened.

use std::ffi::c_int;
use std::ptr::NonNull;

use crate::error::owned;
use crate::ffi;

/// A pointer that one of RocksDB's `create` functions returned: C++'s `new`, which does not return null.
pub(crate) fn created<T>(pointer: *mut T) -> NonNull<T> {
    NonNull::new(pointer).expect("RocksDB's constructors end the process rather than return null")
}

/// Which damage at the end of the write-ahead log an open passes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryMode {
    /// An incomplete record at the end.
    TolerateCorruptedTail = 0,
    /// Everything from the first record that is damaged.
    PointInTime = 2,
}

/// The least severe messages that RocksDB writes into its own log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Warn = 2,
}

/// Options of a database, of a column family, or of both.
#[derive(Debug)]
pub struct Options {
    pub(crate) raw: NonNull<ffi::rocksdb_options_t>,
}

/// Setters: `name(type as Rust's callers give it, its translation) => function`.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($kind:ty, $translate:expr) => $function:ident;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(&mut self, value: $kind) {
                let translate: fn($kind) -> _ = $translate;
                // SAFETY: `raw` is alive as long as `self`, and nobody else has it.
                unsafe { ffi::$function(self.raw.as_ptr(), translate(value)) }
            }
        )*
    };
}

impl Default for Options {
    fn default() -> Self {
        // SAFETY: the function has no preconditions.
        Self { raw: created(unsafe { ffi::rocksdb_options_create() }) }
    }
}

impl Options {
    setters! {
        set_create_if_missing(bool, u8::from) => rocksdb_options_set_create_if_missing;
        set_create_missing_families(bool, u8::from) => rocksdb_options_set_create_missing_column_families;
        set_wal_recovery_mode(RecoveryMode, |mode| mode as c_int) => rocksdb_options_set_wal_recovery_mode;
        set_max_total_wal_bytes(u64, |bytes| bytes) => rocksdb_options_set_max_total_wal_size;
        set_max_background_jobs(c_int, |count| count) => rocksdb_options_set_max_background_jobs;
        set_max_open_files(c_int, |count| count) => rocksdb_options_set_max_open_files;
        set_bytes_per_sync(u64, |bytes| bytes) => rocksdb_options_set_bytes_per_sync;
        set_log_level(LogLevel, |level| level as c_int) => rocksdb_options_set_info_log_level;
        set_kept_log_files(usize, |count| count) => rocksdb_options_set_keep_log_file_num;
        set_max_log_file_bytes(usize, |bytes| bytes) => rocksdb_options_set_max_log_file_size;
        /// 0: never.
        set_stats_dump_period_s(u32, |seconds| seconds) => rocksdb_options_set_stats_dump_period_sec;
        /// 0: never.
        set_stats_persist_period_s(u32, |seconds| seconds) => rocksdb_options_set_stats_persist_period_sec;
        set_write_buffer_bytes(usize, |bytes| bytes) => rocksdb_options_set_write_buffer_size;
        set_max_write_buffers(c_int, |count| count) => rocksdb_options_set_max_write_buffer_number;
        set_target_file_bytes(u64, |bytes| bytes) => rocksdb_options_set_target_file_size_base;
    }

    /// Tables are not compressed.
    pub fn disable_compression(&mut self) {
        const NO_COMPRESSION: c_int = 0;
        // SAFETY: `raw` is alive as long as `self`, and nobody else has it.
        unsafe { ffi::rocksdb_options_set_compression(self.raw.as_ptr(), NO_COMPRESSION) }
    }

    /// How tables are made; copied.
    pub fn set_tables(&mut self, tables: &TableOptions) {
        // SAFETY: both are alive for the call, which copies the second.
        unsafe { ffi::rocksdb_options_set_block_based_table_factory(self.raw.as_ptr(), tables.raw.as_ptr()) }
    }

    /// Databases that are opened with these options count what they do.
    pub fn enable_statistics(&mut self) {
        // SAFETY: `raw` is alive as long as `self`, and nobody else has it.
        unsafe { ffi::rocksdb_options_enable_statistics(self.raw.as_ptr()) }
    }

    /// The counts so far, one a line; `None` unless they are enabled.
    pub fn statistics(&self) -> Option<String> {
        // SAFETY: `raw` is alive as long as `self`; the text is the caller's.
        let text = unsafe { ffi::rocksdb_options_statistics_get_string(self.raw.as_ptr()) };
        (!text.is_null()).then(|| owned(text))
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by `rocksdb_options_create`, and not used again. Databases have copies.
        unsafe { ffi::rocksdb_options_destroy(self.raw.as_ptr()) }
    }
}

/// A cache of blocks of tables, which column families may share.
#[derive(Debug)]
pub struct Cache {
    raw: NonNull<ffi::rocksdb_cache_t>,
}

impl Cache {
    /// Forgets first what was not used for longest.
    pub fn lru(capacity_bytes: usize) -> Self {
        // SAFETY: the function has no preconditions.
        Self { raw: created(unsafe { ffi::rocksdb_cache_create_lru(capacity_bytes) }) }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // SAFETY: made by `rocksdb_cache_create_lru`. RocksDB counts references: options that hold the cache keep it.
        unsafe { ffi::rocksdb_cache_destroy(self.raw.as_ptr()) }
    }
}

/// How the tables of a column family are made.
#[derive(Debug)]
pub struct TableOptions {
    raw: NonNull<ffi::rocksdb_block_based_table_options_t>,
}

impl Default for TableOptions {
    fn default() -> Self {
        // SAFETY: the function has no preconditions.
        Self { raw: created(unsafe { ffi::rocksdb_block_based_options_create() }) }
    }
}

impl TableOptions {
    setters! {
        /// Indexes and filters count towards the cache, and are evicted from it.
        set_cache_index_and_filter_blocks(bool, u8::from) => rocksdb_block_based_options_set_cache_index_and_filter_blocks;
        set_format_version(c_int, |version| version) => rocksdb_block_based_options_set_format_version;
    }

    pub fn set_block_cache(&mut self, cache: &Cache) {
        // SAFETY: both are alive for the call, which takes a reference of its own to the cache.
        unsafe { ffi::rocksdb_block_based_options_set_block_cache(self.raw.as_ptr(), cache.raw.as_ptr()) }
    }
}

impl Drop for TableOptions {
    fn drop(&mut self) {
        // SAFETY: made by `rocksdb_block_based_options_create`, and not used again.
        unsafe { ffi::rocksdb_block_based_options_destroy(self.raw.as_ptr()) }
    }
}
