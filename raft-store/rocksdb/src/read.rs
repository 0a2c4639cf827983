//! Reads: of what is there now, or was when a snapshot was taken.

use std::ffi::c_char;
use std::ptr::NonNull;
use std::slice;

use crate::db::Db;
use crate::error::{Error, checked};
use crate::ffi;
use crate::options::created;

/// A key and its value.
pub type Pair = (Box<[u8]>, Box<[u8]>);

/// What a read sees, and where it ends.
#[derive(Debug)]
struct ReadOptions {
    raw: NonNull<ffi::rocksdb_readoptions_t>,
    /// RocksDB keeps a pointer to it.
    _until: Option<Box<[u8]>>,
}

impl ReadOptions {
    fn new(snapshot: Option<&Snapshot<'_>>, until: Option<&[u8]>) -> Self {
        let until: Option<Box<[u8]>> = until.map(Into::into);
        // SAFETY: the options are made here. The bound lives as long as they do, and does not move with them; snapshots
        // outlive what reads them, by the lifetime of `Pairs`.
        unsafe {
            let raw = created(ffi::rocksdb_readoptions_create());
            if let Some(snapshot) = snapshot {
                ffi::rocksdb_readoptions_set_snapshot(raw.as_ptr(), snapshot.raw.as_ptr());
            }
            if let Some(until) = &until {
                ffi::rocksdb_readoptions_set_iterate_upper_bound(raw.as_ptr(), until.as_ptr().cast(), until.len());
            }
            Self { raw, _until: until }
        }
    }
}

impl Drop for ReadOptions {
    fn drop(&mut self) {
        // SAFETY: made by `rocksdb_readoptions_create`, and not used again.
        unsafe { ffi::rocksdb_readoptions_destroy(self.raw.as_ptr()) }
    }
}

impl Db {
    pub fn get(&self, family: usize, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.get_with(&ReadOptions::new(None, None), family, key)
    }

    fn get_with(&self, options: &ReadOptions, family: usize, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let (db, family) = (self.raw.as_ptr(), self.family(family));
        // SAFETY: all are alive for the call. The slice is pinned until it is destroyed, which is after the copy.
        unsafe {
            let slice = checked(|error| {
                ffi::rocksdb_get_pinned_cf(db, options.raw.as_ptr(), family, key.as_ptr().cast(), key.len(), error)
            })?;
            let Some(slice) = NonNull::new(slice) else { return Ok(None) };
            let mut len = 0;
            let value = ffi::rocksdb_pinnableslice_value(slice.as_ptr(), &raw mut len);
            let copy = copied(value, len).into_vec();
            ffi::rocksdb_pinnableslice_destroy(slice.as_ptr());
            Ok(Some(copy))
        }
    }

    /// The pairs from `from` on, in key order, up to and without `until`.
    pub fn scan(&self, family: usize, from: &[u8], until: Option<&[u8]>) -> Pairs<'_> {
        Pairs::new(self, family, ReadOptions::new(None, until)).seek(from)
    }

    /// The pair with the greatest key.
    pub fn last(&self, family: usize) -> Result<Option<Pair>, Error> {
        Pairs::new(self, family, ReadOptions::new(None, None)).seek_to_last().next().transpose()
    }

    /// What is there at this moment.
    pub fn snapshot(&self) -> Snapshot<'_> {
        // SAFETY: the database is alive as long as `self`.
        let raw = unsafe { ffi::rocksdb_create_snapshot(self.raw.as_ptr()) };
        Snapshot { db: self, raw: created(raw.cast_mut()) }
    }
}

/// A database as it was when this was taken.
#[derive(Debug)]
pub struct Snapshot<'db> {
    db: &'db Db,
    raw: NonNull<ffi::rocksdb_snapshot_t>,
}

impl Snapshot<'_> {
    pub fn get(&self, family: usize, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.db.get_with(&ReadOptions::new(Some(self), None), family, key)
    }

    /// As [`Db::scan`].
    pub fn scan(&self, family: usize, from: &[u8], until: Option<&[u8]>) -> Pairs<'_> {
        Pairs::new(self.db, family, ReadOptions::new(Some(self), until)).seek(from)
    }

    /// As [`Db::last`].
    pub fn last(&self, family: usize) -> Result<Option<Pair>, Error> {
        Pairs::new(self.db, family, ReadOptions::new(Some(self), None)).seek_to_last().next().transpose()
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `rocksdb_create_snapshot` of this database; what reads it borrows it.
        unsafe { ffi::rocksdb_release_snapshot(self.db.raw.as_ptr(), self.raw.as_ptr()) }
    }
}

/// Pairs of a column family in key order. Ends after an error.
#[derive(Debug)]
pub struct Pairs<'a> {
    raw: NonNull<ffi::rocksdb_iterator_t>,
    is_at_end: bool,
    // Declared after the iterator, which is destroyed first.
    _options: ReadOptions,
    _db: &'a Db,
}

impl<'a> Pairs<'a> {
    fn new(db: &'a Db, family: usize, options: ReadOptions) -> Self {
        // SAFETY: database and family are alive as long as the iterator, by its lifetime, and the options by ownership.
        let raw = unsafe { ffi::rocksdb_create_iterator_cf(db.raw.as_ptr(), options.raw.as_ptr(), db.family(family)) };
        Self { raw: created(raw), is_at_end: false, _options: options, _db: db }
    }

    fn seek(self, key: &[u8]) -> Self {
        // SAFETY: the iterator is alive; the key is for the call.
        unsafe { ffi::rocksdb_iter_seek(self.raw.as_ptr(), key.as_ptr().cast(), key.len()) }
        self
    }

    fn seek_to_last(self) -> Self {
        // SAFETY: the iterator is alive.
        unsafe { ffi::rocksdb_iter_seek_to_last(self.raw.as_ptr()) }
        self
    }

    fn pair(&self) -> Option<Pair> {
        let raw = self.raw.as_ptr();
        // SAFETY: key and value are RocksDB's until the iterator moves; they are copied before.
        unsafe {
            if ffi::rocksdb_iter_valid(raw) == 0 {
                return None;
            }
            let (mut key_len, mut value_len) = (0, 0);
            let key = ffi::rocksdb_iter_key(raw, &raw mut key_len);
            let value = ffi::rocksdb_iter_value(raw, &raw mut value_len);
            Some((copied(key, key_len), copied(value, value_len)))
        }
    }
}

impl Iterator for Pairs<'_> {
    type Item = Result<Pair, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_at_end {
            return None;
        }
        let raw = self.raw.as_ptr();
        if let Some(pair) = self.pair() {
            // SAFETY: the iterator is valid, as `pair` has seen.
            unsafe { ffi::rocksdb_iter_next(raw) }
            return Some(Ok(pair));
        }
        self.is_at_end = true;
        // An iterator that cannot go on is not valid either.
        // SAFETY: the iterator is alive.
        checked(|error| unsafe { ffi::rocksdb_iter_get_error(raw, error) }).err().map(Err)
    }
}

impl Drop for Pairs<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `rocksdb_create_iterator_cf`, and not used again.
        unsafe { ffi::rocksdb_iter_destroy(self.raw.as_ptr()) }
    }
}

/// # Safety
/// `bytes` points to `len` bytes, or is null where `len` is 0.
unsafe fn copied(bytes: *const c_char, len: usize) -> Box<[u8]> {
    if len == 0 {
        return Box::default();
    }
    // SAFETY: the caller's word.
    unsafe { slice::from_raw_parts(bytes.cast::<u8>(), len) }.into()
}
