//! A simulated disk with the store's database on it. Written is not kept: a machine that loses its power keeps everything
//! up to the last sync, and of what was written after that a beginning.

mod tables;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::future::{self, BoxFuture};
use goat_raft_store::engine::{Batch, Engine, Family, Pair, Pairs, Read, ViewWork, Work, Workshop};
use goat_raft_store::{Base, Error};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;

use crate::kernel::HostId;
use crate::witness::Witness;
pub(crate) use tables::Seen;
use tables::Tables;

/// How a disk behaves.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// A sync takes up to so long (ms); most take nothing that a clock would show.
    pub sync_ms: u64,
    /// Every sync takes exactly that long.
    pub is_steady: bool,
    /// Every sync fails.
    pub is_failing: bool,
    /// Syncs say that they are done, and are not: for the control, which must find that.
    pub is_lying: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self { sync_ms: 2, is_steady: false, is_failing: false, is_lying: false }
    }
}

#[derive(Debug)]
struct Inner {
    /// What would be there after a loss of power, at the least.
    kept: Tables,
    now: Tables,
    /// What `now` has and `kept` has not, in order.
    unsynced: Vec<Batch>,
    /// How many batches were made before those.
    synced: u64,
    health: Health,
    life: u64,
    random: StdRng,
}

/// A disk. It outlives its host's programs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Disk {
    host: HostId,
    inner: Arc<Mutex<Inner>>,
    witness: Witness,
}

impl Disk {
    pub fn new(host: HostId, seed: u64, witness: Witness) -> Self {
        let inner = Inner {
            kept: Tables::default(),
            now: Tables::default(),
            unsynced: Vec::new(),
            synced: 0,
            health: Health::default(),
            life: 0,
            random: StdRng::seed_from_u64(seed),
        };
        Self { host, inner: Arc::new(Mutex::new(inner)), witness }
    }

    pub fn set_health(&self, health: Health) {
        self.inner.lock().health = health;
    }

    /// The program that used it is gone; what it wrote is there.
    pub fn release(&self) {
        self.inner.lock().life += 1;
    }

    /// The power is gone.
    pub fn lose_power(&self) {
        let mut inner = self.inner.lock();
        inner.life += 1;
        let unsynced = std::mem::take(&mut inner.unsynced);
        let survive = inner.random.random_range(0..=unsynced.len());
        for batch in &unsynced[..survive] {
            inner.kept.make(batch);
        }
        inner.synced += survive as u64;
        inner.now = inner.kept.clone();
        self.witness.lost_power(self.host, &inner.now);
    }

    /// What a manager's store is opened on, by a program that has just started. As RocksDB does at its start, it first
    /// makes safe what it finds.
    pub fn base(&self) -> Base {
        let mut inner = self.inner.lock();
        inner.life += 1;
        let unsynced = std::mem::take(&mut inner.unsynced);
        unsynced.iter().for_each(|batch| inner.kept.make(batch));
        inner.synced += unsynced.len() as u64;
        let handle = Arc::new(Handle { disk: self.clone(), life: inner.life });
        Base { engine: handle.clone(), workshop: handle }
    }

    /// The applied rows.
    pub fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.inner.lock().now.rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// The disk in one life of its host's program.
#[derive(Debug)]
struct Handle {
    disk: Disk,
    life: u64,
}

impl Handle {
    fn failed(what: &'static str) -> Error {
        Error::Io { action: what, path: PathBuf::from("db"), source: io::Error::other("the simulated disk") }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> Result<T, Error> {
        let mut inner = self.disk.inner.lock();
        if inner.life == self.life { Ok(act(&mut inner)) } else { Err(Self::failed("use, after its end,")) }
    }

    /// Makes the changes; they can be lost. How many batches there are by then.
    fn make(&self, batch: Batch) -> Result<u64, Error> {
        self.with(|inner| {
            inner.now.make(&batch);
            self.disk
                .witness
                .written(self.disk.host, &batch, inner.now.digest, |key| inner.now.log.get(key).map(Vec::as_slice));
            inner.unsynced.push(batch);
            inner.synced + inner.unsynced.len() as u64
        })
    }

    /// Up to so many batches are kept from now on.
    fn sync(&self, upto: u64) -> Result<(), Error> {
        self.with(|inner| {
            if inner.health.is_failing {
                return Err(Self::failed("sync"));
            }
            if inner.health.is_lying {
                return Ok(());
            }
            let count = usize::try_from(upto.saturating_sub(inner.synced)).unwrap_or(0).min(inner.unsynced.len());
            let synced: Vec<Batch> = inner.unsynced.drain(..count).collect();
            synced.iter().for_each(|batch| inner.kept.make(batch));
            inner.synced += count as u64;
            Ok(())
        })?
    }
}

impl Read for Handle {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.with(|inner| inner.now.get(family, key))?
    }

    fn scan<'a>(&'a self, family: Family, from: &[u8], until: Option<&[u8]>) -> Pairs<'a> {
        let found: Result<Vec<_>, Error> = self.with(|inner| inner.now.scan(family, from, until).collect());
        match found {
            Ok(found) => Box::new(found.into_iter()),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn last(&self, family: Family) -> Result<Option<Pair>, Error> {
        self.with(|inner| inner.now.last(family))?
    }
}

impl Engine for Handle {
    fn write(&self, batch: Batch, is_synced: bool) -> Result<(), Error> {
        let upto = self.make(batch)?;
        if is_synced { self.sync(upto) } else { Ok(()) }
    }

    fn view(&self, show: &mut dyn FnMut(&dyn Read)) {
        let tables = self.disk.inner.lock().now.clone();
        show(&tables);
    }

    fn commit(&self, batch: Batch, is_synced: bool) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let upto = self.make(batch)?;
            if !is_synced {
                return Ok(());
            }
            let took_ms = self.with(|inner| {
                let sync_ms = inner.health.sync_ms;
                if inner.health.is_steady {
                    return sync_ms;
                }
                if inner.random.random_bool(0.75) { 0 } else { inner.random.random_range(0..=sync_ms) }
            })?;
            if took_ms > 0 {
                tokio::time::sleep(Duration::from_millis(took_ms)).await;
            }
            self.sync(upto)
        })
    }

    fn offload_view(self: Arc<Self>, taken: oneshot::Sender<()>, go: oneshot::Receiver<()>, work: ViewWork) {
        let tables = self.disk.inner.lock().now.clone();
        let _ = taken.send(());
        tokio::spawn(async move {
            if go.await.is_ok() {
                work(&tables);
            }
        });
    }
}

/// There is one thread: work is done where it is given.
impl Workshop for Handle {
    fn offload(&self, work: Work) -> BoxFuture<'static, Result<(), Error>> {
        work();
        Box::pin(future::ready(Ok(())))
    }

    fn run_writer(&self, writer: BoxFuture<'static, ()>) -> io::Result<Option<JoinHandle<()>>> {
        tokio::spawn(writer);
        Ok(None)
    }
}
