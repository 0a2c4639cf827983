//! What is told of this manager's part in the group to those who watch over it. Changes nothing.

use goat_raft_store::LogStore;
use openraft::type_config::async_runtime::watch::WatchReceiver;

use super::{Group, LinkFigures, PeerInfo};
use crate::metrics::meters::Meters;

impl Group {
    /// What is counted here.
    pub fn meters(&self) -> &Meters {
        &self.inner.meters
    }

    /// The log and the database below it, to look at.
    pub fn store(&self) -> &LogStore {
        &self.inner.store
    }

    /// Why Raft has stopped by itself; None while it runs.
    pub fn fatal(&self) -> Option<String> {
        let metrics = self.inner.raft.metrics();
        let watched = metrics.borrow_watched();
        watched.running_state.as_ref().err().map(ToString::to_string)
    }

    /// The link to another member, as this manager's heartbeats and votes found it.
    pub fn link_figures(&self, id: u64) -> LinkFigures {
        self.inner.reach.figures(id)
    }

    /// The managers that Raft misses.
    pub fn missed(&self) -> Vec<PeerInfo> {
        let is_missed = |member: &PeerInfo| self.inner.reach.is_missed(member.id);
        self.members().into_iter().filter(is_missed).collect()
    }

    /// The end of a sentence: who they are; empty where there are none.
    pub fn missed_text(&self) -> String {
        let missed: Vec<_> = self.missed().iter().map(|peer| format!("{} ({})", peer.name, peer.address)).collect();
        match missed.is_empty() {
            true => String::new(),
            false => format!("; not reached from here: {}", missed.join(", ")),
        }
    }
}
