//! Rows as bytes, and the state from its rows.
//!
//! | key | value |
//! | --- | --- |
//! | `01` | meta: cluster id, clock, applied index |
//! | `02` service (8 bytes) | service |
//! | `03` service, spec version (8 bytes) | a spec that tasks still run and the service has moved on from |
//! | `04` task | task |
//! | `05` node | node |
//! | `06` request | the answer to a request, with its log index |
//! | `07` manager (8 bytes) | manager, those included that were removed |
//! | `08` | certificate authorities and join secrets |
//! | `09` node | when that node was removed (Unix ms, version) |
//! | `0a` name of a client | its certificates, and whether they are revoked |
//!
//! Numbers are big-endian. Values are in [`crate::codec`]'s encoding.

use std::sync::Arc;

use super::change::RowChange;
use super::command::Outcome;
use super::requests::Remembered;
use super::{Client, Meta, Revoked, Service, State, clients, security};
use crate::codec::{self, Versioned};
use crate::model::{Manager, Node, NodeId, RequestId, ServiceId, ServiceSpec, Task, TaskId};

impl Versioned for ServiceSpec {}
impl Versioned for Task {}
impl Versioned for Node {}
impl Versioned for Outcome {}

const META: u8 = 1;
const SERVICE: u8 = 2;
const OLD_SPEC: u8 = 3;
const TASK: u8 = 4;
const NODE: u8 = 5;
const REQUEST: u8 = 6;
const MANAGER: u8 = 7;
const SECURITY: u8 = 8;
const REVOKED: u8 = 9;
const CLIENT: u8 = 10;

/// What a row is, as far as others than its owner need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Service,
    Task,
    Node,
    /// Everything else that this build knows.
    Other,
}

impl Table {
    /// By the row's key; None for a key of another build.
    pub fn of(key: &[u8]) -> Option<Self> {
        match *key.first()? {
            SERVICE => Some(Self::Service),
            TASK => Some(Self::Task),
            NODE => Some(Self::Node),
            META | OLD_SPEC | REQUEST | MANAGER | SECURITY | REVOKED | CLIENT => Some(Self::Other),
            _ => None,
        }
    }
}

/// Rows that do not make a state.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error("unknown row key {0:02x?}; it was written by a newer build: upgrade this manager")]
    Key(Vec<u8>),
    #[error("the state's rows contradict each other: {0}")]
    Contradiction(String),
}

pub(super) fn meta_key() -> Vec<u8> {
    vec![META]
}

fn key(table: u8, id: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(table);
    key.extend(id.to_be_bytes());
    key
}

pub(super) fn service_key(id: ServiceId) -> Vec<u8> {
    key(SERVICE, id.bits())
}

pub(super) fn old_spec_key(id: ServiceId, version: u64) -> Vec<u8> {
    let mut key = key(OLD_SPEC, id.bits());
    key.extend(version.to_be_bytes());
    key
}

pub(super) fn task_key(id: TaskId) -> Vec<u8> {
    key(TASK, id.bits())
}

pub(super) fn node_key(id: NodeId) -> Vec<u8> {
    key(NODE, id.bits())
}

pub(super) fn request_key(id: RequestId) -> Vec<u8> {
    key(REQUEST, id.bits())
}

pub(super) fn manager_key(id: u64) -> Vec<u8> {
    key(MANAGER, id)
}

pub(super) fn revoked_key(id: NodeId) -> Vec<u8> {
    key(REVOKED, id.bits())
}

pub(super) fn client_key(name: &str) -> Vec<u8> {
    [&[CLIENT], name.as_bytes()].concat()
}

pub(super) fn security_key() -> Vec<u8> {
    vec![SECURITY]
}

pub(super) fn revoked_row(id: NodeId, revoked: Revoked) -> RowChange {
    RowChange { key: revoked_key(id), value: Some(codec::encode(&revoked)) }
}

fn parse_u64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// What [`State::newest_version`] of the rows is, where this is the row that says so.
pub fn newest_version_in(key: &[u8], value: &[u8]) -> Option<u64> {
    (key == meta_key()).then_some(())?;
    let meta: Meta = codec::decode("meta row", value).ok()?;
    Some(meta.index_base.saturating_add(meta.applied_index))
}

impl State {
    /// The state that wrote these rows.
    pub fn from_rows<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        rows: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, LoadError> {
        let mut state = Self::new();
        for (key, value) in rows {
            state.load_row(key.as_ref(), value.as_ref())?;
        }
        state.build_indexes()?;
        Ok(state)
    }

    fn load_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
        let unknown = || LoadError::Key(key.iter().copied().take(32).collect());
        match key.split_first() {
            Some((&META, [])) => self.meta = codec::decode_checked("meta row", value)?,
            Some((&SERVICE, _)) => {
                let service: Service = codec::decode("service row", value)?;
                self.services.insert(service.id, service);
            }
            Some((&OLD_SPEC, rest)) if rest.len() == 16 => {
                let service = parse_u64(&rest[..8]).ok_or_else(unknown)?;
                let version = parse_u64(&rest[8..]).ok_or_else(unknown)?;
                let spec: ServiceSpec = codec::decode("spec row", value)?;
                self.old_specs.insert((ServiceId::from_random(service), version), Arc::new(spec));
            }
            Some((&TASK, _)) => {
                let task: Task = codec::decode("task row", value)?;
                self.tasks.insert(task.id, task);
            }
            Some((&NODE, _)) => {
                let node: Node = codec::decode("node row", value)?;
                self.nodes.insert(node.id, node);
            }
            Some((&MANAGER, _)) => {
                let manager: Manager = codec::decode("manager row", value)?;
                self.managers.insert(manager.id, manager);
            }
            Some((&REVOKED, rest)) => {
                let id = NodeId::from_random(parse_u64(rest).ok_or_else(unknown)?);
                self.revoked.insert(id, codec::decode("revoked row", value)?);
            }
            Some((&CLIENT, _)) => {
                let client: Client = codec::decode("client row", value)?;
                self.clients.insert(client.name.clone(), client);
            }
            Some((&SECURITY, [])) => self.security = Some(security::read(value)?),
            Some((&REQUEST, rest)) => {
                self.load_request(RequestId::from_random(parse_u64(rest).ok_or_else(unknown)?), value)?;
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }

    fn load_request(&mut self, id: RequestId, value: &[u8]) -> Result<(), LoadError> {
        let remembered: Remembered = codec::decode("request row", value)?;
        self.requests.insert(id, remembered, value.len());
        Ok(())
    }

    fn build_indexes(&mut self) -> Result<(), LoadError> {
        self.requests.sort();
        for service in self.services.values() {
            self.index.service_names.insert(service.spec.name.clone(), service.id);
        }
        for node in self.nodes.values() {
            self.index.node_names.insert(node.name.clone(), node.id);
        }
        for task in self.tasks.values() {
            let Some(service) = self.services.get(&task.service) else {
                return Err(LoadError::Contradiction(format!("task {} has no service {}", task.id, task.service)));
            };
            let is_old = service.spec_version != task.spec_version;
            if is_old && !self.old_specs.contains_key(&(task.service, task.spec_version)) {
                return Err(LoadError::Contradiction(format!("task {} runs a spec that is not there", task.id)));
            }
            let tasks = &self.tasks;
            self.index.add_task(task, |id| tasks.get(&id).map_or(0, |task| task.attempt));
        }
        Ok(())
    }

    /// Every row, in the order of keys.
    pub fn rows(&self) -> Vec<RowChange> {
        let row = |key, value| RowChange { key, value: Some(value) };
        let mut rows = vec![row(meta_key(), codec::encode(&self.meta))];
        rows.extend(self.services.values().map(|service| row(service_key(service.id), codec::encode(service))));
        rows.extend(
            self.old_specs
                .iter()
                .map(|((service, version), old)| row(old_spec_key(*service, *version), codec::encode(&**old))),
        );
        rows.extend(self.tasks.values().map(|task| row(task_key(task.id), codec::encode(task))));
        rows.extend(self.nodes.values().map(|node| row(node_key(node.id), codec::encode(node))));
        rows.extend(self.managers.values().map(|manager| row(manager_key(manager.id), codec::encode(manager))));
        rows.extend(self.revoked.iter().map(|(id, revoked)| revoked_row(*id, *revoked)));
        rows.extend(self.security.iter().map(security::row));
        rows.extend(self.clients.values().map(clients::row));
        rows.extend(self.requests.iter().map(|(id, remembered)| row(request_key(*id), codec::encode(remembered))));
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        rows
    }

    /// A hash of all rows (FNV-1a): equal on managers that have applied the same commands.
    pub fn hash(&self) -> u64 {
        let mut hash = RowHash::default();
        for row in self.rows() {
            hash.add(&row.key, row.value.as_deref().unwrap_or_default());
        }
        hash.finish()
    }

    pub(super) fn meta_row(meta: &Meta) -> RowChange {
        RowChange { key: meta_key(), value: Some(codec::encode(meta)) }
    }
}

/// The hash of [`State::hash`], made row by row: of rows that are read from disk, in the order of their keys.
#[derive(Debug, Clone, Copy)]
pub struct RowHash(u64);

impl Default for RowHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl RowHash {
    /// Adds the next row.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        for byte in key.iter().chain(value) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Returns the hash of all rows so far.
    pub const fn finish(self) -> u64 {
        self.0
    }
}
