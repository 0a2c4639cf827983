//! Tasks that were forgotten lately, by this agent or by the one before it. A listing from before still shows them. And a
//! leader may take back what has ended here, where an old word of this worker's comes late: a task is begun once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use goat_core::model::TaskId;
use tracing::warn;

use super::Parts;
use crate::journal::Journal;
use crate::taskset::TaskSet;

/// Longer than any listing takes, of any runtime, and than what was said is on its way to a leader.
const MEMORY: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Gone {
    /// Since when it has been known here.
    since: BTreeMap<TaskId, Instant>,
    journal: Journal,
    tasks: TaskSet,
}

impl Gone {
    /// With what an earlier agent has forgotten.
    pub(super) fn new(forgotten: Vec<TaskId>, parts: &Parts) -> Self {
        let now = Instant::now();
        let since = forgotten.into_iter().map(|task| (task, now)).collect();
        Self { since, journal: parts.journal.clone(), tasks: parts.tasks.clone() }
    }

    pub(super) fn add(&mut self, task: TaskId) {
        self.since.insert(task, Instant::now());
    }

    pub(super) fn contains(&self, task: TaskId) -> bool {
        self.since.contains_key(&task)
    }

    /// Whether it may have been there still when a listing was asked for.
    pub(super) fn is_since(&self, task: TaskId, asked: Instant) -> bool {
        self.since.get(&task).is_some_and(|gone| *gone >= asked)
    }

    /// Lets go of those that nothing can speak of any more; `asked`: when the latest listing was asked for.
    pub(super) fn tidy(&mut self, asked: Instant) {
        let is_old = |(_, gone): &(&TaskId, &Instant)| **gone < asked && gone.elapsed() >= MEMORY;
        let old: BTreeSet<TaskId> = self.since.iter().filter(is_old).map(|(task, _)| *task).collect();
        if old.is_empty() {
            return;
        }
        self.since.retain(|task, _| !old.contains(task));
        let journal = self.journal.clone();
        self.tasks.spawn("forget", async move {
            if let Err(error) = journal.let_go(old).await {
                // The next agent does it.
                warn!(%error, "what was forgotten long ago is still remembered");
            }
        });
    }
}
