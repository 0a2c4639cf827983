//! A snapshot file as bytes. Written and read in one pass, with little memory however long it is.
//!
//! | bytes | |
//! | --- | --- |
//! | 8 | `GOATSNAP` |
//! | 4 | format version |
//! | 4 | length of the head |
//! | head | MessagePack: cluster id, last log id, membership |
//! | per row | 4 length of key, 4 length of value, key, value; in key order |
//! | 4 | `ff ff ff ff`: no more rows |
//! | 8 | number of rows |
//! | 4 | CRC32 of all of the above |
//!
//! Numbers are little-endian. Later formats, too, have the first two fields and the last: a file that is whole but newer
//! can be told from one that is damaged.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::types::SnapshotMeta;

const MAGIC: [u8; 8] = *b"GOATSNAP";
const VERSION: u32 = 1;
const END: u32 = u32::MAX;
/// The count and the checksum behind the end mark.
const TRAILER_BYTES: u64 = 8 + 4;
/// More than any head: a wrong length is not taken for memory.
const MAX_HEAD_BYTES: u32 = 16 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// What a snapshot says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) cluster_id: Option<String>,
    pub(super) meta: SnapshotMeta,
}

/// One row.
pub(super) type Row = (Box<[u8]>, Box<[u8]>);

/// Writes a snapshot. What is not finished is not one.
pub(super) struct Writer<'a> {
    path: &'a Path,
    out: BufWriter<&'a File>,
    crc: crc32fast::Hasher,
    rows: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn begin(file: &'a File, path: &'a Path, head: &Head) -> Result<Self, Error> {
        let out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let mut writer = Self { path, out, crc: crc32fast::Hasher::new(), rows: 0 };
        let head = rmp_serde::to_vec_named(head).map_err(|error| Error::snapshot(path, error.to_string()))?;
        let head_len = length(path, &head)?;
        writer.put(&MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        writer.put(&head_len.to_le_bytes())?;
        writer.put(&head)?;
        Ok(writer)
    }

    pub(super) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.put(&length(self.path, key)?.to_le_bytes())?;
        self.put(&length(self.path, value)?.to_le_bytes())?;
        self.put(key)?;
        self.put(value)?;
        self.rows += 1;
        Ok(())
    }

    /// Ends it, and returns once it is on disk.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let rows = self.rows;
        self.put(&END.to_le_bytes())?;
        self.put(&rows.to_le_bytes())?;
        let crc = self.crc.clone().finalize();
        self.put(&crc.to_le_bytes())?;
        self.out.flush().map_err(Error::io("write", self.path))?;
        self.out.get_ref().sync_all().map_err(Error::io("sync", self.path))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.crc.update(bytes);
        self.out.write_all(bytes).map_err(Error::io("write", self.path))
    }
}

fn length(path: &Path, bytes: &[u8]) -> Result<u32, Error> {
    let fits = u32::try_from(bytes.len()).ok().filter(|length| *length != END);
    fits.ok_or_else(|| Error::snapshot(path, format!("a row of {} bytes does not fit", bytes.len())))
}

/// Reads with its own position, so that several may read one open file.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Makes sure that a file is a whole snapshot, to the last bit, and returns its head and its length in bytes.
pub(super) fn verify(file: &File, path: &Path) -> Result<(Head, u64), Error> {
    let len_bytes = file.metadata().map_err(Error::io("read", path))?.len();
    let guarded_bytes = len_bytes.checked_sub(4).ok_or_else(|| Error::snapshot(path, "it is too short"))?;
    let mut crc = crc32fast::Hasher::new();
    let mut rest = At { file, offset: 0 }.take(guarded_bytes);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = rest.read(&mut buffer).map_err(Error::io("read", path))?;
        if read == 0 {
            break;
        }
        crc.update(&buffer[..read]);
    }
    let mut stored = [0; 4];
    file.read_exact_at(&mut stored, guarded_bytes).map_err(Error::io("read", path))?;
    if crc.finalize() != u32::from_le_bytes(stored) {
        return Err(Error::snapshot(path, "its checksum does not match"));
    }
    let head = read_head(&mut At { file, offset: 0 }, path)?;
    Ok((head, len_bytes))
}

fn read_head(input: &mut impl Read, path: &Path) -> Result<Head, Error> {
    if take::<8>(input, path)? != MAGIC {
        return Err(Error::snapshot(path, "it does not begin like one"));
    }
    let version = u32::from_le_bytes(take(input, path)?);
    if version > VERSION {
        return Err(Error::NewerFormat { path: path.to_path_buf(), found: version, supported: VERSION });
    }
    let head_len = u32::from_le_bytes(take(input, path)?);
    if head_len > MAX_HEAD_BYTES {
        return Err(Error::snapshot(path, format!("a head of {head_len} bytes")));
    }
    let mut head = vec![0; head_len as usize];
    input.read_exact(&mut head).map_err(|error| unexpected(path, error))?;
    rmp_serde::from_slice(&head).map_err(|error| Error::snapshot(path, error.to_string()))
}

fn take<const N: usize>(input: &mut impl Read, path: &Path) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(|error| unexpected(path, error))?;
    Ok(bytes)
}

fn unexpected(path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Error::snapshot(path, "it ends too early")
    } else {
        Error::io("read", path)(error)
    }
}

/// The rows of a file that [`verify`] has accepted.
pub(super) struct Rows<'a> {
    path: &'a Path,
    input: BufReader<At<'a>>,
    remaining_bytes: u64,
    rows: u64,
    has_ended: bool,
}

impl<'a> Rows<'a> {
    pub(super) fn open(file: &'a File, path: &'a Path, len_bytes: u64) -> Result<Self, Error> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, At { file, offset: 0 });
        read_head(&mut input, path)?;
        Ok(Self { path, input, remaining_bytes: len_bytes.saturating_sub(TRAILER_BYTES), rows: 0, has_ended: false })
    }

    fn read(&mut self) -> Result<Option<Row>, Error> {
        let key_len = u32::from_le_bytes(take(&mut self.input, self.path)?);
        if key_len == END {
            let rows = u64::from_le_bytes(take(&mut self.input, self.path)?);
            if rows != self.rows {
                return Err(Error::snapshot(self.path, format!("{} rows where {rows} were announced", self.rows)));
            }
            return Ok(None);
        }
        let value_len = u32::from_le_bytes(take(&mut self.input, self.path)?);
        let wanted_bytes = u64::from(key_len) + u64::from(value_len);
        self.remaining_bytes = self
            .remaining_bytes
            .checked_sub(wanted_bytes)
            .ok_or_else(|| Error::snapshot(self.path, "a row is longer than the file"))?;
        let key = self.bytes(key_len)?;
        let value = self.bytes(value_len)?;
        self.rows += 1;
        Ok(Some((key, value)))
    }

    fn bytes(&mut self, len: u32) -> Result<Box<[u8]>, Error> {
        let mut bytes = vec![0; len as usize].into_boxed_slice();
        self.input.read_exact(&mut bytes).map_err(|error| unexpected(self.path, error))?;
        Ok(bytes)
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let row = self.read().transpose();
        self.has_ended = !matches!(row, Some(Ok(_)));
        row
    }
}
