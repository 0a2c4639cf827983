//! How a leader of the simulation keeps its leases: as it must, or wrongly, so that it can be found out.

use goat_core::lease::LeasePolicy;

/// How a leader keeps its side of the leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leading {
    AsItMust,
    /// Takes a lease's end for the end of the task.
    ForgetsTheKill,
    /// Takes its election for proof that nobody holds a lease whom it has not granted one itself.
    ForgetsItsPredecessor,
}

impl Leading {
    pub fn policy(self, policy: LeasePolicy) -> LeasePolicy {
        match self {
            Self::ForgetsTheKill => LeasePolicy { kill_ms: 0, ..policy },
            // Who was not granted a lease by itself goes down at once.
            Self::ForgetsItsPredecessor => LeasePolicy { down_after_ms: 1, ..policy },
            Self::AsItMust => policy,
        }
    }
}
