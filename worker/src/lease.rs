//! This worker's lease: how long its tasks are still its own without a word from a leader.
//!
//! Counted from the moment a heartbeat was *sent*, on CLOCK_BOOTTIME (`goat_core::lease` says why). It is kept in a file
//! too: for the watchdog, and for an agent that is restarted within it. The file is overwritten in place, so that a full
//! disk ends no lease, and never synced, since nothing of it outlives the machine. What happens at the lease's end is the
//! reconciler's. Other workers can shelter some tasks beyond it (`peers`).

mod file;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use goat_core::lease::WorkerLease;
use goat_core::model::OnDisconnect;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::clock;
use crate::durable::Error;

pub use file::LeaseFile;

/// Between looks at the clock. Short against the time that is left for killing.
const MAX_WAIT_MS: u64 = 100;

/// What may run now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Validity {
    /// The lease runs: everything may.
    pub is_leased: bool,
    /// It runs, or other workers say that the managers are gone: what stops only in isolation may.
    pub is_sheltered: bool,
}

#[derive(Debug, Default)]
struct Current {
    lease: Option<WorkerLease>,
    sheltered_until_ms: u64,
}

impl Current {
    fn validity(&self, now_ms: u64) -> Validity {
        let is_leased = self.lease.is_some_and(|lease| !lease.is_expired(now_ms));
        Validity { is_leased, is_sheltered: is_leased || now_ms < self.sheltered_until_ms }
    }

    /// When the validity may change next by the clock alone.
    fn next_change_ms(&self, now_ms: u64) -> Option<u64> {
        let ends = [self.lease.map_or(0, |lease| lease.deadline_ms()), self.sheltered_until_ms];
        ends.into_iter().filter(|end_ms| *end_ms > now_ms).min()
    }
}

/// The lease. It is valid from a grant to its deadline; [`Lease::keep`] notices the latter.
#[derive(Debug)]
pub struct Lease {
    file: File,
    boot_id: String,
    current: Mutex<Current>,
    changed: Notify,
    validity: watch::Sender<Validity>,
}

impl Lease {
    /// As it was left by the agent before, if that was in this boot of the machine. `root`: the data directory.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let path = file::path(root);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|source| Error::Io { path, source })?;
        let left = LeaseFile::read(root)?;
        let current = left.map_or_else(Current::default, |left| Current {
            lease: Some(left.lease()),
            // An older agent's evidence: it is asked for anew.
            sheltered_until_ms: 0,
        });
        let validity = current.validity(clock::boot_ms());
        Ok(Self {
            file,
            boot_id: clock::boot_id(),
            current: Mutex::new(current),
            changed: Notify::new(),
            validity: watch::Sender::new(validity),
        })
    }

    /// What may run; changes are noticed while [`Lease::keep`] runs.
    pub fn validity(&self) -> watch::Receiver<Validity> {
        self.validity.subscribe()
    }

    /// Whether a task may run at this moment, by the clock.
    pub fn allows(&self, on_disconnect: OnDisconnect) -> bool {
        let validity = self.current.lock().validity(clock::boot_ms());
        match on_disconnect {
            OnDisconnect::Keep => true,
            OnDisconnect::Stop => validity.is_leased,
            OnDisconnect::StopIfIsolated => validity.is_sheltered,
        }
    }

    /// A heartbeat sent at `sent_ms` (CLOCK_BOOTTIME) was granted for `ttl_ms`. An answer that comes late or twice
    /// changes nothing. Returns whether the lease counts from it from now on, for the watchdog too.
    pub fn granted(&self, sent_ms: u64, ttl_ms: u64) -> bool {
        let mut current = self.current.lock();
        if current.lease.is_some_and(|lease| lease.sent_ms >= sent_ms) {
            return false;
        }
        current.lease = Some(WorkerLease { sent_ms, ttl_ms });
        self.write(&current)
    }

    /// Other workers said, when asked at or after `until_ms` less the time for which that counts, that the managers are
    /// gone.
    pub fn sheltered(&self, until_ms: u64) {
        let mut current = self.current.lock();
        if current.sheltered_until_ms != until_ms {
            current.sheltered_until_ms = until_ms;
            self.write(&current);
        }
    }

    /// How long ago the heartbeat was sent that was granted last (ms); None where none was.
    pub fn grant_age_ms(&self) -> Option<u64> {
        let lease = self.current.lock().lease?;
        Some(clock::boot_ms().saturating_sub(lease.sent_ms))
    }

    /// How long it lasts without another grant (ms); 0 where it has ended.
    pub fn remaining_ms(&self) -> u64 {
        let lease = self.current.lock().lease;
        lease.map_or(0, |lease| lease.deadline_ms().saturating_sub(clock::boot_ms()))
    }

    /// Before anything acts on it: whoever outlives this process must know it. The lock keeps writes in order. Returns whether
    /// it was written.
    fn write(&self, current: &Current) -> bool {
        let lease = current.lease.unwrap_or(WorkerLease { sent_ms: 0, ttl_ms: 0 });
        let file = LeaseFile {
            boot_id: self.boot_id.clone(),
            sent_ms: lease.sent_ms,
            ttl_ms: lease.ttl_ms,
            sheltered_until_ms: current.sheltered_until_ms,
        };
        let written = file.write(&self.file);
        if let Err(error) = &written {
            warn!(%error, "the lease could not be kept for the watchdog: it will end earlier there");
        }
        self.changed.notify_one();
        written.is_ok()
    }

    /// Tells [`Lease::validity`] of each change; never ends. The runtime's timers do not count suspend as the lease does,
    /// so that the clock is looked at in between: a machine that wakes up late notices at once.
    pub async fn keep(&self) {
        loop {
            let now_ms = clock::boot_ms();
            let (validity, next_ms) = {
                let current = self.current.lock();
                (current.validity(now_ms), current.next_change_ms(now_ms))
            };
            self.validity.send_if_modified(|told| std::mem::replace(told, validity) != validity);
            match next_ms {
                Some(next_ms) => {
                    let wait_ms = (next_ms - now_ms).min(MAX_WAIT_MS);
                    let wait = Duration::from_millis(wait_ms);
                    // Woken early by a change; a late look is what matters.
                    let _ = tokio::time::timeout(wait, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn until(validity: &mut watch::Receiver<Validity>, wanted: bool) {
        let waited = tokio::time::timeout(Duration::from_secs(5), validity.wait_for(|valid| valid.is_leased == wanted));
        waited.await.expect("it changes in time").expect("the lease is kept");
    }

    #[tokio::test]
    async fn it_is_valid_from_a_grant_to_its_deadline_again_and_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let lease = Arc::new(Lease::open(dir.path()).expect("opened"));
        let mut validity = lease.validity();
        assert_eq!(*validity.borrow(), Validity::default());
        let keeper = tokio::spawn({
            let lease = lease.clone();
            async move { lease.keep().await }
        });
        for _ in 0..2 {
            let sent_ms = clock::boot_ms();
            assert!(lease.granted(sent_ms, 150));
            until(&mut validity, true).await;
            until(&mut validity, false).await;
            assert!(clock::boot_ms() >= sent_ms + 150);
        }
        keeper.abort();
    }

    #[test]
    fn a_late_answer_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let lease = Lease::open(dir.path()).expect("opened");
        let now_ms = clock::boot_ms();
        assert!(lease.granted(now_ms, 60_000));
        assert!(!lease.granted(now_ms - 10, 1), "it came late");
        assert!(lease.grant_age_ms().is_some_and(|age_ms| age_ms < 10_000));
        let file = LeaseFile::read(dir.path()).expect("read").expect("written");
        assert_eq!(file.end_ms(false), now_ms + 60_000);
    }

    #[test]
    fn an_agent_restarted_within_its_lease_still_has_it_and_a_later_one_has_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let sent_ms = clock::boot_ms() - 10;
        Lease::open(dir.path()).expect("opened").granted(sent_ms, 60_000);
        let again = Lease::open(dir.path()).expect("opened again");
        assert!(again.validity().borrow().is_leased);
        again.granted(sent_ms + 1, 0);
        assert!(!Lease::open(dir.path()).expect("opened late").validity().borrow().is_leased);
    }

    #[test]
    fn shelter_lasts_as_long_as_the_word_counts_and_not_beyond_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let lease = Lease::open(dir.path()).expect("opened");
        let now_ms = clock::boot_ms();
        lease.sheltered(now_ms + 60_000);
        let file = LeaseFile::read(dir.path()).expect("read").expect("written");
        assert_eq!((file.end_ms(true), file.end_ms(false)), (now_ms + 60_000, 0));
        let validity = lease.current.lock().validity(now_ms);
        assert_eq!(validity, Validity { is_leased: false, is_sheltered: true });
        assert_eq!(lease.current.lock().validity(now_ms + 60_000), Validity::default());
        assert!(!Lease::open(dir.path()).expect("opened again").validity().borrow().is_sheltered);
    }
}
