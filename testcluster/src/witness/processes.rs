//! Lives of processes: sampled, from what their supervisors write down and from /proc.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Life, Notes, now_ms, workers};
use crate::layout::Layout;
use crate::process::ProcessId;
use crate::remains::{self, Traces};
use crate::taskset::TaskSet;

const EVERY: Duration = Duration::from_millis(20);

/// Instances whose process has been found, and not seen to end.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<PathBuf, (ProcessId, Option<u64>)>);

pub(super) fn watch(layout: &Layout, notes: &Notes, tasks: &TaskSet) {
    let (layout, notes) = (layout.clone(), notes.clone());
    tasks.spawn(async move {
        let mut known = Known::default();
        loop {
            let (layout, notes) = (layout.clone(), notes.clone());
            let looked = tokio::task::spawn_blocking(move || {
                look(&layout, &notes, &mut known);
                known
            });
            match looked.await {
                Ok(back) => known = back,
                Err(_) => return,
            }
            tokio::time::sleep(EVERY).await;
        }
    });
}

/// One look at every task of every worker.
pub(super) fn look(layout: &Layout, notes: &Notes, known: &mut Known) {
    for worker in workers(layout) {
        for dir in remains::task_dirs(&layout.data_dir(worker)) {
            look_at(&worker.name(), dir, notes, known);
        }
    }
    // The directory of a task that has ended may be gone before its end was seen.
    known.0.retain(|dir, (process, until_ms)| {
        if dir.exists() {
            return true;
        }
        if until_ms.is_none() && !process.is_alive() {
            notes.end(&dir.display().to_string(), now_ms());
        }
        process.is_alive()
    });
}

fn look_at(node: &str, dir: PathBuf, notes: &Notes, known: &mut Known) {
    let instance = dir.display().to_string();
    let now_ms = now_ms();
    match known.0.get_mut(&dir) {
        Some((_, Some(_))) => {}
        Some((process, until_ms @ None)) => {
            if process.is_alive() {
                return;
            }
            // What the supervisor says of the end is exact, and may come later; this is never too early.
            notes.end(&instance, now_ms);
            if let Some(Traces { exit_ms: Some(exit_ms), .. }) = remains::traces(&dir) {
                notes.date_end(&instance, exit_ms);
                *until_ms = Some(exit_ms);
            }
        }
        None => {
            let Some(found) = remains::traces(&dir) else { return };
            let until_ms = match (found.exit_ms, found.process.is_alive()) {
                (Some(exit_ms), _) => Some(exit_ms),
                (None, true) => None,
                // Nobody wrote down when it ended. Of one that is older than this witness nobody asks.
                (None, false) if found.started_ms < notes.since_ms() => Some(found.started_ms),
                (None, false) => Some(now_ms),
            };
            let life = Life {
                service: found.service,
                slot: found.slot,
                node: node.to_owned(),
                task: found.task,
                from_ms: found.started_ms,
                until_ms,
            };
            notes.note(&instance, life);
            known.0.insert(dir, (found.process, found.exit_ms));
        }
    }
}
