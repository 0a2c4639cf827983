//! What the store asks of the database under it, and of whoever does its blocking work. Managers run on RocksDB
//! ([`crate::rocks`]) and threads; a simulation brings its own, with a disk that it can lose.
//!
//! All families share one order of writes: after a crash a prefix of them is there, and everything up to the last synced
//! one is in it.

use std::ffi::CStr;
use std::fmt::Debug;
use std::thread::JoinHandle;

use futures::future::{self, BoxFuture};
use tokio::sync::oneshot;

use crate::error::Error;

/// A group of keys with an order of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Entries, by their index.
    Log,
    /// The few records in [`crate::db`]'s table.
    Meta,
    /// The state machine's.
    Rows,
}

impl Family {
    pub(crate) const ALL: [Self; 3] = [Self::Log, Self::Meta, Self::Rows];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Meta => "meta",
            Self::Rows => "rows",
        }
    }
}

/// A key and its value.
pub type Pair = (Box<[u8]>, Box<[u8]>);
/// Some of a family, in key order.
pub type Pairs<'a> = Box<dyn Iterator<Item = Result<Pair, Error>> + 'a>;

/// One change of a [`Batch`].
#[derive(Debug, Clone)]
pub enum Change {
    Put(Family, Vec<u8>, Vec<u8>),
    Delete(Family, Vec<u8>),
    /// From the first key to before the second.
    DeleteRange(Family, Vec<u8>, Vec<u8>),
}

/// Changes that are all made or none, in this order.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    changes: Vec<Change>,
    size_bytes: usize,
}

impl Batch {
    pub(crate) fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let (key, value) = (key.into(), value.into());
        self.size_bytes += key.len() + value.len();
        self.changes.push(Change::Put(family, key, value));
    }

    pub(crate) fn delete(&mut self, family: Family, key: impl Into<Vec<u8>>) {
        let key = key.into();
        self.size_bytes += key.len();
        self.changes.push(Change::Delete(family, key));
    }

    pub(crate) fn delete_range(&mut self, family: Family, from: impl Into<Vec<u8>>, until: impl Into<Vec<u8>>) {
        let (from, until) = (from.into(), until.into());
        self.size_bytes += from.len() + until.len();
        self.changes.push(Change::DeleteRange(family, from, until));
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The changes, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// What is there: now, or at one moment.
pub trait Read {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// From `from`, up to and without `until`; to the end where that is None.
    fn scan<'a>(&'a self, family: Family, from: &[u8], until: Option<&[u8]>) -> Pairs<'a>;

    fn last(&self, family: Family) -> Result<Option<Pair>, Error>;
}

/// A database's list of its files: which, and how long it is. A longer or later one knows more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manifest {
    pub number: u64,
    pub bytes: u64,
}

/// Blocking work.
pub type Work = Box<dyn FnOnce() + Send>;
/// Blocking work on the rows of one moment.
pub type ViewWork = Box<dyn FnOnce(&dyn Read) + Send>;

/// A database. Everything but what returns a future blocks.
pub trait Engine: Read + Debug + Send + Sync + 'static {
    /// Makes the changes. `is_synced`: they, and all before them, survive whatever happens from the return on.
    fn write(&self, batch: Batch, is_synced: bool) -> Result<(), Error>;

    /// Shows what is there at this moment, whatever is written meanwhile.
    fn view(&self, show: &mut dyn FnMut(&dyn Read));

    /// What the database says of itself under that name of RocksDB's; None where it says nothing.
    fn property(&self, _family: Family, _name: &CStr) -> Option<u64> {
        None
    }

    /// The list of the database's files as it is now; None where there is none.
    fn manifest(&self) -> Option<Manifest> {
        None
    }

    /// As [`Self::write`], for the log's writer alone.
    fn commit(&self, batch: Batch, is_synced: bool) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(future::ready(self.write(batch, is_synced)))
    }

    /// Takes a view, says so, and works on it when told to go; not at all where that is dropped.
    fn offload_view(self: std::sync::Arc<Self>, taken: oneshot::Sender<()>, go: oneshot::Receiver<()>, work: ViewWork) {
        // It ends with its work; whoever waits for that has a channel of its own.
        drop(tokio::task::spawn_blocking(move || {
            let mut job = Some((taken, go, work));
            self.view(&mut |view| {
                let Some((taken, go, work)) = job.take() else { return };
                let _ = taken.send(());
                if go.blocking_recv().is_ok() {
                    work(view);
                }
            });
        }));
    }
}

/// Where blocking work is done, so that the async runtime's threads go on meanwhile.
pub trait Workshop: Debug + Send + Sync + 'static {
    /// Does blocking work.
    fn offload(&self, work: Work) -> BoxFuture<'static, Result<(), Error>>;

    /// Runs the log's writer until it ends; returns at once. Where it has a thread, the store waits for that at its end.
    fn run_writer(&self, writer: BoxFuture<'static, ()>) -> std::io::Result<Option<JoinHandle<()>>>;
}

/// Threads, as managers have them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Threads;

impl Workshop for Threads {
    fn offload(&self, work: Work) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            tokio::task::spawn_blocking(work).await.map_err(|error| Error::Background(error.to_string()))
        })
    }

    fn run_writer(&self, writer: BoxFuture<'static, ()>) -> std::io::Result<Option<JoinHandle<()>>> {
        let thread = std::thread::Builder::new().name("raft-log-writer".into());
        thread.spawn(move || futures::executor::block_on(writer)).map(Some)
    }
}

/// Does blocking work in a workshop; a panic there becomes an error here.
pub(crate) async fn offload<T, F>(workshop: &dyn Workshop, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    workshop.offload(Box::new(move || drop(answer.send(work())))).await?;
    answered.await.map_err(|_| Error::Background("it gave no answer".into()))?
}
