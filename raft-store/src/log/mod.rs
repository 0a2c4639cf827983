//! openraft's log store: the log, the vote, and how far it is committed. Reading comes from memory where it can; writing
//! goes through one queue to one thread ([`writer`]), in the order it was asked for.

pub(crate) mod disk;
mod stats;
mod tail;
mod writer;

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use futures::stream::{self, Stream, TryStreamExt};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::Options;
use crate::db::Db;
use crate::error::Error;
use crate::identity::IdentityFile;
use crate::snapshot::{IncomingSnapshot, SnapshotDir};
use crate::types::{Entry, LogId, TypeConfig, Vote};
use crate::view::RowsView;
use stats::SyncTime;
pub use stats::{FamilyStats, LogEnds, StoreStats};
use tail::{CacheLimit, ReadLimit, Tail, next_index, size_bytes};
use writer::Job;

/// Requests that wait for the writer.
const QUEUED_JOBS: usize = 1_024;
/// What entries that wait for the writer may take, in KiB.
const QUEUED_KIB: usize = 64 << 10;
/// One piece of a long read.
const CHUNK: ReadLimit = ReadLimit { entries: 1_024, bytes: 1 << 20 };
/// A read is overtaken by a truncation about never; twice in a row is a mistake.
const READ_ATTEMPTS: usize = 8;

/// The Raft log of one manager. Cheap to clone; all clones are the same log. The last one to go waits until everything
/// that was queued is written.
#[derive(Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

struct Inner {
    db: Arc<Db>,
    identity: Arc<IdentityFile>,
    snapshots: Arc<SnapshotDir>,
    tail: Arc<Mutex<Tail>>,
    budget: Arc<Semaphore>,
    sync_time: Arc<SyncTime>,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Debug for LogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStore").field("db", &self.inner.db).field("ends", &self.ends()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the raft log writer panicked");
        }
    }
}

impl LogStore {
    pub(crate) fn open(
        options: &Options,
        db: Arc<Db>,
        identity: Arc<IdentityFile>,
        snapshots: Arc<SnapshotDir>,
    ) -> Result<Self, Error> {
        let limit = CacheLimit { entries: options.cached_entries, bytes: options.cached_bytes };
        let tail = Arc::new(Mutex::new(Tail::load(&db, limit)?));
        let (jobs, queue) = mpsc::channel(QUEUED_JOBS);
        let sync_time = Arc::new(SyncTime::default());
        let writer = writer::run(Arc::clone(&db), Arc::clone(&tail), queue, Arc::clone(&sync_time));
        let writer = db.workshop().run_writer(Box::pin(writer)).map_err(Error::io("start a thread for", db.path()))?;
        let budget = Arc::new(Semaphore::new(QUEUED_KIB));
        let inner = Inner { db, identity, snapshots, tail, budget, sync_time, jobs: Some(jobs), writer };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.inner.db.path().parent().expect("the database is a directory in the data directory")
    }

    /// The cluster this directory belongs to, once known.
    pub fn cluster_id(&self) -> Option<String> {
        self.inner.identity.get().cluster_id
    }

    /// Binds the directory to a cluster, for good. Blocks until it is on disk.
    ///
    /// # Errors
    /// [`Error::OtherCluster`] where it is bound to another one.
    pub fn set_cluster_id(&self, id: &str) -> Result<(), Error> {
        self.inner.identity.set_cluster_id(id)
    }

    /// Begins to receive a snapshot from another manager.
    pub async fn receive_snapshot(&self) -> Result<IncomingSnapshot, Error> {
        let (snapshots, identity) = (Arc::clone(&self.inner.snapshots), Arc::clone(&self.inner.identity));
        self.inner.db.offload(move || IncomingSnapshot::create(&snapshots, identity)).await
    }

    /// Shows the applied rows as of now. Blocks.
    pub fn with_rows<T>(&self, show: impl FnOnce(&RowsView<'_>) -> T) -> T {
        let (mut show, mut shown) = (Some(show), None);
        self.inner.db.engine().view(&mut |view| {
            shown = show.take().map(|show| show(&RowsView::new(&self.inner.db, view)));
        });
        shown.expect("a view is shown once")
    }

    /// What is applied must be all there: what comes out of here is taken for applied, so a gap would be one for good.
    fn check_begins(&self, expected: u64, read: &[Entry]) -> Result<(), Error> {
        let found = read.first().map(|entry| entry.log_id.index());
        let is_purged = next_index(self.inner.tail.lock().purged) > expected;
        if found == Some(expected) || is_purged {
            return Ok(());
        }
        Err(Error::Corrupt {
            path: self.inner.db.path().to_path_buf(),
            reason: format!("the log has no entry {expected} (next is {found:?})"),
        })
    }

    async fn queue(&self) -> Result<mpsc::Permit<'_, Job>, Error> {
        let jobs = self.inner.jobs.as_ref().expect("the queue is there until the store is dropped");
        jobs.reserve().await.map_err(|_| Error::WriterEnded)
    }

    /// What the log has of `range`, cut at `limit`.
    async fn read(&self, range: Range<u64>, limit: ReadLimit) -> Result<Vec<Entry>, Error> {
        for _ in 0..READ_ATTEMPTS {
            let plan = self.inner.tail.lock().plan(range.clone(), limit);
            if plan.on_disk.is_empty() {
                return Ok(plan.cached);
            }
            let (db, on_disk) = (Arc::clone(&self.inner.db), plan.on_disk.clone());
            let read = self.inner.db.offload(move || disk::read(&db, on_disk, limit)).await;
            // A truncation meanwhile may have put newer entries under the older ones that were taken from memory.
            if self.inner.tail.lock().truncations != plan.truncations {
                continue;
            }
            return join(read?, plan.on_disk, plan.cached, limit, self.inner.db.path());
        }
        Err(Error::Background(format!("the log was truncated {READ_ATTEMPTS} times during one read")))
    }
}

/// Puts together what came from disk and from memory.
fn join(
    mut read: Vec<Entry>,
    on_disk: Range<u64>,
    cached: Vec<Entry>,
    limit: ReadLimit,
    path: &Path,
) -> Result<Vec<Entry>, Error> {
    let bytes: usize = read.iter().map(size_bytes).sum();
    match read.last().map(|entry| entry.log_id.index() + 1) {
        Some(next) if next == on_disk.end => {
            if read.len().saturating_add(cached.len()) <= limit.entries && bytes < limit.bytes {
                read.extend(cached);
            }
            Ok(read)
        }
        // Cut at the limit: the rest is asked for next.
        Some(_) if read.len() >= limit.entries || limit.bytes != usize::MAX => Ok(read),
        Some(next) => Err(Error::Corrupt {
            path: path.to_path_buf(),
            reason: format!("the log has nothing from {next} to {}", on_disk.end),
        }),
        None => Ok(cached),
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.read(bounds(&range), ReadLimit::NONE).await?)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        Ok(self.read(start..end, CHUNK).await?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.inner.tail.lock().vote)
    }

    /// In pieces, so that a manager that is far behind does not take its whole log into memory to apply it.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let wanted = bounds(&range);
        let end = wanted.end.min(next_index(self.inner.tail.lock().last));
        let pieces = stream::try_unfold((self.clone(), wanted.start), move |(store, next)| async move {
            if next >= end {
                return Ok::<_, io::Error>(None);
            }
            let piece = store.read(next..end, CHUNK).await?;
            store.check_begins(next, &piece)?;
            let Some(last) = piece.last() else { return Ok(None) };
            let next = last.log_id.index() + 1;
            Ok(Some((stream::iter(piece.into_iter().map(Ok)), (store, next))))
        });
        Box::pin(pieces.try_flatten())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.inner.tail.lock();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, written) = oneshot::channel();
        self.queue().await?.send(Job::Vote { vote: *vote, done });
        written.await.map_err(|_| Error::WriterEnded)??;
        self.inner.tail.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(committed) = committed else { return Ok(()) };
        // Nobody waits for it: it only saves the wait for a leader after a restart.
        self.queue().await?.send(Job::Committed(committed));
        self.inner.tail.lock().committed = Some(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.inner.tail.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let kib = (entries.iter().map(size_bytes).sum::<usize>() >> 10).clamp(1, QUEUED_KIB);
        let kib = u32::try_from(kib).expect("the clamp keeps it small");
        let budget = Arc::clone(&self.inner.budget);
        let budget = budget.acquire_many_owned(kib).await.map_err(|_| Error::WriterEnded)?;
        let slot = self.queue().await?;
        // From here on nothing waits: entries are in memory if and only if they are queued.
        let appended = self.inner.tail.lock().append(&entries);
        appended.map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))?;
        slot.send(Job::Append { entries, flushed, budget });
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = next_index(last);
        let slot = self.queue().await?;
        let (done, written) = oneshot::channel();
        {
            let mut tail = self.inner.tail.lock();
            let end = next_index(tail.last);
            if from >= end {
                return Ok(());
            }
            tail.truncate(from, last);
            slot.send(Job::Truncate { from, end, last, done });
        }
        // Written, not synced: what is appended next is synced, and this with it. But it has to be in the write-ahead
        // log before rows of entries that take the place of these.
        Ok(written.await.map_err(|_| Error::WriterEnded)??)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let slot = self.queue().await?;
        let (done, written) = oneshot::channel();
        {
            let mut tail = self.inner.tail.lock();
            let from = next_index(tail.purged);
            if from > upto.index() {
                return Ok(());
            }
            tail.purge(upto);
            slot.send(Job::Purge { from, upto, done });
        }
        Ok(written.await.map_err(|_| Error::WriterEnded)??)
    }
}
