//! What must hold after a drill: as questions to the managers and to the runtime.

use std::collections::BTreeSet;

use goat_proto::v1;

use crate::client::Client;
use crate::cluster::Condition;
use crate::control::Remote;
use crate::error::Error;
use crate::layout::Member;
use crate::remains::{self, LiveTask};

/// Services of recorders have no tasks and are left out everywhere.
const RECORDER: &str = "rec-";

/// Looks at one cluster.
#[derive(Debug, Clone)]
pub struct Checks {
    pub remote: Remote,
    pub client: Client,
}

impl Checks {
    /// Why the cluster is not whole: every member there and caught up, every slot with its one task. None: it is.
    pub async fn unwhole(&self) -> Result<Option<String>, Error> {
        let peers = self.client.peers().await?;
        let layout = self.remote.layout();
        let is_spare = |name: &str| matches!(layout.find(name), Ok(Member::Manager(_))) && layout.spares > 0;
        for member in self.remote.status().await?.members {
            let is_member = peers.iter().any(|peer| peer.name == member.name);
            if member.condition != Condition::Running && (is_member || !is_spare(&member.name)) {
                return Ok(Some(format!("{} does not run", member.name)));
            }
        }
        let is_settled = |peer: &v1::Peer| {
            let votes = peer.role == "leader" || peer.role == "follower";
            match peer.standing.as_str() {
                "voter" => votes,
                "learner" => peer.role == "learner",
                _ => false,
            }
        };
        if let Some(peer) = peers.iter().find(|peer| !is_settled(peer)) {
            return Ok(Some(format!("{} is to be a {} and is a {}", peer.name, peer.standing, peer.role)));
        }
        let last = peers.iter().map(|peer| peer.applied_index).max().unwrap_or(0);
        if let Some(peer) = peers.iter().find(|peer| !peer.reachable) {
            return Ok(Some(format!("{} cannot be reached", peer.name)));
        }
        // A few entries may always be on their way.
        if let Some(peer) = peers.iter().find(|peer| peer.applied_index + 200 < last) {
            return Ok(Some(format!("{} has applied {} entries of {last}", peer.name, peer.applied_index)));
        }
        let nodes = self.client.nodes().await?;
        let workers = usize::from(self.remote.layout().workers);
        if nodes.len() != workers {
            return Ok(Some(format!("{} of {workers} workers have joined", nodes.len())));
        }
        if let Some(node) = nodes.iter().find(|node| node.state != "ready") {
            return Ok(Some(format!("{} is {}", node.name, node.state)));
        }
        self.unfilled().await
    }

    /// Why not every slot has exactly one running task, in both views. None: each has.
    pub async fn unfilled(&self) -> Result<Option<String>, Error> {
        let services = self.client.services().await?;
        let tasks = self.client.tasks(false).await?;
        let wanted =
            services.iter().filter_map(|service| Some((service.spec.as_ref()?.name.clone(), service.replicas_desired)));
        for (service, replicas) in wanted.filter(|(name, _)| !name.starts_with(RECORDER)) {
            let own: Vec<_> = tasks.iter().filter(|task| task.service == service).collect();
            let running: Vec<_> = own.iter().filter(|task| task.state == "running").collect();
            let slots: BTreeSet<_> = running.iter().map(|task| task.slot).collect();
            if running.len() != slots.len() {
                return Ok(Some(format!("{service} has two running tasks in one slot")));
            }
            if slots.len() != replicas as usize {
                return Ok(Some(format!("{service} has {} of {replicas} tasks running", slots.len())));
            }
            if let Some(other) = own.iter().find(|task| is_live(task) && task.state != "running") {
                return Ok(Some(format!("{service}.{} also has a task that is {}", other.slot, other.state)));
            }
        }
        let told: BTreeSet<_> = tasks
            .into_iter()
            .filter(|task| task.state == "running")
            .map(|task| LiveTask { service: task.service, slot: task.slot, node: task.node, task: task.id })
            .collect();
        let live: BTreeSet<_> = remains::live(self.remote.layout()).await?.into_iter().collect();
        let show = |task: &LiveTask| format!("{}.{} on {} ({})", task.service, task.slot, task.node, task.task);
        if let Some(task) = told.difference(&live).next() {
            return Ok(Some(format!("managers say that {} runs, and it does not", show(task))));
        }
        Ok(live.difference(&told).next().map(|task| format!("{} runs, and managers do not say so", show(task))))
    }
}

fn is_live(task: &v1::Task) -> bool {
    !matches!(task.state.as_str(), "complete" | "failed" | "stopped" | "rejected" | "lost")
}
