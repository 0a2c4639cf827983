//! What a bug report needs of this manager. Nothing secret is among it: options hold no secrets, metrics and log lines are
//! written so that they hold none, and of the data directory there are sizes alone.

use std::path::Path;
use std::sync::Arc;

use goat_core::state::RowHash;
use goat_observe::Ring;
use goat_observe::metric::page;
use goat_proto::v1::{DebugReport, DirectorySize};
use prometheus_client::registry::Registry;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::warn;

use crate::clock;
use crate::config::Config;
use crate::raft::Group;

/// What is told beside what Raft says.
#[derive(Debug, Clone)]
pub struct Debug(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    config: Config,
    registry: Arc<Registry>,
    log: Ring,
    /// Held while a report is made.
    turn: Arc<Mutex<()>>,
}

impl Debug {
    pub fn new(config: Config, registry: Arc<Registry>, log: Ring) -> Self {
        Self(Arc::new(Parts { config, registry, log, turn: Arc::default() }))
    }

    /// Waits until no other report is being made: each reads all rows.
    pub async fn turn(&self) -> OwnedMutexGuard<()> {
        self.0.turn.clone().lock_owned().await
    }

    /// As of now. Blocks. `_turn`: of [`Debug::turn`].
    pub fn report(&self, group: Option<&Group>, _turn: &OwnedMutexGuard<()>) -> DebugReport {
        let Parts { config, registry, log, .. } = &*self.0;
        let own = group.and_then(|group| group.members().into_iter().find(|member| member.id == group.id()));
        let (state_index, state_hash) = group.map(state).unwrap_or_default();
        DebugReport {
            id: group.map_or(0, Group::id),
            name: group.map(Group::name).unwrap_or_default(),
            address: own.map(|member| member.address).unwrap_or_default(),
            error: String::new(),
            version: env!("CARGO_PKG_VERSION").into(),
            at_ms: clock::now_ms(),
            options: format!("{config:#?}\n"),
            metrics: page(registry).unwrap_or_default(),
            raft: group.map(raft_metrics).unwrap_or_default(),
            log_lines: log.lines(),
            directories: sizes(&config.data_dir),
            state_index,
            state_hash,
        }
    }
}

/// The index of the last command in the state, and the state's hash, from a view of the rows on disk: commands are applied
/// meanwhile, and no lock of the state is held.
fn state(group: &Group) -> (u64, u64) {
    let hashed = group.with_rows(|view| {
        let mut hash = RowHash::default();
        for row in view.rows() {
            let (key, value) = row?;
            hash.add(&key, &value);
        }
        let applied = view.applied()?;
        Ok::<_, goat_raft_store::Error>((applied.map_or(0, |id| id.index), hash.finish()))
    });
    hashed.unwrap_or_else(|error| {
        warn!(%error, "the rows could not be read for a debug report");
        (0, 0)
    })
}

fn raft_metrics(group: &Group) -> String {
    let metrics = group.with_metrics(Clone::clone);
    serde_json::to_string_pretty(&metrics).unwrap_or_else(|error| format!("{metrics:#?} ({error})"))
}

/// Of the directory and those in it; what cannot be read counts as empty.
fn sizes(dir: &Path) -> Vec<DirectorySize> {
    let mut all = vec![DirectorySize { path: dir.display().to_string(), files: 0, bytes: 0 }];
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            all.extend(sizes(&entry.path()));
        } else {
            all[0].files += 1;
            all[0].bytes += metadata.len();
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_told_by_size_and_never_by_what_is_in_them() {
        let dir = tempfile::tempdir().expect("there is room");
        std::fs::create_dir_all(dir.path().join("db/deep")).expect("there is room");
        for (name, text) in [("identity.pem", "secret"), ("db/1", "12345"), ("db/2", "678"), ("db/deep/3", "9")] {
            std::fs::write(dir.path().join(name), text).expect("there is room");
        }
        let mut told: Vec<_> = sizes(dir.path()).into_iter().map(|size| (size.path, size.files, size.bytes)).collect();
        told.sort();
        let path = |name: &str| dir.path().join(name).display().to_string();
        assert_eq!(told, [(dir.path().display().to_string(), 1, 6), (path("db"), 2, 8), (path("db/deep"), 1, 1)]);
    }
}
