//! A toy state machine, and entries for it. Shared by the tests; holds no test itself.
#![allow(dead_code, reason = "an example uses a part of it")]

pub mod cluster;
pub mod disk;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goat_raft_store::{
    EntryId, Error, Identity, LogStore, MachineStore, Member, Options, Payload, Reply, Restored, RowChanges,
    StateMachine, TypeConfig,
};
use openraft::EntryPayload;
use openraft::alias::{EntryOf, LogIdOf};
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogStorageExt, RaftStateMachine};
use parking_lot::Mutex;

pub type Entry = EntryOf<TypeConfig>;
pub type LogId = LogIdOf<TypeConfig>;
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a [`Toy`] was asked to do.
#[derive(Debug, Default)]
pub struct Seen {
    pub rows: Rows,
    /// Since the toy was made.
    pub applied: Vec<EntryId>,
    pub published: Option<EntryId>,
    pub restored: usize,
}

/// Keeps the pairs it is sent; its reply is the number of pairs.
#[derive(Debug, Default, Clone)]
pub struct Toy(pub Arc<Mutex<Seen>>);

impl StateMachine for Toy {
    fn restore(&mut self, rows: &mut dyn Iterator<Item = (Box<[u8]>, Box<[u8]>)>) -> Restored {
        let rows: Rows = rows.map(|(key, value)| (key.into_vec(), value.into_vec())).collect();
        if rows.contains_key(b"poison".as_slice()) {
            return Err("poisoned".into());
        }
        let mut seen = self.0.lock();
        seen.rows = rows;
        seen.restored += 1;
        Ok(None)
    }

    fn apply(&mut self, at: EntryId, command: &[u8], rows: &mut RowChanges) -> Reply {
        let mut seen = self.0.lock();
        let split = command.iter().position(|byte| *byte == b'=');
        let (key, value) = split.map_or((command, &[][..]), |split| (&command[..split], &command[split + 1..]));
        if value.is_empty() {
            seen.rows.remove(key);
            rows.delete(key);
        } else {
            seen.rows.insert(key.to_vec(), value.to_vec());
            rows.put(key, value);
        }
        seen.applied.push(at);
        Reply(seen.rows.len().to_string().into())
    }

    fn published(&mut self, at: EntryId) {
        self.0.lock().published = Some(at);
    }
}

impl Toy {
    pub fn rows(&self) -> Rows {
        self.0.lock().rows.clone()
    }
}

pub fn log_id(term: u64, index: u64) -> LogId {
    openraft::testing::log_id::<TypeConfig>(term, 1, index)
}

pub fn put(term: u64, index: u64, command: impl Into<Vec<u8>>) -> Entry {
    Entry::new(log_id(term, index), EntryPayload::Normal(Payload(command.into().into())))
}

pub fn membership(term: u64, index: u64) -> Entry {
    let member = |id: u64| (id, Member { name: format!("m{id}"), address: format!("127.0.0.1:{id}") });
    let members: BTreeMap<u64, Member> = (1..=3).map(member).collect();
    let voters: std::collections::BTreeSet<u64> = members.keys().copied().collect();
    let membership = openraft::Membership::new(vec![voters], members).expect("every voter is a member");
    Entry::new(log_id(term, index), EntryPayload::Membership(membership))
}

pub fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_path_buf(),
        identity: Identity { cluster_id: None, node_id: 1 },
        cached_entries: 16,
        ..Options::default()
    }
}

/// A store over a toy, and the toy.
pub struct Store {
    pub log: LogStore,
    pub machine: MachineStore<Toy>,
    pub toy: Toy,
}

pub fn try_open(dir: &Path) -> Result<Store, Error> {
    let toy = Toy::default();
    goat_raft_store::open(options(dir), toy.clone()).map(|(log, machine)| Store { log, machine, toy })
}

/// Opens a directory that this process has just closed: background work on it may still be ending.
pub fn reopen(dir: &Path) -> Store {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match try_open(dir) {
            Err(Error::Locked { .. }) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            opened => return opened.expect("a directory that was closed opens"),
        }
    }
}

impl Store {
    pub async fn append(&mut self, entries: Vec<Entry>) {
        self.log.blocking_append(entries).await.expect("an append to a healthy disk");
    }

    pub async fn apply(&mut self, entries: Vec<Entry>) {
        let entries = futures::stream::iter(entries.into_iter().map(|entry| Ok((entry, None))));
        self.machine.apply(entries).await.expect("an apply on a healthy disk");
    }

    /// Appends and applies `put`s of `key-I=value-I` for a range of indexes.
    pub async fn fill(&mut self, range: std::ops::Range<u64>) {
        let entries: Vec<Entry> =
            range.map(|index| put(1, index, format!("key-{:03}=value-{index}", index % 100))).collect();
        self.append(entries.clone()).await;
        self.apply(entries).await;
    }

    pub async fn snapshot(&mut self) -> openraft::alias::SnapshotOf<TypeConfig, goat_raft_store::SnapshotFile> {
        use openraft::storage::RaftSnapshotBuilder;
        let mut builder = self.machine.try_create_snapshot_builder(true).await.expect("forced");
        builder.build_snapshot().await.expect("a snapshot on a healthy disk")
    }
}
