//! A disk in memory that forgets what was not synced, and writes the log only when it is told.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use futures::future::BoxFuture;
use goat_raft_store::engine::{Batch, Change, Engine, Family, Pair, Pairs, Read, Work, Workshop};
use goat_raft_store::{Base, Error};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

#[derive(Debug, Default, Clone)]
pub struct Tables(pub BTreeMap<(Family, Vec<u8>), Vec<u8>>);

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
pub struct Disk {
    pub now: Mutex<Tables>,
    /// What would be there after a loss of power.
    pub kept: Mutex<Tables>,
    /// One for each write of the log's that has been asked for.
    pub begun: Semaphore,
    /// One for each that may be made.
    pub gate: Semaphore,
}

impl Disk {
    pub fn of(tables: Tables, writes: usize) -> Arc<Self> {
        let (begun, gate) = (Semaphore::new(0), Semaphore::new(writes));
        Arc::new(Self { now: Mutex::new(tables.clone()), kept: Mutex::new(tables), begun, gate })
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
pub struct Here;

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

/// What a store is opened on.
pub fn base(disk: &Arc<Disk>) -> Base {
    Base { engine: disk.clone(), workshop: Arc::new(Here) }
}
