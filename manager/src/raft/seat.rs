//! This manager's seat in the group: empty until Raft runs, and what others are told of it.

use std::sync::Arc;
use std::time::Duration;

use goat_core::codec;
use goat_proto::v1::{PeerLink, ProgressReply, ProgressRequest};
use parking_lot::RwLock;

use super::Group;
use super::peers::Peers;

/// A new connection takes three round trips of up to 300 ms, and the question one more.
const ASK_TIMEOUT: Duration = Duration::from_millis(2_500);

const STARTING: &str = "starting";
const WAITING: &str = "waiting";
const MEMBER: &str = "member";

/// Shared by everything that serves: requests may come before Raft runs. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Seat(Arc<RwLock<Option<Group>>>);

impl Seat {
    /// Raft runs from now on.
    pub fn take(&self, group: Group) {
        *self.0.write() = Some(group);
    }

    /// The group, once Raft runs.
    pub fn group(&self) -> Option<Group> {
        self.0.read().clone()
    }

    /// What others are told; `asker`: the number of the manager that asks, 0 for nobody.
    pub fn progress(&self, asker: u64) -> ProgressReply {
        match self.group() {
            None => ProgressReply { phase: STARTING.into(), ..of_this_build() },
            Some(group) => ProgressReply {
                is_caller_removed: group.is_removed(asker),
                caller_matched_index: group.matched(asker).unwrap_or(0),
                ..group.progress()
            },
        }
    }
}

impl Group {
    /// How far this manager is, for those who ask it and for its own users.
    pub fn progress(&self) -> ProgressReply {
        let of_raft = self.with_metrics(|metrics| ProgressReply {
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |log_id| log_id.index),
            phase: if super::has_members(metrics) { MEMBER } else { WAITING }.to_owned(),
            ..of_this_build()
        });
        ProgressReply {
            id: self.id(),
            name: self.name(),
            cluster_id: self.cluster().to_string(),
            stance: self.stance(),
            backup_problem: self.backups().read().error.unwrap_or_default(),
            fsync_us: self.inner.store.sync_time().as_micros() as u64,
            links: self.links(),
            ..of_raft
        }
    }

    /// A leader's links to the other members; empty if this manager does not lead.
    fn links(&self) -> Vec<PeerLink> {
        let matched: Vec<_> = self.with_metrics(|metrics| {
            let matched = metrics.replication.iter().flatten().filter(|(id, _)| **id != self.inner.id);
            matched.map(|(id, matched)| (*id, matched.as_ref().map_or(0, |log_id| log_id.index))).collect()
        });
        let link = |(id, matched_index)| {
            let figures = self.inner.network.reach.figures(id);
            PeerLink {
                id,
                is_reached: figures.is_reached,
                silent_ms: figures.silent_ms.unwrap_or(0),
                round_trip_us: figures.round_trip_us,
                matched_index,
            }
        };
        matched.into_iter().map(link).collect()
    }
}

fn of_this_build() -> ProgressReply {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    ProgressReply { version, format: codec::FORMAT.into(), ..ProgressReply::default() }
}

/// How far the manager at `address` is; None where none answers. `from`: who asks.
pub async fn ask(peers: &Peers, from: u64, address: &str) -> Option<ProgressReply> {
    let mut client = peers.raft(address).ok()?;
    let reply = tokio::time::timeout(ASK_TIMEOUT, client.progress(ProgressRequest { from })).await.ok()?.ok()?;
    Some(reply.into_inner())
}
