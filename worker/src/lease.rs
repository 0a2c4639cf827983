//! This worker's lease: how long its tasks are still its own without a word from a leader.
//!
//! Counted from the moment a heartbeat was *sent*, on CLOCK_BOOTTIME (`goat_core::lease` says why). The deadline is kept
//! in a file too, so that an agent restarted within it goes on; unsynced, since nothing of it outlives the machine.
//! What happens at its end is the reconciler's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use goat_core::lease::WorkerLease;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::{clock, durable};

/// Between looks at the clock. Short against the time that is left for killing.
const MAX_WAIT_MS: u64 = 100;

#[derive(Debug, Serialize, Deserialize)]
struct LeaseFile {
    boot_id: String,
    deadline_ms: u64,
}

/// The lease. It is valid from a grant to its deadline; [`Lease::keep`] notices the latter.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    boot_id: String,
    current: Mutex<Option<WorkerLease>>,
    renewed: Notify,
    is_valid: watch::Sender<bool>,
}

impl Lease {
    /// As it was left by the agent before, if that was in this boot of the machine. `root`: the data directory.
    pub fn open(root: &Path) -> Result<Self, durable::Error> {
        let (path, boot_id) = (root.join("lease.json"), clock::boot_id());
        let left: Option<LeaseFile> = durable::read(&path)?;
        let left = left.filter(|left| left.boot_id == boot_id && !boot_id.is_empty());
        let current = left.map(|left| WorkerLease { sent_ms: left.deadline_ms, ttl_ms: 0 });
        let is_valid = current.is_some_and(|lease| !lease.is_expired(clock::boot_ms()));
        Ok(Self {
            path,
            boot_id,
            current: Mutex::new(current),
            renewed: Notify::new(),
            is_valid: watch::Sender::new(is_valid),
        })
    }

    /// Whether it is valid; changes are noticed while [`Lease::keep`] runs.
    pub fn validity(&self) -> watch::Receiver<bool> {
        self.is_valid.subscribe()
    }

    /// A heartbeat sent at `sent_ms` (CLOCK_BOOTTIME) was granted for `ttl_ms`.
    pub fn granted(&self, sent_ms: u64, ttl_ms: u64) {
        let deadline_ms = {
            let mut current = self.current.lock();
            let mut lease = current.unwrap_or(WorkerLease { sent_ms, ttl_ms });
            // One read from the file has its deadline for a beginning, which no grant may move back.
            if lease.ttl_ms == 0 && lease.deadline_ms() > sent_ms.saturating_add(ttl_ms) {
                return;
            }
            if lease.ttl_ms == 0 {
                lease = WorkerLease { sent_ms, ttl_ms };
            }
            lease.ttl_ms = ttl_ms;
            lease.renewed(sent_ms);
            *current = Some(lease);
            lease.deadline_ms()
        };
        let file = LeaseFile { boot_id: self.boot_id.clone(), deadline_ms };
        if let Err(error) = durable::write_unsynced(&self.path, &file) {
            warn!(%error, "the lease could not be kept for the next agent");
        }
        self.renewed.notify_one();
    }

    fn deadline_ms(&self) -> Option<u64> {
        self.current.lock().map(|lease| lease.deadline_ms())
    }

    /// Tells [`Lease::validity`] of each change; never ends. The runtime's timers do not count suspend as the lease does,
    /// so that the clock is looked at in between: a machine that wakes up late notices at once.
    pub async fn keep(&self) {
        loop {
            let deadline_ms = self.deadline_ms().unwrap_or(0);
            let left_ms = deadline_ms.saturating_sub(clock::boot_ms());
            let is_valid = left_ms > 0;
            self.is_valid.send_if_modified(|valid| std::mem::replace(valid, is_valid) != is_valid);
            if is_valid {
                let wait_ms = left_ms.min(MAX_WAIT_MS);
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            } else {
                self.renewed.notified().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn until(validity: &mut watch::Receiver<bool>, wanted: bool) {
        let waited = tokio::time::timeout(Duration::from_secs(5), validity.wait_for(|valid| *valid == wanted));
        waited.await.expect("it changes in time").expect("the lease is kept");
    }

    #[tokio::test]
    async fn a_lease_is_valid_from_its_grant_to_its_end_and_again_after_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let lease = Arc::new(Lease::open(dir.path()).expect("opened"));
        let mut validity = lease.validity();
        assert!(!*validity.borrow());
        let keeper = tokio::spawn({
            let lease = lease.clone();
            async move { lease.keep().await }
        });
        for _ in 0..2 {
            let sent_ms = clock::boot_ms();
            lease.granted(sent_ms, 150);
            until(&mut validity, true).await;
            until(&mut validity, false).await;
            assert!(clock::boot_ms() >= sent_ms + 150);
        }
        keeper.abort();
    }

    #[test]
    fn an_agent_restarted_within_its_lease_still_has_it_and_a_later_one_has_not() {
        let dir = tempfile::tempdir().expect("a directory");
        Lease::open(dir.path()).expect("opened").granted(clock::boot_ms(), 60_000);
        let again = Lease::open(dir.path()).expect("opened again");
        assert!(*again.validity().borrow());
        again.granted(clock::boot_ms(), 1_000);
        assert!(again.deadline_ms() > Some(clock::boot_ms() + 30_000), "a grant takes nothing back");
        let file = LeaseFile { boot_id: clock::boot_id(), deadline_ms: clock::boot_ms() };
        durable::write(&dir.path().join("lease.json"), &file).expect("written");
        assert!(!*Lease::open(dir.path()).expect("opened late").validity().borrow());
    }
}
