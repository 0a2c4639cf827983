//! The domain of GOAT and every decision it takes.
//!
//! Pure and deterministic: nothing here reads a clock, draws a random number, logs, awaits or does I/O. Time, ids and
//! seeds come in as arguments and travel inside commands, so that production, simulator and tests run the same code.
//!
//! ```text
//! model         what there is: ids, specs, resources, tasks, nodes
//! state         the replicated tables; Command -> apply -> ChangeSet
//! orchestrator  which tasks there should be        \
//! scheduler     where a task should run             >  plan(&state, .., now, seed) -> Plan
//! lease         when a worker's tasks may be moved /
//! membership    the next step of the managers' group towards what its rows say
//! isolation     whether a worker is cut off, or its managers are gone
//! archive       a cluster's state as one file
//! check         what must never be, judged independently of the code above
//! ```
#![forbid(unsafe_code)]

pub mod archive;
pub mod capacity;
pub mod check;
pub mod codec;
pub mod isolation;
pub mod lease;
pub mod membership;
pub mod model;
pub mod orchestrator;
pub mod plan;
pub mod scheduler;
pub mod state;
pub mod undo;
