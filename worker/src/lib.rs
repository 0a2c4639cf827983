//! GOAT's worker agent: holds a session with whichever manager leads, and makes what runs on this machine what managers
//! want to run on it. It decides nothing about the cluster; losing every manager changes nothing for tasks that are not
//! leased. `docs/worker.md` has the whole picture.
#![forbid(unsafe_code)]

pub mod agent;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod disk;
pub mod durable;
pub mod fence;
pub mod health;
pub mod housekeeping;
pub mod http;
pub mod identity;
pub mod inventory;
pub mod journal;
pub mod lease;
pub mod man;
pub mod metrics;
pub mod notify;
pub mod outbox;
pub mod peers;
pub mod reconciler;
pub mod runtime;
pub mod session;
pub mod task;
pub mod taskset;
