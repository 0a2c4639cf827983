//! Names of what RocksDB tells about a column family (`rocksdb/db.h`, `DB::Properties`).

use std::ffi::CStr;

pub const TOTAL_SST_FILES_SIZE: &CStr = c"rocksdb.total-sst-files-size";
pub const ESTIMATE_LIVE_DATA_SIZE: &CStr = c"rocksdb.estimate-live-data-size";
pub const CUR_SIZE_ALL_MEM_TABLES: &CStr = c"rocksdb.cur-size-all-mem-tables";
pub const ESTIMATE_PENDING_COMPACTION_BYTES: &CStr = c"rocksdb.estimate-pending-compaction-bytes";
pub const BLOCK_CACHE_USAGE: &CStr = c"rocksdb.block-cache-usage";
pub const NUM_RUNNING_COMPACTIONS: &CStr = c"rocksdb.num-running-compactions";
pub const BACKGROUND_ERRORS: &CStr = c"rocksdb.background-errors";
pub const IS_WRITE_STOPPED: &CStr = c"rocksdb.is-write-stopped";
