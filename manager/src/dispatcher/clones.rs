//! Two agents with one identity, as after a machine was copied with its data directory. Both would get the node's tasks, and leased
//! tasks would run twice.
//!
//! A newer session replaces an older one, since an agent that starts again or dials again does so before the leader notices the
//! end of its last session. But an agent that has ended sends nothing more. So a hello of another process waits until either
//! the older session is silent, or it has sent heartbeats that cannot have been on their way: then the newcomer is refused.

use std::time::Duration;

use tonic::Status;
use tracing::warn;

use super::Active;
use super::hello::Hello;

/// Heartbeats of the older session after the newer hello. One may have been on its way.
const HEARTBEATS: u64 = 2;
/// For a link's delay, beside the heartbeats.
const MARGIN_MS: u64 = 500;

impl Active {
    /// Refuses a worker whose node is held by another agent that is alive.
    pub(super) async fn refuse_clone(&self, hello: &Hello) -> Result<(), Status> {
        let older = self.session_of(hello.node).filter(|older| {
            let is_known = !older.instance.is_empty() && !hello.instance.is_empty();
            is_known && older.instance != hello.instance
        });
        let Some(older) = older else { return Ok(()) };
        let mut heartbeats = older.heartbeats.subscribe();
        let target = *heartbeats.borrow() + HEARTBEATS;
        let within = Duration::from_millis(self.policy.heartbeat_ms * HEARTBEATS + MARGIN_MS);
        let is_alive = tokio::select! {
            heard = tokio::time::timeout(within, heartbeats.wait_for(|count| *count >= target)) => heard.is_ok(),
            () = older.end.cancelled() => false,
        };
        if !is_alive {
            return Ok(());
        }
        warn!(node_id = %hello.node, name = hello.name, address = hello.address, "two agents have one identity; the newer is refused");
        Err(Status::already_exists(format!(
            "node {} has a session with another agent, at {}, which is alive: this data directory is a copy of that agent's. Stop \
             this agent, empty its data directory and let it join",
            hello.node, older.address
        )))
    }
}
