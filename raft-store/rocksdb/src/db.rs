//! An open database.

use std::ffi::{CStr, CString, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};

use crate::error::{Error, checked};
use crate::ffi;
use crate::options::{Options, created};

/// An open database with its column families, which are named by their number in the list that it was opened with. A number
/// beyond that list panics.
#[derive(Debug)]
pub struct Db {
    pub(crate) raw: NonNull<ffi::rocksdb_t>,
    families: Vec<NonNull<ffi::rocksdb_column_family_handle_t>>,
}

// SAFETY: RocksDB's `DB` and its column family handles may be used by several threads at a time (`rocksdb/db.h`), and are
// bound to none.
unsafe impl Send for Db {}
// SAFETY: as above.
unsafe impl Sync for Db {}

/// Whether files may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadWrite,
    ReadOnly,
}

impl Db {
    /// Opens a database. `families`: all that it has, or is to have, `default` among them or not.
    pub fn open(options: &Options, path: &Path, families: &[(&CStr, Options)]) -> Result<Self, Error> {
        Self::open_as(Access::ReadWrite, options, path, families)
    }

    /// Opens a database and changes none of its files.
    pub fn open_read_only(options: &Options, path: &Path, families: &[(&CStr, Options)]) -> Result<Self, Error> {
        Self::open_as(Access::ReadOnly, options, path, families)
    }

    fn open_as(access: Access, options: &Options, path: &Path, families: &[(&CStr, Options)]) -> Result<Self, Error> {
        // RocksDB wants `default` opened in any case.
        let default = (c"default", Options::default());
        let is_named = families.iter().any(|(name, _)| *name == default.0);
        let all: Vec<_> = families.iter().chain((!is_named).then_some(&default)).collect();
        let path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| Error::invalid_argument("a path must not contain a zero byte"))?;
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_ptr()).collect();
        let family_options: Vec<_> = all.iter().map(|(_, options)| options.raw.as_ptr().cast_const()).collect();
        let mut handles = vec![ptr::null_mut(); all.len()];
        let count = c_int::try_from(all.len()).expect("column families are few");
        let raw = checked(|error| {
            let (options, path) = (options.raw.as_ptr(), path.as_ptr());
            let (names, family_options) = (names.as_ptr(), family_options.as_ptr());
            let handles = handles.as_mut_ptr();
            // SAFETY: the three arrays have `count` elements each, and all that they point to is alive for the call.
            unsafe {
                match access {
                    Access::ReadWrite => {
                        ffi::rocksdb_open_column_families(options, path, count, names, family_options, handles, error)
                    }
                    Access::ReadOnly => ffi::rocksdb_open_for_read_only_column_families(
                        options,
                        path,
                        count,
                        names,
                        family_options,
                        handles,
                        u8::from(false),
                        error,
                    ),
                }
            }
        })?;
        Ok(Self { raw: created(raw), families: handles.into_iter().map(created).collect() })
    }

    pub(crate) fn family(&self, number: usize) -> *mut ffi::rocksdb_column_family_handle_t {
        self.families[number].as_ptr()
    }

    /// A number that RocksDB tells under that name (see [`crate::properties`]); `None` if it does not.
    pub fn property(&self, family: usize, name: &CStr) -> Option<u64> {
        let mut value = 0;
        // SAFETY: the database and its families are alive as long as `self`, and `value` for the call.
        let code = unsafe {
            ffi::rocksdb_property_int_cf(self.raw.as_ptr(), self.family(family), name.as_ptr(), &raw mut value)
        };
        (code == 0).then_some(value)
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        // SAFETY: batches, iterators and snapshots borrow the database, so there are none left; families are released
        // before it.
        unsafe {
            for family in &self.families {
                ffi::rocksdb_column_family_handle_destroy(family.as_ptr());
            }
            ffi::rocksdb_close(self.raw.as_ptr());
        }
    }
}
