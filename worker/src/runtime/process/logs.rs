//! A supervised task's output: kept in two files of limited size, the newer `log` and the older `log.1`.
//!
//! A record is a line `MS o|e LENGTH`, then so many bytes of output: a line with its end, or a piece of a long one. The
//! supervisor writes, the agent reads; a record that is not whole yet is waited for.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;

use super::super::{Error, LogChunk, LogOptions, LogStream};
use super::ExitSeen;
use crate::clock;

/// Of each of the two files.
const MAX_FILE_BYTES: u64 = 10 << 20;
/// Longer lines are cut.
const MAX_PIECE_BYTES: usize = 16 << 10;
/// Between looks at a file that is being followed; only while somebody reads along.
const FOLLOW_POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    Stdout,
    Stderr,
}

/// Writes records, and begins a new file where one is full.
#[derive(Debug)]
pub(super) struct LogWriter {
    dir: PathBuf,
    file: File,
    bytes: u64,
}

impl LogWriter {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(dir.join("log"))?;
        let bytes = file.metadata()?.len();
        Ok(Self { dir: dir.to_owned(), file, bytes })
    }

    fn write(&mut self, log: Log, piece: &[u8]) -> io::Result<()> {
        if self.bytes >= MAX_FILE_BYTES {
            match std::fs::rename(self.dir.join("log"), self.dir.join("log.1")) {
                // It was renamed before, and no new one could be made.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
            *self = Self::open(&self.dir)?;
        }
        let letter = if log == Log::Stdout { 'o' } else { 'e' };
        let mut record = format!("{} {letter} {}\n", clock::now_ms(), piece.len()).into_bytes();
        record.extend_from_slice(piece);
        if let Err(error) = self.file.write_all(&record) {
            // A part of a record would make what follows unreadable. What was not written does not fill the file.
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += record.len() as u64;
        Ok(())
    }
}

/// Writes what comes until the pipe's end. What cannot be written (a full disk) is dropped: a task does not wait for its
/// log.
pub(super) fn pump(mut pipe: impl Read, log: Log, writer: &Mutex<LogWriter>) {
    let mut buffer = vec![0; MAX_PIECE_BYTES];
    let mut filled = 0;
    loop {
        let bytes = match pipe.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        filled += bytes;
        let mut done = 0;
        while let Some(end) = buffer[done..filled].iter().position(|byte| *byte == b'\n') {
            let _ = writer.lock().write(log, &buffer[done..=done + end]);
            done += end + 1;
        }
        if done == 0 && filled == buffer.len() {
            let _ = writer.lock().write(log, &buffer);
            done = filled;
        }
        buffer.copy_within(done..filled, 0);
        filled -= done;
    }
    if filled > 0 {
        let _ = writer.lock().write(log, &buffer[..filled]);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    at_ms: u64,
    is_stderr: bool,
    data: Vec<u8>,
}

/// Takes whole records off the front of `bytes`. A line that is no header is skipped: it is left of a record that an earlier version
/// could not write to its end.
fn parse(bytes: &mut Vec<u8>) -> Vec<Record> {
    let mut records = Vec::new();
    let mut done = 0;
    while let Some(line) = bytes[done..].iter().position(|byte| *byte == b'\n') {
        let begin = done + line + 1;
        let Some((at_ms, is_stderr, length)) = header(&bytes[done..done + line]) else {
            done = begin;
            continue;
        };
        let Some(data) = bytes.get(begin..begin + length) else { break };
        records.push(Record { at_ms, is_stderr, data: data.to_vec() });
        done = begin + length;
    }
    bytes.drain(..done);
    records
}

/// The time (ms), whether it is of standard error, and the length of the data.
fn header(line: &[u8]) -> Option<(u64, bool, usize)> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let at_ms = words.next()?.parse().ok()?;
    let is_stderr = match words.next()? {
        "o" => false,
        "e" => true,
        _ => return None,
    };
    let length = words.next()?.parse().ok().filter(|length| *length <= MAX_PIECE_BYTES)?;
    words.next().is_none().then_some((at_ms, is_stderr, length))
}

/// Reads the log from its beginning, and follows it across a change of files.
struct Reader {
    dir: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl Reader {
    /// What was written since the last call. Blocks.
    fn read(&mut self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        loop {
            if self.file.is_none() {
                self.file = open(&self.dir.join("log"))?;
            }
            let Some(file) = &mut self.file else { return Ok(records) };
            let inode = file.metadata()?.ino();
            // Asked before reading: what is renamed now is read to its end below, or in the next call.
            let is_current = std::fs::metadata(self.dir.join("log")).is_ok_and(|current| current.ino() == inode);
            file.read_to_end(&mut self.rest)?;
            records.extend(parse(&mut self.rest));
            if is_current {
                return Ok(records);
            }
            self.rest.clear();
            match self.after(inode)? {
                Some(next) => self.file = Some(next),
                None => return Ok(records),
            }
        }
    }

    /// The file that was begun after this one: two may have been since the last read.
    fn after(&self, inode: u64) -> io::Result<Option<File>> {
        for name in ["log.1", "log"] {
            if let Some(file) = open(&self.dir.join(name))?
                && file.metadata()?.ino() != inode
            {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Everything that there is, the older file first.
    fn read_all(&mut self) -> io::Result<Vec<Record>> {
        self.file = open(&self.dir.join("log.1"))?;
        self.read()
    }
}

/// `None` if there is no such file.
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A task's output; `ended` is for following it until then.
pub(super) fn read(dir: PathBuf, options: LogOptions, ended: Option<ExitSeen>) -> LogStream {
    let follower = Follower { reader: Some(Reader { dir, file: None, rest: Vec::new() }), ended, is_first: true };
    let batches = futures::stream::unfold(Some(follower), move |follower| async move {
        let mut follower = follower?;
        match follower.next(options.tail).await {
            Ok(Some(records)) => Some((Ok(records), Some(follower))),
            Ok(None) => None,
            Err(error) => Some((Err(Error::failed("logs-unreadable", error.to_string())), None)),
        }
    });
    let pieces = batches.flat_map(move |batch| {
        let pieces = match batch {
            Ok(records) => records.into_iter().map(|record| Ok(chunk(record, options.timestamps))).collect(),
            Err(error) => vec![Err(error)],
        };
        futures::stream::iter(pieces)
    });
    pieces.boxed()
}

struct Follower {
    /// Away only while it reads.
    reader: Option<Reader>,
    ended: Option<ExitSeen>,
    is_first: bool,
}

impl Follower {
    /// The next records, perhaps none; None at the end.
    async fn next(&mut self, tail: Option<u32>) -> io::Result<Option<Vec<Record>>> {
        if self.is_first {
            self.is_first = false;
            return self.read(Reader::read_all).await.map(|records| Some(last(records, tail)));
        }
        let Some(ended) = &mut self.ended else { return Ok(None) };
        // The end, where it comes first, makes the next read the last: nothing written before it is missed.
        let is_over = ended.wait_for(Option::is_some);
        let is_last = tokio::time::timeout(FOLLOW_POLL, is_over).await.is_ok();
        if is_last {
            self.ended = None;
        }
        self.read(Reader::read).await.map(Some)
    }

    async fn read(
        &mut self,
        read: impl FnOnce(&mut Reader) -> io::Result<Vec<Record>> + Send + 'static,
    ) -> io::Result<Vec<Record>> {
        let Some(mut reader) = self.reader.take() else {
            return Ok(Vec::new());
        };
        let reading = tokio::task::spawn_blocking(move || (read(&mut reader), reader));
        let (records, reader) = reading.await.map_err(io::Error::other)?;
        self.reader = Some(reader);
        records
    }
}

fn last(mut records: Vec<Record>, tail: Option<u32>) -> Vec<Record> {
    match tail {
        Some(lines) => records.split_off(records.len().saturating_sub(lines as usize)),
        None => records,
    }
}

fn chunk(record: Record, timestamps: bool) -> LogChunk {
    let mut data = Vec::new();
    if timestamps {
        let time = UNIX_EPOCH + Duration::from_millis(record.at_ms);
        data.extend_from_slice(format!("{} ", humantime::format_rfc3339_millis(time)).as_bytes());
    }
    data.extend_from_slice(&record.data);
    LogChunk { is_stderr: record.is_stderr, data: Bytes::from(data) }
}

#[cfg(test)]
mod tests;
