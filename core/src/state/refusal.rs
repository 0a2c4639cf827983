//! Why a command changed nothing, in words for whoever asked for it.

use serde::{Deserialize, Serialize};

use crate::model::{ClusterId, NodeId, NodeState, ServiceId};

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("the cluster already has the id {id}")]
    ClusterExists { id: ClusterId },
    #[error("a service named {name:?} exists already; choose another name, or change it with `goatctl service update`")]
    NameTaken { name: String },
    #[error(
        "a service named {name:?} is being removed, and its name is free when its last task has ended: wait until \
         `goatctl service ls` does not list it, or choose another name"
    )]
    NameInRemoval { name: String },
    #[error("no service {id}")]
    NoSuchService { id: ServiceId },
    #[error("service {name:?} is being removed")]
    ServiceRemoved { name: String },
    #[error("no node {id}")]
    NoSuchNode { id: NodeId },
    #[error(
        "node {id} was removed from the cluster: to let its machine take part again, empty its data directory and let it join anew"
    )]
    NodeRemoved { id: NodeId },
    #[error(
        "node {name:?} is {state}; one must be down, or drained and empty, to go{until}", state = .state.as_str(),
        until = until_down(*.state)
    )]
    NodeNotDown { name: String, state: NodeState },
    #[error("a node named {name:?} exists already with another id and is not down; give this worker another name")]
    NodeNameTaken { name: String },
    #[error("no manager {id}")]
    NoSuchManager { id: u64 },
    #[error(
        "a manager named {name:?} is a member already, with the number {id}: choose another name; or, if that one is gone \
         for good, `goatctl manager rm {name}` first"
    )]
    ManagerNameTaken { name: String, id: u64 },
    #[error("the manager {name} has the address {address} already; give each its own")]
    ManagerAddressTaken { address: String, name: String },
    #[error("manager {name:?} was removed and does not come back: let it join anew, with an empty data directory")]
    ManagerRemoved { name: String },
    #[error("{name} is the last voting manager, and without one there is no cluster; add another one first")]
    LastManager { name: String },
    #[error("it has changed meanwhile (version {found}, seen {seen}); look again and repeat")]
    Stale { seen: u64, found: u64 },
    #[error("{field}: {problem}")]
    Invalid { field: String, problem: String },
    #[error("{what}")]
    Impossible { what: String },
}

/// What brings a silent node there.
const fn until_down(state: NodeState) -> &'static str {
    match state {
        NodeState::Disconnected => {
            " (a silent one is down in seconds where another worker is heard; if there is none, start one)"
        }
        NodeState::Ready | NodeState::Down => "",
    }
}
