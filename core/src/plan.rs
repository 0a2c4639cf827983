//! What planners return: steps with typed reasons, printable, and when to look again.

use std::fmt;

use crate::state::command::Step;

/// A planner's decisions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// The time it was made for (Unix ms): what its command has to carry, so that the state's clock goes on with it.
    pub at_ms: u64,
    /// When a wait ends that this plan left open (Unix ms): plan again then, even if nothing changes.
    pub wake_at_ms: Option<u64>,
}

impl Plan {
    /// Whether there is nothing to do now.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Asks to be planned again at `at_ms`, or earlier where that was asked before.
    pub fn wake_at(&mut self, at_ms: u64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }

    /// This plan followed by another.
    pub fn extend(&mut self, other: Self) {
        self.steps.extend(other.steps);
        if let Some(at_ms) = other.wake_at_ms {
            self.wake_at(at_ms);
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return f.write_str("nothing");
        }
        for (i, step) in self.steps.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            match step {
                Step::CreateTask(new) => {
                    write!(
                        f,
                        "create {} {}.{} attempt {} ({})",
                        new.id,
                        new.service,
                        new.slot,
                        new.attempt,
                        new.cause.as_str()
                    )?;
                    if let Some(node) = new.node {
                        write!(f, " on {node}")?;
                    }
                }
                Step::Assign { task, node, .. } => write!(f, "assign {task} to {node}")?,
                Step::Explain { task, error, .. } => write!(f, "leave {task} pending: {error}")?,
                Step::Desire { task, desired, cause, .. } => write!(f, "want {task} {desired:?} ({})", cause.as_str())?,
                Step::Forget { task, .. } => write!(f, "forget {task}")?,
                Step::ForgetService { service, .. } => write!(f, "forget service {service}")?,
            }
        }
        Ok(())
    }
}
