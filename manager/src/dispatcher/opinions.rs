//! Second opinions: before a silent worker is called down, others are asked to reach it. A cut between the leader and
//! one worker is no reason to move anything (`goat_core::lease` says how long their word counts).
//!
//! Other managers are asked, and two workers that are heard. The worker has to answer for itself: a machine that takes
//! connections for a frozen agent does not count.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use goat_core::model::{NodeId, NodeState};
use goat_core::scheduler::mix;
use goat_proto::v1;
use goat_tls::Role;
use tokio::sync::{mpsc, watch};

use super::Active;
use crate::clock;

/// Between questions about the nodes that are silent.
const ASK_EVERY: Duration = Duration::from_millis(400);
/// For an answer; whoever is asked has less for the worker's.
const ANSWER_WITHIN: Duration = Duration::from_millis(700);
const WORKERS_ASKED: usize = 2;
/// Nodes asked about at one time. If more are silent, the others come after them: none is given up unasked.
const MAX_NODES: usize = 16;

/// Whether somebody reached the node, in a try that began at `asked_ms`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub node: NodeId,
    pub asked_ms: u64,
    pub is_reached: bool,
}

/// About whom to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Questions {
    /// Those that would be given up now, had others been asked.
    pub urgent: BTreeSet<NodeId>,
    /// All that are silent.
    pub doubtful: Vec<NodeId>,
}

impl Questions {
    /// The next nodes to ask about, [`MAX_NODES`] at the most: the urgent ones, then the others in turn, beginning after `last`.
    fn next(&self, last: Option<NodeId>) -> Vec<NodeId> {
        let is_after = |node: &&NodeId| last.is_none_or(|last| **node > last);
        let is_before = |node: &&NodeId| !is_after(node);
        let in_turn = self.doubtful.iter().filter(is_after).chain(self.doubtful.iter().filter(is_before));
        let others = in_turn.filter(|node| !self.urgent.contains(node));
        self.urgent.iter().chain(others).take(MAX_NODES).copied().collect()
    }
}

/// The end of [`run`].
#[derive(Debug)]
pub(super) struct Asking {
    questions: watch::Receiver<Questions>,
    heard: mpsc::Sender<Answer>,
}

/// The end of the leases' keeper.
#[derive(Debug)]
pub(super) struct Opinions {
    pub questions: watch::Sender<Questions>,
    pub heard: mpsc::Receiver<Answer>,
}

pub(super) fn channel() -> (Asking, Opinions) {
    let (tell_questions, questions) = watch::channel(Questions::default());
    let (tell_heard, heard) = mpsc::channel(64);
    (Asking { questions, heard: tell_heard }, Opinions { questions: tell_questions, heard })
}

/// Asks until it is cancelled.
pub(super) async fn run(active: Arc<Active>, mut asking: Asking) {
    let mut last = None;
    loop {
        if asking.questions.wait_for(|asked| !asked.doubtful.is_empty()).await.is_err() {
            return;
        }
        let nodes = asking.questions.borrow().next(last);
        last = nodes.last().copied();
        let asked_ms = clock::boot_ms();
        let answers = nodes.into_iter().map(|node| {
            let (active, heard) = (&active, &asking.heard);
            async move {
                let is_reached = active.is_reached_by_another(node, asked_ms).await;
                let _ = heard.send(Answer { node, asked_ms, is_reached }).await;
            }
        });
        join_all(answers).await;
        let spent = Duration::from_millis(clock::boot_ms().saturating_sub(asked_ms));
        tokio::time::sleep(ASK_EVERY.saturating_sub(spent)).await;
    }
}

impl Active {
    async fn is_reached_by_another(&self, node: NodeId, seed: u64) -> bool {
        let managers = self.group.members().into_iter().filter(|member| member.id != self.group.id());
        let (address, helpers) = {
            let state = self.group.view().read();
            let address = state.node(node).map(|row| row.inventory.agent_address.clone()).unwrap_or_default();
            // Those that are heard; a different two each time.
            let mut workers: Vec<_> = state
                .nodes()
                .filter(|other| other.id != node && other.state == NodeState::Ready)
                .filter(|other| !other.inventory.agent_address.is_empty())
                .map(|other| (mix(other.id.bits() ^ seed), other.inventory.agent_address.clone()))
                .collect();
            workers.sort_unstable();
            let workers = workers.into_iter().map(|(_, address)| (Role::Worker, address)).take(WORKERS_ASKED);
            (address, workers.chain(managers.map(|member| (Role::Manager, member.address))).collect::<Vec<_>>())
        };
        if address.is_empty() {
            return false;
        }
        let request = v1::PingForRequest { node_id: node.to_string(), address };
        let mut asked: FuturesUnordered<_> =
            helpers.into_iter().map(|(role, helper)| self.ask(role, helper, request.clone()).boxed()).collect();
        while let Some(reached) = asked.next().await {
            if reached {
                return true;
            }
        }
        false
    }

    async fn ask(&self, role: Role, helper: String, request: v1::PingForRequest) -> bool {
        let Ok(mut client) = self.group.peers().presence(role, &helper) else {
            return false;
        };
        match tokio::time::timeout(ANSWER_WITHIN, client.ping_for(request)).await {
            Ok(Ok(reply)) => reply.into_inner().reached,
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_silent_nodes_each_is_asked_about_and_the_urgent_ones_first() {
        let mut doubtful: Vec<_> = (1..=100).map(NodeId::from_random).collect();
        doubtful.sort_unstable();
        let urgent = BTreeSet::from([doubtful[97], doubtful[98]]);
        let questions = Questions { urgent: urgent.clone(), doubtful: doubtful.clone() };
        let (mut asked, mut last, mut rounds) = (BTreeSet::new(), None, 0);
        while asked.len() < doubtful.len() {
            let nodes = questions.next(last);
            assert!(nodes.len() <= MAX_NODES);
            assert!(urgent.iter().all(|node| nodes.contains(node)));
            last = nodes.last().copied();
            asked.extend(nodes);
            rounds += 1;
        }
        assert_eq!(rounds, 98_usize.div_ceil(MAX_NODES - urgent.len()));
    }
}
