//! What workers' certificates rest on, as they say with each heartbeat, and what they should rest on.

use std::collections::HashMap;

use goat_core::model::NodeId;
use goat_proto::v1::{self, manager_message};

use super::Desk;
use super::session::{End, Session};
use crate::machine::changed;
use crate::security::issue::wanted_stance;

impl Session<'_> {
    /// Tells the worker what it should rest on, and again when that changes.
    pub(super) async fn tell_stance(&self) -> End {
        let view = self.active.group.view();
        let mut changes = view.changes();
        loop {
            let security = view.read().security().cloned();
            if let Some(wanted) = security.and_then(|security| wanted_stance(&security).ok())
                && let Err(end) = self.send(manager_message::Message::Stance(v1::Stance { wanted })).await
            {
                return end;
            }
            if changed(&mut changes, |change| change.security).await.is_none() {
                return End::Lost("the state is gone".into());
            }
        }
    }
}

impl Desk {
    /// What each worker last said; empty where this manager does not lead.
    pub fn stances(&self) -> HashMap<NodeId, String> {
        let Some(active) = self.active() else { return HashMap::new() };
        active.sessions().into_iter().map(|entry| (entry.node, entry.stance.lock().clone())).collect()
    }
}
