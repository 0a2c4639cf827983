//! Tells workers whom to ask: the leader; when this manager is lost, the other managers, and when none of them answers, each other.

use std::time::Duration;

use goat_core::model::{Node, NodeState};
use goat_proto::v1::{self, manager_message};

use super::session::{End, Session};
use crate::machine::changed;
use crate::raft::Group;

/// Other workers that a worker knows.
const NEIGHBOURS: usize = 5;
/// Those that are down are left out, and not for ever looked for.
const NEIGHBOURS_LOOKED_AT: usize = 50;
/// Between looks for those that have gone.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Says who leads.
pub(super) fn redirect(group: &Group) -> v1::ManagerMessage {
    let leader = group.leader();
    // Also if no leader is known: the term says that the message is not older.
    let term = group.with_metrics(|metrics| metrics.current_term);
    v1::ManagerMessage {
        term,
        message: Some(manager_message::Message::Redirect(v1::Redirect {
            // One that has just stepped down may still think of itself.
            leader_address: leader.filter(|leader| !leader.is_here).map(|leader| leader.address).unwrap_or_default(),
            managers: group.addresses(),
        })),
    }
}

impl Session<'_> {
    /// Tells the worker where all managers are, now and whenever that changes: a session may outlive all of them but one.
    pub(super) async fn tell_managers(&self) -> End {
        let view = self.active.group.view();
        let mut changes = view.changes();
        loop {
            let addresses = {
                let state = view.read();
                let members = state.managers().filter(|manager| manager.is_member());
                members.map(|manager| manager.address.clone()).collect()
            };
            let told = manager_message::Message::Managers(v1::ManagerAddresses { addresses });
            if let Err(end) = self.send(told).await {
                return end;
            }
            if changed(&mut changes, |change| !change.managers.is_empty()).await.is_none() {
                return End::Lost("the state is gone".into());
            }
        }
    }

    /// Tells the worker of a few others, now and whenever they are others: of one that comes at once, since managers may
    /// be lost the next moment.
    pub(super) async fn introduce(&self) -> End {
        let mut arrivals = self.active.arrivals.subscribe();
        let mut told = None;
        loop {
            arrivals.mark_unchanged();
            let workers = {
                let state = self.active.group.view().read();
                let others = state.nodes_after(self.entry.node).take(NEIGHBOURS_LOOKED_AT);
                let others =
                    others.filter(|node| node.state != NodeState::Down && !node.inventory.agent_address.is_empty());
                let worker = |node: &Node| v1::PeerWorker {
                    node_id: node.id.to_string(),
                    address: node.inventory.agent_address.clone(),
                };
                others.take(NEIGHBOURS).map(worker).collect::<Vec<_>>()
            };
            if told.as_ref() != Some(&workers) {
                let peers = v1::Peers { workers: workers.clone() };
                if let Err(end) = self.send(manager_message::Message::Peers(peers)).await {
                    return end;
                }
                told = Some(workers);
            }
            // Somebody came or not: all is looked at again.
            let _ = tokio::time::timeout(LOOK_AGAIN, arrivals.changed()).await;
        }
    }
}
