//! The few facts of the replicated state that Raft's own path needs: which managers and nodes were removed, the managers'
//! names and addresses, and the format in use.
//!
//! Each append, vote and heartbeat that arrives asks whether its sender was removed. If that took the state's lock, whatever
//! holds the lock for long (a large command, a debug report, a plan) would delay Raft, and with it elections and leases.
//! The machine publishes a new directory when a command has changed one of these facts; readers clone a pointer.

use std::collections::{BTreeMap, HashSet};

use goat_core::model::NodeId;
use goat_core::state::State;
use goat_core::state::change::ChangeSet;

/// See the module.
#[derive(Debug)]
pub struct Directory {
    managers: BTreeMap<u64, Known>,
    /// Numbers of managers below it were given out.
    next_manager: u64,
    revoked: HashSet<NodeId>,
    format: u8,
}

#[derive(Debug)]
struct Known {
    name: String,
    address: String,
    is_member: bool,
}

impl Directory {
    /// As the state has it. O(managers + revoked nodes).
    pub fn of(state: &State) -> Self {
        let known = state.managers().map(|manager| {
            let (name, address) = (manager.name.clone(), manager.address.clone());
            (manager.id, Known { name, address, is_member: manager.is_member() })
        });
        Self {
            managers: known.collect(),
            next_manager: state.next_manager(),
            revoked: state.revoked().collect(),
            format: state.format(),
        }
    }

    /// Whether a command may have changed one of the facts. `format`: the one in use after the command.
    pub(crate) fn is_touched(&self, changes: &ChangeSet, format: u8) -> bool {
        format != self.format
            || changes.security
            || !changes.managers.is_empty()
            || changes.nodes.iter().any(|node| node.to.is_none())
    }

    /// As `State::is_removed_manager`.
    pub fn is_removed_manager(&self, id: u64) -> bool {
        self.managers.get(&id).map_or(id < self.next_manager, |known| !known.is_member)
    }

    /// Whether the node was removed and its certificate may still be valid.
    pub fn is_revoked(&self, id: NodeId) -> bool {
        self.revoked.contains(&id)
    }

    /// A manager's name; `None` if the state does not know the manager.
    pub fn name(&self, id: u64) -> Option<&str> {
        self.managers.get(&id).map(|known| known.name.as_str())
    }

    /// A manager's address; `None` if the state does not know the manager.
    pub fn address(&self, id: u64) -> Option<&str> {
        self.managers.get(&id).map(|known| known.address.as_str())
    }

    /// The newest format that commands and rows may have.
    pub const fn format(&self) -> u8 {
        self.format
    }
}
