//! RocksDB's errors: a message, whose first words are the kind.

use std::ffi::{CStr, c_char};
use std::ptr;

use crate::ffi;

/// The kinds that somebody acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    Corruption,
    InvalidArgument,
    Io,
    Other,
}

/// An error of RocksDB's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    message: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl Error {
    pub(crate) fn invalid_argument(problem: &str) -> Self {
        Self { message: format!("Invalid argument: {problem}") }
    }

    /// The kind, by the first words of the message (`Status::ToString` in `util/status.cc`).
    pub fn kind(&self) -> ErrorKind {
        match self.message.split(':').next() {
            Some("Corruption") => ErrorKind::Corruption,
            Some("Invalid argument") => ErrorKind::InvalidArgument,
            Some("IO error") => ErrorKind::Io,
            _ => ErrorKind::Other,
        }
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn into_message(self) -> String {
        self.message
    }
}

/// Calls a function of RocksDB's that reports an error by its last argument.
pub(crate) fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T, Error> {
    let mut message: *mut c_char = ptr::null_mut();
    let result = call(&raw mut message);
    if message.is_null() { Ok(result) } else { Err(Error { message: owned(message) }) }
}

/// Copies a text that RocksDB allocated, and frees it. `text` is not null, and nobody else's.
pub(crate) fn owned(text: *mut c_char) -> String {
    // SAFETY: RocksDB returns texts that end with a zero, allocated for the caller, who frees them with `rocksdb_free`.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        ffi::rocksdb_free(text.cast());
        copy
    }
}
