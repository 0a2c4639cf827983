//! `lease.json`: what the watchdog and the next agent have to know of the lease.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use goat_core::lease::WorkerLease;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::durable::Error;

/// The file's size: its text is filled up with spaces.
const FILE_BYTES: usize = 256;
const READ_TRIES: u32 = 10;

pub(super) fn path(root: &Path) -> PathBuf {
    root.join(LeaseFile::NAME)
}

/// `lease.json`. Times are ms of CLOCK_BOOTTIME.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaseFile {
    pub(super) boot_id: String,
    pub(super) sent_ms: u64,
    pub(super) ttl_ms: u64,
    pub(super) sheltered_until_ms: u64,
}

impl LeaseFile {
    /// In the data directory.
    pub const NAME: &str = "lease.json";

    /// What the agent of this boot of the machine wrote last; None where it has written nothing.
    pub fn read(root: &Path) -> Result<Option<Self>, Error> {
        let path = path(root);
        let io_error = |source| Error::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(error)),
        };
        Self::read_from(&file, &path)
    }

    /// The same of a file that is open. `path`: for errors.
    pub fn read_from(file: &File, path: &Path) -> Result<Option<Self>, Error> {
        let io_error = |source| Error::Io { path: path.to_owned(), source };
        let mut before = Vec::new();
        for _ in 0..READ_TRIES {
            let mut bytes = vec![0; FILE_BYTES];
            let read = file.read_at(&mut bytes, 0).map_err(io_error)?;
            bytes.truncate(read);
            // The same twice: nobody was writing.
            if bytes == before {
                return Self::parse(&bytes, path);
            }
            before = bytes;
        }
        Err(Error::Damaged { path: path.to_owned(), problem: "it changes all the time".into() })
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Option<Self>, Error> {
        if bytes.trim_ascii().is_empty() {
            return Ok(None);
        }
        let file: Self = serde_json::from_slice(bytes)
            .map_err(|error| Error::Damaged { path: path.to_owned(), problem: error.to_string() })?;
        let boot_id = clock::boot_id();
        Ok((file.boot_id == boot_id && !boot_id.is_empty()).then_some(file))
    }

    pub(super) fn write(&self, file: &File) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self).expect("our own types are valid JSON");
        bytes.resize(FILE_BYTES, b' ');
        file.write_all_at(&bytes, 0)
    }

    pub(super) const fn lease(&self) -> WorkerLease {
        WorkerLease { sent_ms: self.sent_ms, ttl_ms: self.ttl_ms }
    }

    /// When a leased task may not run any more.
    pub fn end_ms(&self, may_be_sheltered: bool) -> u64 {
        let end_ms = self.lease().deadline_ms();
        if may_be_sheltered { end_ms.max(self.sheltered_until_ms) } else { end_ms }
    }
}
