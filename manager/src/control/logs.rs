//! A task's output. Its worker has it and talks to the leader: a follower passes on what the leader passes on.

use std::time::Duration;

use futures::StreamExt;
use goat_proto::v1;
use tonic::Status;

use super::{Control, Events as Chunks, lookup};
use crate::clock;
use crate::quota::Quota;
use crate::streams::until_stopped;

/// For the leader's first word; the worker has ten seconds of them.
const OPEN: Duration = Duration::from_secs(12);

/// Log streams of the leader that this manager passes on at the same time, each over a connection of its own.
const MAX_RELAYED: usize = 64;

/// Room for those that are passed on.
pub(super) fn relayed() -> Quota {
    Quota::new(MAX_RELAYED, MAX_RELAYED)
}

impl Control {
    pub(super) async fn task_logs_(&self, request: v1::TaskLogsRequest) -> Result<Chunks<v1::LogChunk>, Status> {
        let (group, _) = self.reading(None).await?;
        let leader = group.leader().ok_or_else(|| Status::unavailable("no manager leads at present; ask again"))?;
        let stopping = self.stopping.clone();
        if !leader.is_here {
            let gone =
                |problem: String| Status::unavailable(format!("the leader {} cannot be asked: {problem}", leader.name));
            let permit = self.relayed_logs.take("").map_err(|_| {
                Status::resource_exhausted(format!(
                    "{MAX_RELAYED} log streams are passed on by this manager, and more are not allowed: end one of them, or ask the \
                     leader {} at {}",
                    leader.name, leader.address
                ))
            })?;
            let client = group.peers().control_for_stream(&leader.address);
            let mut client = client.map_err(|error| gone(error.to_string()))?;
            let passed = tokio::time::timeout(OPEN, client.task_logs(request))
                .await
                .map_err(|_| gone(format!("no answer within {} s", OPEN.as_secs())))??;
            let passed = passed.into_inner().map(move |chunk| {
                let _ = &permit;
                chunk
            });
            return Ok(until_stopped(passed, stopping).boxed());
        }
        let (task, node) = {
            let state = group.view().read();
            let task = lookup::task_with_output(&state, &request.reference)?;
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
        Ok(until_stopped(self.desk.logs(node, wanted).await?, stopping).boxed())
    }
}
