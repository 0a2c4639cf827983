//! What is told of this manager's part in the group to those who watch over it. Changes nothing.

use goat_raft_store::LogStore;
use openraft::type_config::async_runtime::watch::WatchReceiver;

use super::{Group, LinkFigures, Metrics, PeerInfo, Raft};
use crate::locks::Held;
use crate::metrics::meters::Meters;

/// Passes Raft's metrics, as of now, to `look`, under their lock: it must be short and lock nothing else
/// ([`crate::locks`]). All reading of metrics goes through here, so that no guard outlives its line.
#[track_caller]
pub(super) fn with_metrics<T>(raft: &Raft, look: impl FnOnce(&Metrics) -> T) -> T {
    let _held = Held::enter("Raft's metrics");
    let metrics = raft.metrics();
    #[expect(clippy::disallowed_methods, reason = "this is the place that the rule leads to")]
    let metrics = metrics.borrow_watched();
    look(&metrics)
}

impl Group {
    /// Passes Raft's metrics, as of now, to `look`, which must be short and lock nothing else.
    #[track_caller]
    pub fn with_metrics<T>(&self, look: impl FnOnce(&Metrics) -> T) -> T {
        with_metrics(&self.inner.raft, look)
    }

    /// Takes the state's lock and the one of Raft's metrics, one after the other, and lets go of them: it does not return if
    /// one of them is held for good. It keeps nothing of the group alive but these two.
    pub fn lock_probe(&self) -> impl Fn() + Send + use<> {
        let (view, metrics) = (self.inner.view.clone(), self.inner.raft.metrics());
        move || {
            drop(view.read());
            #[expect(clippy::disallowed_methods, reason = "the guard does not outlive the line")]
            drop(metrics.borrow_watched());
        }
    }

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
        self.with_metrics(|metrics| metrics.running_state.as_ref().err().map(ToString::to_string))
    }

    /// The link to another member, as this manager's heartbeats and votes found it.
    pub fn link_figures(&self, id: u64) -> LinkFigures {
        self.inner.network.reach.figures(id)
    }

    /// The managers that Raft misses.
    pub fn missed(&self) -> Vec<PeerInfo> {
        let is_missed = |member: &PeerInfo| self.inner.network.reach.is_missed(member.id);
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
