//! The leader of a cluster that was restored from a snapshot: tells the state what workers have (`goat_core::state::Restored`).
//! That all of them have said so is told by [`super::leases`].

use goat_core::model::NodeId;
use goat_core::state::command::{Action, KnownTask};
use tracing::info;

use super::session::End;
use super::{Active, hello};

impl Active {
    /// What a worker has, where the state cannot know it.
    pub(super) async fn take_stock(&self, node: NodeId, known: Vec<KnownTask>) -> Result<(), End> {
        if self.group.view().read().restored().is_none() {
            return Ok(());
        }
        let tasks = known.len();
        self.propose_to_the_end(Action::TakeStock { node, known }).await?;
        info!(node_id = %node, tasks, "a worker has said what it runs, after a snapshot was restored");
        Ok(())
    }
}

/// What it says of its tasks and where they come from, side by side.
pub(super) fn known(hello: &hello::Hello) -> Vec<KnownTask> {
    let known = hello.tasks.iter().map(|report| KnownTask {
        task: report.task,
        origin: hello.origins.get(&report.task).copied(),
        state: report.state,
        container_id: report.container_id.clone(),
        at_ms: report.at_ms,
    });
    known.collect()
}
