//! What a failed task's reason says of whose fault it was, and so of what helps: another node, patience, or a person.
//!
//! | fault | reasons | cure |
//! | --- | --- | --- |
//! | its own | all others | the restart policy; another node after two failures on one |
//! | its node's | `disk-full`, `runtime-down` | another node, at once, whatever the policy says: the task is not to blame |
//! | the registry's | `registry-unreachable`, `image-pull-failed` | another node, after a wait, whatever the policy says |
//! | the image's, on such a node | `wrong-platform` | another node, which may be of the image's architecture; the restart policy |
//! | the image's | `image-not-found`, `pull-denied` | the policy, with long waits: every node would fail alike until somebody mends the name, the registry or the credentials |

use super::restart::backoff_ms;
use crate::model::{RestartPolicy, Task, TaskState};

/// The wait after the first failure to find the image; doubled with each.
const IMAGE_DELAY_MS: u64 = 30_000;
const IMAGE_MAX_DELAY_MS: u64 = 600_000;

/// Whose fault a failure was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Own,
    Node,
    Registry,
    Platform,
    Image,
}

impl Fault {
    /// Of a task that has ended.
    pub(super) fn of(ended: &Task) -> Self {
        if ended.state != TaskState::Failed {
            return Self::Own;
        }
        match ended.reason.as_deref() {
            Some("disk-full" | "runtime-down") => Self::Node,
            Some("registry-unreachable" | "image-pull-failed") => Self::Registry,
            Some("wrong-platform") => Self::Platform,
            Some("image-not-found" | "pull-denied") => Self::Image,
            _ => Self::Own,
        }
    }

    /// Whether one failure is enough to look for another node first.
    pub(super) const fn is_elsewhere_better(self) -> bool {
        matches!(self, Self::Node | Self::Registry | Self::Platform)
    }

    /// Whether the slot is owed another attempt even where the restart policy is against it.
    pub(super) const fn is_excused(self) -> bool {
        matches!(self, Self::Node | Self::Registry | Self::Platform)
    }

    /// The wait before the n-th attempt in a row.
    pub(super) fn wait_ms(self, policy: &RestartPolicy, failures: u32, random: u64) -> u64 {
        match self {
            Self::Own | Self::Node | Self::Platform => backoff_ms(policy, failures, random),
            // A first restart at once helps what fell by chance, not this.
            Self::Registry => backoff_ms(policy, failures.saturating_add(1), random),
            Self::Image => {
                let delay_ms = policy.delay_ms.max(IMAGE_DELAY_MS);
                let max_delay_ms = policy.max_delay_ms.max(IMAGE_MAX_DELAY_MS);
                let patient = RestartPolicy { delay_ms, max_delay_ms, ..policy.clone() };
                backoff_ms(&patient, failures.saturating_add(1), random)
            }
        }
    }
}
