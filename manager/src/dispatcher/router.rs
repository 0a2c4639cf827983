//! Tells each session which of its tasks a command has touched. Work follows change: nothing is scanned, except the one
//! service whose row changed.

use std::collections::HashMap;
use std::sync::Arc;

use goat_core::model::{NodeId, TaskId};
use goat_core::state::change::ChangeSet;
use tokio::sync::broadcast::error::RecvError;

use super::Active;

/// Routes until it is cancelled.
pub(super) async fn run(active: Arc<Active>) {
    let mut changes = active.group.view().changes();
    let mut restored = active.group.view().restored();
    loop {
        tokio::select! {
            received = changes.recv() => match received {
                Ok(change) => active.route(&change),
                Err(RecvError::Lagged(_)) => active.mark_all(),
                Err(RecvError::Closed) => return,
            },
            changed = restored.changed() => match changed {
                Ok(()) => active.mark_all(),
                Err(_) => return,
            },
        }
    }
}

impl Active {
    fn mark_all(&self) {
        for session in self.sessions() {
            session.mark_all();
        }
    }

    fn route(&self, change: &ChangeSet) {
        let mut touched: HashMap<NodeId, Vec<TaskId>> = HashMap::new();
        for task in &change.tasks {
            if let Some(node) = task.node {
                touched.entry(node).or_default().push(task.task);
            }
        }
        for node in &change.nodes {
            if self.group.view().read().is_revoked(node.node)
                && let Some(session) = self.session_of(node.node)
            {
                session.end.cancel();
            }
        }
        if !change.services.is_empty() {
            let state = self.group.view().read();
            for task in change.services.iter().flat_map(|service| state.tasks_of_service(*service)) {
                if let Some(node) = task.node {
                    touched.entry(node).or_default().push(task.id);
                }
            }
        }
        for (node, tasks) in touched {
            if let Some(session) = self.session_of(node) {
                session.mark(tasks);
            }
        }
    }
}
