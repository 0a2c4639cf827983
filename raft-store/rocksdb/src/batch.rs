//! Writes.

use std::ptr::NonNull;

use crate::db::Db;
use crate::error::{Error, checked};
use crate::ffi;
use crate::options::created;

/// Changes of one database, of which all take effect or none, in this order.
#[derive(Debug)]
pub struct Batch<'db> {
    db: &'db Db,
    raw: NonNull<ffi::rocksdb_writebatch_t>,
}

impl Db {
    /// A batch without changes.
    pub fn batch(&self) -> Batch<'_> {
        // SAFETY: the function has no preconditions.
        Batch { db: self, raw: created(unsafe { ffi::rocksdb_writebatch_create() }) }
    }
}

impl Batch<'_> {
    pub fn put(&mut self, family: usize, key: &[u8], value: &[u8]) {
        let (raw, family) = (self.raw.as_ptr(), self.db.family(family));
        // SAFETY: all are alive for the call, which copies key and value.
        unsafe {
            ffi::rocksdb_writebatch_put_cf(
                raw,
                family,
                key.as_ptr().cast(),
                key.len(),
                value.as_ptr().cast(),
                value.len(),
            );
        }
    }

    pub fn delete(&mut self, family: usize, key: &[u8]) {
        let (raw, family) = (self.raw.as_ptr(), self.db.family(family));
        // SAFETY: all are alive for the call, which copies the key.
        unsafe { ffi::rocksdb_writebatch_delete_cf(raw, family, key.as_ptr().cast(), key.len()) }
    }

    /// Deletes from the first key to before the second.
    pub fn delete_range(&mut self, family: usize, from: &[u8], until: &[u8]) {
        let (raw, family) = (self.raw.as_ptr(), self.db.family(family));
        // SAFETY: all are alive for the call, which copies the keys.
        unsafe {
            ffi::rocksdb_writebatch_delete_range_cf(
                raw,
                family,
                from.as_ptr().cast(),
                from.len(),
                until.as_ptr().cast(),
                until.len(),
            );
        }
    }

    /// Makes the changes. `is_synced`: they, and all before them, are on disk on return.
    pub fn write(self, is_synced: bool) -> Result<(), Error> {
        // SAFETY: the options are made, set, used and destroyed here; database and batch are alive for the call.
        unsafe {
            let options = created(ffi::rocksdb_writeoptions_create());
            ffi::rocksdb_writeoptions_set_sync(options.as_ptr(), u8::from(is_synced));
            let db = self.db.raw.as_ptr();
            let result = checked(|error| ffi::rocksdb_write(db, options.as_ptr(), self.raw.as_ptr(), error));
            ffi::rocksdb_writeoptions_destroy(options.as_ptr());
            result
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `rocksdb_writebatch_create`, and not used again.
        unsafe { ffi::rocksdb_writebatch_destroy(self.raw.as_ptr()) }
    }
}
