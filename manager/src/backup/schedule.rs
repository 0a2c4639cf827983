//! Saves this manager's own view of the state at intervals, to a directory of the operator's. Each manager that is told to
//! does so by itself: no two have to agree, and a directory on another machine may be reached from one and not from another.
//!
//! ```text
//! newest file of ours + every ─► anything new since? ─► beside it, synced, read back ─► its name ─► surplus removed
//!        (or now, once)              └ no: wait                  └ fails: told, tried again
//! ```
//! Must not harm the manager, whatever the directory does.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use goat_core::archive::{self, Reader};
use parking_lot::Mutex;
use tracing::{debug, info, warn};

use super::kept::{Own, Partial};
use super::name::Name;
use crate::clock;
use crate::raft::Group;

/// After a failure; but not later than the next is due anyway.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// For the own name.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between looks at the clock, which may have been set.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub dir: PathBuf,
    pub every: Duration,
    /// How many of this manager's files stay.
    pub keep: usize,
}

/// How it goes, for those who watch. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Account(Arc<Mutex<Record>>);

/// What [`Account`] says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Whether this manager is told to save its state.
    pub is_on: bool,
    /// When it was last saved (Unix ms), up to which index, and how large that was.
    pub saved_at_ms: Option<u64>,
    pub saved_index: u64,
    pub saved_bytes: u64,
    /// Since the last that succeeded.
    pub failures: u64,
    /// Why the last try failed; None where it did not.
    pub error: Option<String>,
}

impl Account {
    pub fn read(&self) -> Record {
        self.0.lock().clone()
    }

    fn saved(&self, name: &Name, bytes: u64) {
        let mut record = self.0.lock();
        (record.saved_at_ms, record.saved_index) = (Some(name.at_ms()), name.index);
        // Of one that an earlier life of this manager has left, only this much is known.
        record.saved_bytes = bytes;
        (record.failures, record.error) = (0, None);
    }

    fn unchanged(&self) {
        let mut record = self.0.lock();
        (record.failures, record.error) = (0, None);
    }

    fn failed(&self, error: String) -> u64 {
        let mut record = self.0.lock();
        record.error = Some(error);
        record.failures += 1;
        record.failures
    }
}

/// Why it could not be saved.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the state cannot be read: {0}")]
    State(#[from] goat_raft_store::Error),
    #[error("{path} is not as it was written: {source}", path = path.display())]
    Check { path: PathBuf, source: archive::Error },
    #[error("saving has ended early")]
    Ended,
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }
}

/// Until it is cancelled.
pub async fn run(group: Group, schedule: Schedule) {
    let account = group.backups().clone();
    account.0.lock().is_on = true;
    // It is in the files' names; one that has just joined does not know its own yet.
    while group.name().is_empty() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let mut retry_ms = None;
    loop {
        let wait_ms = match retry_ms.take() {
            Some(retry_ms) => retry_ms,
            None => due_in_ms(&group, &schedule, &account).await,
        };
        // A whole wait only once it is due, in pieces until then: the clock may be set.
        if wait_ms > 0 {
            tokio::time::sleep(Duration::from_millis(wait_ms).min(LONGEST_WAIT)).await;
            if account.read().error.is_none() {
                continue;
            }
        }
        match save(&group, &schedule).await {
            Ok(Some((name, bytes))) => {
                info!(file = %name, bytes, "saved a snapshot of the state");
                account.saved(&name, bytes);
            }
            // It is not due again before something happens: look as often as one would be made.
            Ok(None) => {
                account.unchanged();
                tokio::time::sleep(schedule.every.min(LONGEST_WAIT)).await;
            }
            Err(error) => {
                let nth = account.failed(error.to_string());
                if nth == 1 {
                    warn!(%error, "a snapshot of the state could not be saved, trying again");
                } else {
                    debug!(%error, nth, "a snapshot of the state could not be saved, trying again");
                }
                retry_ms = Some(schedule.every.min(RETRY_AFTER).as_millis() as u64);
            }
        }
    }
}

/// Counted from the newest file, so that a restart makes none of itself.
async fn due_in_ms(group: &Group, schedule: &Schedule, account: &Account) -> u64 {
    let (dir, own, now_ms) = (schedule.dir.clone(), Own::of(group), clock::now_ms());
    let look = move || {
        let newest = own.names(&dir, now_ms).ok()?.pop().filter(|newest| newest.at_ms() <= now_ms)?;
        let bytes = fs::metadata(dir.join(newest.to_string())).ok()?.len();
        Some((newest, bytes))
    };
    let Some((newest, bytes)) = tokio::task::spawn_blocking(look).await.ok().flatten() else { return 0 };
    if account.read().saved_at_ms.is_none() {
        account.saved(&newest, bytes);
    }
    let every_ms = schedule.every.as_millis() as u64;
    newest.at_ms().saturating_add(every_ms).saturating_sub(now_ms)
}

/// None where nothing has changed since the newest.
async fn save(group: &Group, schedule: &Schedule) -> Result<Option<(Name, u64)>, Error> {
    let (group, schedule) = (group.clone(), schedule.clone());
    tokio::task::spawn_blocking(move || save_blocking(&group, &schedule)).await.unwrap_or(Err(Error::Ended))
}

fn save_blocking(group: &Group, schedule: &Schedule) -> Result<Option<(Name, u64)>, Error> {
    let (dir, own) = (&schedule.dir, Own::of(group));
    own.sweep(dir)?;
    let newest = own.names(dir, clock::now_ms())?.pop().and_then(|name| own.head(&dir.join(name.to_string())));
    if newest.is_some_and(|head| head.newest_version >= group.view().read().newest_version()) {
        return Ok(None);
    }
    let partial = Partial::create(dir, &own)?;
    let mut failed = None;
    let head = super::write(group, &mut |piece| match (&partial.file).write_all(&piece.data) {
        Ok(()) => true,
        Err(error) => {
            failed = Some(error);
            false
        }
    })?;
    failed.map_or(Ok(()), Err).map_err(Error::io("write", &partial.path))?;
    partial.file.sync_all().map_err(Error::io("sync", &partial.path))?;
    let bytes = check(&partial.path)?;
    let name = Name::new(&head, &own.manager);
    partial.keep(&dir.join(name.to_string()))?;
    own.remove_surplus(dir, schedule.keep, clock::now_ms())?;
    Ok(Some((name, bytes)))
}

/// What was written is read back before anything older goes for it.
fn check(path: &Path) -> Result<u64, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let bytes = file.metadata().map_err(Error::io("read", path))?.len();
    let read = || -> Result<(), archive::Error> {
        let mut reader = Reader::begin(BufReader::new(file))?;
        while reader.next_row()?.is_some() {}
        Ok(())
    };
    read().map_err(|source| Error::Check { path: path.to_path_buf(), source })?;
    Ok(bytes)
}
