//! A cluster's state as one file: what `goatctl operator snapshot` saves, and restores from. Written and read in one pass,
//! with little memory however long it is.
//!
//! | bytes | |
//! | --- | --- |
//! | 8 | `GOATSAVE` |
//! | 4 | format version |
//! | 4 | length of the head |
//! | head | MessagePack with named fields: [`Head`] |
//! | per row | 4 length of key, 4 length of value, key, value; in key order |
//! | 4 | `ff ff ff ff`: no more rows |
//! | 8 | number of rows |
//! | 4 | CRC32 of all of the above |
//!
//! Numbers are little-endian. Later formats, too, have the first two fields and the last, so that a file that is whole and
//! newer can be told from one that is damaged. Rows are those of [`crate::state`]; they carry formats of their own.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::check::check_state;
use crate::state::{LoadError, State};

const MAGIC: [u8; 8] = *b"GOATSAVE";
/// The newest format that this build reads and writes.
pub const VERSION: u32 = 1;
const END: u32 = u32::MAX;
/// More than any head or row: a wrong length is not taken for memory.
const MAX_PIECE_BYTES: u32 = 64 << 20;

/// What a file says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    /// Whose state it is.
    pub cluster_id: String,
    /// The last entry that is in it.
    pub term: u64,
    pub index: u64,
    /// When it was made, by the manager that made it (Unix ms).
    pub made_at_ms: u64,
    /// Of the program that made it.
    pub program_version: String,
    /// The name of the manager that made it.
    pub made_by: String,
    pub rows: u64,
    pub services: u64,
    pub tasks: u64,
    pub nodes: u64,
    /// The largest that a row in it may bear: unlike the index it goes on growing where the log began anew.
    pub newest_version: u64,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it is empty: use another snapshot")]
    Empty,
    #[error("it is no snapshot of a cluster: it does not begin like one")]
    Foreign,
    #[error("it has format {found} and this program reads formats up to {VERSION}: a newer version wrote it, use that")]
    Newer { found: u32 },
    #[error("it ends too early: it was cut short on its way; make another copy or use another snapshot")]
    Short,
    #[error("it is damaged ({0}); make another copy or use another snapshot")]
    Damaged(String),
    #[error("its rows make no state: {0}")]
    Rows(#[from] LoadError),
    #[error("its state contradicts itself: {0}; use another snapshot, and report this")]
    Contradiction(String),
    #[error("it cannot be read: {0}")]
    Io(io::Error),
}

/// A file that was read to its end, and makes a state.
#[derive(Debug)]
pub struct Loaded {
    pub head: Head,
    /// In the order of their keys.
    pub rows: Vec<Row>,
    pub state: State,
}

/// Reads all of a file, and checks all that can be checked.
///
/// # Errors
/// See [`Error`].
pub fn load(input: impl Read) -> Result<Loaded, Error> {
    let mut reader = Reader::begin(input)?;
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(row);
    }
    let head = reader.head().clone();
    let state = State::from_rows(rows.iter().map(|(key, value)| (key, value)))?;
    if let Some(violation) = check_state(&state).first() {
        return Err(Error::Contradiction(violation.to_string()));
    }
    if state.cluster_id().is_none_or(|id| id.to_string() != head.cluster_id) {
        return Err(Error::Damaged("it is not of the cluster that it names".into()));
    }
    Ok(Loaded { head, rows, state })
}

/// Key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Makes a file's bytes, piece by piece, into a buffer that the caller empties.
#[derive(Debug)]
pub struct Writer {
    crc: crc32fast::Hasher,
    rows: u64,
    /// What is to be written next.
    pub buffer: Vec<u8>,
}

impl Writer {
    pub fn begin(head: &Head) -> Self {
        let head = rmp_serde::to_vec_named(head).expect("memory does not fail, and numbers and texts have a form");
        let mut writer = Self { crc: crc32fast::Hasher::new(), rows: 0, buffer: Vec::new() };
        writer.put(&MAGIC);
        writer.put(&VERSION.to_le_bytes());
        writer.put(&length(&head));
        writer.put(&head);
        writer
    }

    pub fn row(&mut self, key: &[u8], value: &[u8]) {
        self.put(&length(key));
        self.put(&length(value));
        self.put(key);
        self.put(value);
        self.rows += 1;
    }

    /// The end; what is in the buffer then is the last.
    pub fn end(&mut self) {
        self.put(&END.to_le_bytes());
        self.put(&self.rows.to_le_bytes());
        let crc = self.crc.clone().finalize();
        self.buffer.extend_from_slice(&crc.to_le_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.buffer.extend_from_slice(bytes);
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("rows and heads are far below 4 GiB").to_le_bytes()
}

/// Reads a file. Nothing that it gave may be relied on before [`Reader::next_row`] has given None: only then the checksum
/// is known to be right.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    crc: crc32fast::Hasher,
    head: Head,
    rows: u64,
    has_ended: bool,
}

impl<R: Read> Reader<R> {
    /// # Errors
    /// See [`Error`].
    pub fn begin(input: R) -> Result<Self, Error> {
        let mut reader =
            Self { input, crc: crc32fast::Hasher::new(), head: Head::default(), rows: 0, has_ended: false };
        let mut magic = [0; 8];
        let mut begun = (&mut reader.input).take(1);
        if begun.read(&mut magic[..1]).map_err(Error::Io)? == 0 {
            return Err(Error::Empty);
        }
        reader.crc.update(&magic[..1]);
        match reader.fill(&mut magic[1..]) {
            Err(Error::Short) => return Err(Error::Foreign),
            read => read?,
        }
        if magic != MAGIC {
            return Err(Error::Foreign);
        }
        let found = reader.number()?;
        if found > VERSION {
            return Err(Error::Newer { found });
        }
        let head = reader.number()?;
        let head = reader.bytes(head)?;
        reader.head = rmp_serde::from_slice(&head).map_err(|error| Error::Damaged(error.to_string()))?;
        Ok(reader)
    }

    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// None after the last, when the whole has proved to be right.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn next_row(&mut self) -> Result<Option<Row>, Error> {
        if self.has_ended {
            return Ok(None);
        }
        let key = self.number()?;
        if key == END {
            self.check_end()?;
            self.has_ended = true;
            return Ok(None);
        }
        let value = self.number()?;
        let row = (self.bytes(key)?, self.bytes(value)?);
        self.rows += 1;
        Ok(Some(row))
    }

    fn check_end(&mut self) -> Result<(), Error> {
        let mut rows = [0; 8];
        self.fill(&mut rows)?;
        let expected = self.crc.clone().finalize();
        let found = self.number()?;
        if found != expected {
            return Err(Error::Damaged("its checksum does not match".into()));
        }
        let rows = u64::from_le_bytes(rows);
        if rows != self.rows || rows != self.head.rows {
            return Err(Error::Damaged(format!("{} rows where {} were announced", self.rows, self.head.rows)));
        }
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::Damaged("something comes after its end".into())),
            Err(error) => Err(Error::Io(error)),
        }
    }

    fn number(&mut self) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, Error> {
        if length > MAX_PIECE_BYTES {
            return Err(Error::Damaged(format!("a piece of {length} bytes")));
        }
        // No more memory than there is file: a wrong length ends with the input.
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(length.into()).read_to_end(&mut bytes).map_err(Error::Io)?;
        if read < length as usize {
            return Err(Error::Short);
        }
        self.crc.update(&bytes);
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        match self.input.read_exact(bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Error::Short),
            Err(error) => return Err(Error::Io(error)),
        }
        self.crc.update(bytes);
        Ok(())
    }
}

/// What kind of row it is, as far as heads count them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows: u64,
    pub services: u64,
    pub tasks: u64,
    pub nodes: u64,
    pub newest_version: u64,
}

impl Counts {
    /// Counts a row by its key, and looks into one.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        use crate::state::{Table, newest_version_in};
        self.newest_version = newest_version_in(key, value).unwrap_or(self.newest_version);
        self.rows += 1;
        match Table::of(key) {
            Some(Table::Service) => self.services += 1,
            Some(Table::Task) => self.tasks += 1,
            Some(Table::Node) => self.nodes += 1,
            _ => {}
        }
    }
}
