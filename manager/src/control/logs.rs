//! A task's output. Its worker has it and talks to the leader: a follower passes on what the leader passes on.

use std::time::Duration;

use futures::StreamExt;
use goat_proto::v1;
use tonic::Status;

use super::{Control, Events as Chunks, lookup};
use crate::clock;

/// For the leader's first word; the worker has ten seconds of them.
const OPEN: Duration = Duration::from_secs(12);

impl Control {
    pub(super) async fn task_logs_(&self, request: v1::TaskLogsRequest) -> Result<Chunks<v1::LogChunk>, Status> {
        let (group, _) = self.reading(None).await?;
        let leader = group.leader().ok_or_else(|| Status::unavailable("no manager leads at present; ask again"))?;
        let stopping = self.stopping.clone();
        if !leader.is_here {
            let gone =
                |problem: String| Status::unavailable(format!("the leader {} cannot be asked: {problem}", leader.name));
            let mut client = group.peers().control(&leader.address).map_err(|error| gone(error.to_string()))?;
            let passed = tokio::time::timeout(OPEN, client.task_logs(request))
                .await
                .map_err(|_| gone(format!("no answer within {} s", OPEN.as_secs())))??;
            return Ok(passed.into_inner().take_until(stopping.cancelled_owned()).boxed());
        }
        let (task, node) = {
            let state = group.view().read();
            let task = lookup::task(&state, &request.reference)?;
            let node = task.node.ok_or_else(|| {
                Status::failed_precondition(format!("task {} was never placed on a node, so it has no output", task.id))
            })?;
            (task.id, node)
        };
        let wanted = v1::LogsWanted {
            stream_id: format!("{task}-{:016x}", clock::random()),
            task_id: task.to_string(),
            follow: request.follow,
            tail: request.tail,
            timestamps: request.timestamps,
        };
        Ok(self.desk.logs(node, wanted).await?.take_until(stopping.cancelled_owned()).boxed())
    }
}
