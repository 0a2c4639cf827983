//! On a disk that forgets what was not synced, and that syncs when it is told: nothing is acknowledged before it is kept.

mod common;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use common::{Toy, options, put};
use futures::FutureExt;
use futures::future::BoxFuture;
use goat_raft_store::engine::{Batch, Change, Engine, Family, Pair, Pairs, Read, Work, Workshop};
use goat_raft_store::{Base, Error, LogStore, TypeConfig};
use openraft::alias::VoteOf;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::type_config::TypeConfigExt;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Semaphore;

#[derive(Debug, Default, Clone)]
struct Tables(BTreeMap<(Family, Vec<u8>), Vec<u8>>);

impl Tables {
    fn make(&mut self, batch: &Batch) {
        for change in batch.changes() {
            match change.clone() {
                Change::Put(family, key, value) => drop(self.0.insert((family, key), value)),
                Change::Delete(family, key) => drop(self.0.remove(&(family, key))),
                Change::DeleteRange(of, from, until) => {
                    self.0.retain(|(family, key), _| *family != of || *key < from || *key >= until);
                }
            }
        }
    }
}

impl Read for Tables {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.get(&(family, key.to_vec())).cloned())
    }

    fn scan<'a>(&'a self, family: Family, from: &[u8], until: Option<&[u8]>) -> Pairs<'a> {
        let (from, until) = (from.to_vec(), until.map(<[u8]>::to_vec));
        let of_family = self.0.iter().filter(move |((of, _), _)| *of == family);
        let in_range =
            of_family.filter(move |((_, key), _)| *key >= from && until.as_ref().is_none_or(|until| key < until));
        Box::new(in_range.map(|((_, key), value)| Ok((key.clone().into(), value.clone().into()))))
    }

    fn last(&self, family: Family) -> Result<Option<Pair>, Error> {
        self.scan(family, &[], None).last().transpose()
    }
}

#[derive(Debug)]
struct Disk {
    now: Mutex<Tables>,
    /// What would be there after a loss of power.
    kept: Mutex<Tables>,
    /// One for each write of the log's that has been asked for.
    begun: Semaphore,
    /// One for each that may be made.
    gate: Semaphore,
}

impl Disk {
    fn of(tables: Tables, writes: usize) -> Arc<Self> {
        let (begun, gate) = (Semaphore::new(0), Semaphore::new(writes));
        Arc::new(Self { now: Mutex::new(tables.clone()), kept: Mutex::new(tables), begun, gate })
    }

    /// The log as it is found after a loss of power.
    async fn after_the_power_was_lost(&self) -> (LogStore, TempDir) {
        let tables = self.kept.lock().clone();
        open(&Self::of(tables, Semaphore::MAX_PERMITS))
    }
}

impl Read for Disk {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.now.lock().get(family, key)
    }

    fn scan<'a>(&'a self, family: Family, from: &[u8], until: Option<&[u8]>) -> Pairs<'a> {
        let found: Vec<_> = self.now.lock().scan(family, from, until).collect();
        Box::new(found.into_iter())
    }

    fn last(&self, family: Family) -> Result<Option<Pair>, Error> {
        self.now.lock().last(family)
    }
}

impl Engine for Disk {
    fn write(&self, batch: Batch, is_synced: bool) -> Result<(), Error> {
        let mut now = self.now.lock();
        now.make(&batch);
        if is_synced {
            *self.kept.lock() = now.clone();
        }
        Ok(())
    }

    fn view(&self, show: &mut dyn FnMut(&dyn Read)) {
        show(&self.now.lock().clone());
    }

    fn commit(&self, batch: Batch, is_synced: bool) -> BoxFuture<'_, Result<(), Error>> {
        self.begun.add_permits(1);
        Box::pin(async move {
            self.gate.acquire().await.expect("nobody closes it").forget();
            self.write(batch, is_synced)
        })
    }
}

#[derive(Debug)]
struct Here;

impl Workshop for Here {
    fn offload(&self, work: Work) -> BoxFuture<'static, Result<(), Error>> {
        work();
        Box::pin(std::future::ready(Ok(())))
    }

    fn run_writer(&self, writer: BoxFuture<'static, ()>) -> io::Result<Option<JoinHandle<()>>> {
        drop(tokio::spawn(writer));
        Ok(None)
    }
}

fn open(disk: &Arc<Disk>) -> (LogStore, TempDir) {
    let dir = TempDir::new().unwrap();
    let base = Base { engine: disk.clone(), workshop: Arc::new(Here) };
    let (log, _) = goat_raft_store::open_base(options(dir.path()), Toy::default(), base).unwrap();
    (log, dir)
}

#[tokio::test]
async fn what_is_acknowledged_is_kept_when_the_power_goes() {
    let disk = Disk::of(Tables::default(), Semaphore::MAX_PERMITS);
    let (mut log, _dir) = open(&disk);
    for term in 1..20 {
        let vote = VoteOf::<TypeConfig>::new(term, 1);
        log.save_vote(&vote).await.unwrap();
        let (mut found, _dir) = disk.after_the_power_was_lost().await;
        assert_eq!(found.read_vote().await.unwrap(), Some(vote), "an acknowledged vote");

        let entry = put(term, term - 1, "key=value");
        log.blocking_append(vec![entry.clone()]).await.unwrap();
        let (mut found, _dir) = disk.after_the_power_was_lost().await;
        let last = found.try_get_log_entries(term - 1..).await.unwrap();
        assert_eq!(last, [entry], "an acknowledged entry");
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_written() {
    let disk = Disk::of(Tables::default(), 0);
    let (mut log, _dir) = open(&disk);
    let (done, mut flushed) = TypeConfig::oneshot();
    log.append(vec![put(1, 0, "key=value")], IOFlushed::signal(done)).await.unwrap();
    disk.begun.acquire().await.unwrap().forget();
    assert!(flushed.try_recv().is_err(), "an entry that is being written is acknowledged");
    disk.gate.add_permits(1);
    flushed.await.unwrap().unwrap();

    let vote = VoteOf::<TypeConfig>::new(1, 1);
    let mut saving = std::pin::pin!(log.save_vote(&vote));
    assert!(saving.as_mut().now_or_never().is_none());
    disk.begun.acquire().await.unwrap().forget();
    assert!(saving.as_mut().now_or_never().is_none(), "a vote that is being written is acknowledged");
    disk.gate.add_permits(1);
    saving.await.unwrap();
}
