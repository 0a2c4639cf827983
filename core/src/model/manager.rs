//! A manager, as the managers replicate it. Raft's own membership follows these rows (see [`crate::membership`]).

use serde::{Deserialize, Serialize};

/// What a manager is meant to be in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Votes, as soon as it has caught up.
    Voter,
    /// Follows the log and does not vote.
    Learner,
    /// No member any more. The row stays, so that it is told so when it comes back, and so that its number is not given
    /// to another one.
    Removed,
}

impl Standing {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::Removed => "removed",
        }
    }
}

/// A manager's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    /// Its number in the group: from 1, never used again.
    pub id: u64,
    pub name: String,
    /// `HOST:PORT` where managers, workers and clients reach it.
    pub address: String,
    pub standing: Standing,
    /// Unix ms, by the state's clock.
    pub joined_at_ms: u64,
    /// The log index of its last change.
    pub version: u64,
}

impl Manager {
    /// Whether it is to be a member of the group.
    pub fn is_member(&self) -> bool {
        self.standing != Standing::Removed
    }
}
