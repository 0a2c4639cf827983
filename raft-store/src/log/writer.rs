//! The one that writes the log, on a thread of its own. It takes whatever is queued, in order, puts it into one batch, syncs once, and
//! then acknowledges each part of it, in order.
//!
//! ```text
//!  append ─┐
//!  vote ───┤                ┌──────────── one group ────────────┐
//!  truncate┼─► bounded queue ─► WriteBatch ─► write ─► fdatasync ─► callbacks
//!  purge ──┤                                      (votes, entries)
//!  commit ─┘
//! ```
//! While a group is being synced the next one piles up: the busier, the larger the groups.
//!
//! After a failed write nothing more is written: what is on disk is then unknown, and acknowledging on top of it would be
//! a guess. Every later request gets the first error, and Raft stops.

use std::sync::Arc;
use std::time::Instant;

use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::error;

use super::disk;
use super::stats::SyncTime;
use super::tail::Tail;
use crate::db::{self, Db};
use crate::engine::{Batch, Family};
use crate::error::Error;
use crate::record;
use crate::types::{Entry, EntryId, LogId, TypeConfig, Vote};
use crate::witness::Witness;

/// A group larger than this is written before more is added: the first in it should not wait for ever.
const MAX_GROUP_BYTES: usize = 8 << 20;
/// Up to so many entries are removed one by one: a range tombstone costs every later scan over it.
const MAX_POINT_DELETES: u64 = 1_024;

pub(super) type Done = oneshot::Sender<Result<(), Error>>;

/// One change to the log or its metadata.
pub(super) enum Job {
    Append {
        entries: Vec<Entry>,
        flushed: IOFlushed<TypeConfig>,
        budget: OwnedSemaphorePermit,
    },
    Vote {
        vote: Vote,
        done: Done,
    },
    /// `last`: what is the last entry then.
    Truncate {
        from: u64,
        end: u64,
        last: Option<LogId>,
        done: Done,
    },
    Purge {
        from: u64,
        upto: LogId,
        done: Done,
    },
    Committed(LogId),
}

/// Whom to tell once the group is written.
enum Ack {
    Flushed(IOFlushed<TypeConfig>, #[allow(dead_code, reason = "frees its room when dropped")] OwnedSemaphorePermit),
    Done(Done),
}

struct Group {
    batch: Batch,
    is_synced: bool,
    committed: Option<LogId>,
    /// Where the part of the log that is on disk ends after this group, where it moves.
    written: Option<u64>,
    /// What is promised by it: the term of a vote, the last entry.
    term: Option<u64>,
    last: Option<EntryId>,
    /// How far entries are taken back; None where none are.
    back_to: Option<Option<EntryId>>,
    acks: Vec<Ack>,
}

/// Runs until every sender is gone; what was queued by then is still written.
pub(super) async fn run(db: Arc<Db>, tail: Arc<Mutex<Tail>>, mut jobs: mpsc::Receiver<Job>, sync_time: Arc<SyncTime>) {
    let (mut witness, mut failed) = match Witness::open(&db) {
        Ok(witness) => (Some(witness), None),
        Err(error) => (None, Some(Arc::new(error))),
    };
    while let Some(job) = jobs.recv().await {
        let mut group = Group::new();
        group.add(job);
        while group.batch.size_bytes() < MAX_GROUP_BYTES {
            let Ok(job) = jobs.try_recv() else { break };
            group.add(job);
        }
        let (is_synced, since) = (group.is_synced, Instant::now());
        if let Some(witness) = witness.as_mut().filter(|_| failed.is_none())
            && let Err(error) = group.write(&db, witness).await
        {
            error!(%error, "writing the raft log failed");
            failed = Some(Arc::new(error));
        }
        if is_synced && failed.is_none() {
            sync_time.record(since.elapsed());
        }
        if failed.is_none()
            && let Some(index) = group.written
        {
            tail.lock().written(index);
        }
        for ack in group.acks {
            ack.send(failed.as_ref());
        }
    }
}

impl Group {
    fn new() -> Self {
        Self {
            batch: Batch::default(),
            is_synced: false,
            committed: None,
            written: None,
            term: None,
            last: None,
            back_to: None,
            acks: Vec::new(),
        }
    }

    fn add(&mut self, job: Job) {
        match job {
            Job::Append { entries, flushed, budget } => {
                for entry in &entries {
                    self.batch.put(Family::Log, disk::key(entry.log_id.index()), record::encode(entry));
                }
                if let Some(last) = entries.last() {
                    self.written = Some(last.log_id.index() + 1);
                    self.last = Some(EntryId::of(&last.log_id));
                }
                self.is_synced = true;
                self.acks.push(Ack::Flushed(flushed, budget));
            }
            Job::Vote { vote, done } => {
                db::put_meta(&mut self.batch, db::VOTE, &vote);
                self.term = self.term.max(Some(vote.leader_id.term));
                self.is_synced = true;
                self.acks.push(Ack::Done(done));
            }
            Job::Truncate { from, end, last, done } => {
                self.delete(from, end);
                self.last = last.as_ref().map(EntryId::of);
                self.back_to = Some(self.back_to.map_or(self.last, |lowest| lowest.min(self.last)));
                self.written = Some(from);
                self.acks.push(Ack::Done(done));
            }
            Job::Purge { from, upto, done } => {
                db::put_meta(&mut self.batch, db::PURGED, &upto);
                self.delete(from, upto.index().saturating_add(1));
                self.acks.push(Ack::Done(done));
            }
            Job::Committed(id) => self.committed = Some(id),
        }
    }

    fn delete(&mut self, from: u64, end: u64) {
        if end.saturating_sub(from) > MAX_POINT_DELETES {
            self.batch.delete_range(Family::Log, disk::key(from), disk::key(end));
        } else {
            (from..end).for_each(|index| self.batch.delete(Family::Log, disk::key(index)));
        }
    }

    async fn write(&mut self, db: &Db, witness: &mut Witness) -> Result<(), Error> {
        if let Some(lowest) = self.back_to {
            witness.lower(lowest)?;
        }
        if let Some(committed) = self.committed {
            db::put_meta(&mut self.batch, db::COMMITTED, &committed);
        }
        db.engine().commit(std::mem::take(&mut self.batch), self.is_synced).await?;
        // Only what is synced. What is taken back is lower than what was there, and is not raised by it.
        if self.is_synced { witness.raise(db, self.term, self.last) } else { Ok(()) }
    }
}

impl Ack {
    fn send(self, failed: Option<&Arc<Error>>) {
        let result = match failed {
            None => Ok(()),
            Some(error) => Err(Error::WriterFailed(Arc::clone(error))),
        };
        match self {
            Self::Flushed(flushed, _) => flushed.io_completed(result.map_err(Into::into)),
            // Whoever asked may have gone away; the write stands.
            Self::Done(done) => drop(done.send(result)),
        }
    }
}
