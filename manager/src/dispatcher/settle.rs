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

/// Containers' ids of so many tasks fit into a command; of more tasks they are left out, and come with the next reports.
const MAX_WITH_CONTAINERS: usize = 1_500;

/// What it says of its tasks that have not ended, and where they come from, side by side. Those that have ended are reported
/// before, so that the state does not take them for running.
pub(super) fn known(hello: &hello::Hello) -> Vec<KnownTask> {
    let live = || hello.tasks.iter().filter(|report| !report.state.is_terminal());
    let has_containers = live().count() <= MAX_WITH_CONTAINERS;
    let known = live().map(|report| KnownTask {
        task: report.task,
        origin: hello.origins.get(&report.task).copied(),
        state: report.state,
        container_id: report.container_id.clone().filter(|_| has_containers),
        at_ms: report.at_ms,
    });
    known.collect()
}
