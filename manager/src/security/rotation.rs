//! The leader's part in a rotation of the certificate authority: the next step as soon as every member has followed the last.

use std::time::Duration;

use futures::future::join_all;
use goat_core::model::NodeState;
use goat_core::state::command::{Action, Command};
use goat_core::state::{Rotation, Security};
use tracing::{info, warn};

use super::issue::wanted_stance;
use crate::clock;
use crate::dispatcher::Desk;
use crate::raft::{Group, seat};

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Until it is cancelled.
pub async fn run(group: Group, desk: Desk) {
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let security = group.view().read().security().cloned();
        let Some(security) = security.filter(|security| security.rotation() != Rotation::None) else { continue };
        let waiting = waiting_for(&group, &desk, &security).await;
        if !waiting.is_empty() {
            if told.as_ref() != Some(&waiting) {
                info!(waiting_for = waiting.join(", "), "the rotation of the certificate authority waits");
                told = Some(waiting);
            }
            continue;
        }
        let action = Action::AdvanceRotation { seen_version: security.version };
        match group.propose_here(&Command { now_ms: clock::now_ms(), request: None, action }).await {
            Ok(_) => info!(step = ?security.rotation(), "the rotation of the certificate authority has taken a step"),
            Err(error) => warn!(%error, "the rotation of the certificate authority could not go on, trying again"),
        }
    }
}

/// The members whose certificates do not rest on what they should yet. Of the leader: workers say so to it alone. Nodes that
/// are down are not waited for, and have to join anew when they come back.
pub async fn waiting_for(group: &Group, desk: &Desk, security: &Security) -> Vec<String> {
    let Ok(wanted) = wanted_stance(security) else { return vec!["an authority that cannot be read".into()] };
    let asked = group.members().into_iter().map(|member| async move {
        let stance = match member.id == group.id() {
            true => Some(group.progress().stance),
            false => seat::ask(group.peers(), group.id(), &member.address).await.map(|reply| reply.stance),
        };
        (member.name, stance)
    });
    let managers = join_all(asked).await;
    let behind = managers.into_iter().filter(|(_, stance)| stance.as_ref() != Some(&wanted)).map(|(name, _)| name);
    let stances = desk.stances();
    let state = group.view().read();
    let nodes = state.nodes().filter(|node| node.state != NodeState::Down && !state.is_revoked(node.id));
    let workers = nodes.filter(|node| stances.get(&node.id) != Some(&wanted)).map(|node| node.name.clone());
    behind.chain(workers).collect()
}
