//! What a manager does while it leads, as its loops do it in production: sessions, leases, planner, membership. What is
//! decided is core's; what is played here is when it is asked, and on which view.

mod book;
mod introduce;
mod leases;
mod members;
mod opinions;
mod planner;
mod sessions;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use goat_core::codec::FORMAT;
use goat_core::lease::{LeaderLeases, LeasePolicy};
use goat_core::model::{Authority, JoinSecrets, Secret};
use goat_core::model::{ClusterId, NodeId};
use goat_core::orchestrator::{Planner, Policy};
use goat_core::state::change::{ChangeSet, NodeChange};
use goat_core::state::command::{Action, Outcome};
use goat_core::state::{Freeze, State};

use crate::script::Bug;
use crate::world::{Event, ManagerEvent, Purpose, World};
use leases::{Beat, Doing};
use sessions::Session;

#[derive(Debug)]
pub(crate) struct Leading {
    pub term: u64,
    // Leases.
    leases: LeaderLeases,
    freeze: Option<(Freeze, u64)>,
    doing: Doing,
    beats: Vec<(u64, Beat)>,
    node_changes: VecDeque<NodeChange>,
    reached: Vec<(NodeId, u64)>,
    has_to_look: bool,
    looks_at_ms: u64,
    is_asking: bool,
    // Planner.
    planner: Planner,
    changes: VecDeque<Rc<ChangeSet>>,
    is_planning: bool,
    plans_at_ms: u64,
    // Sessions.
    sessions: BTreeMap<u64, Session>,
    by_node: BTreeMap<NodeId, u64>,
    by_connection: BTreeMap<u32, u64>,
    last_session: u64,
}

impl Leading {
    fn new(term: u64, state: &State, policy: LeasePolicy, now_ms: u64, plan_policy: Policy) -> Self {
        Self {
            term,
            leases: fresh(state, policy, now_ms),
            freeze: None,
            doing: Doing::Waiting,
            beats: Vec::new(),
            node_changes: VecDeque::new(),
            reached: Vec::new(),
            has_to_look: false,
            looks_at_ms: u64::MAX,
            is_asking: false,
            planner: Planner::new(state, plan_policy),
            changes: VecDeque::new(),
            is_planning: false,
            plans_at_ms: u64::MAX,
            sessions: BTreeMap::new(),
            by_node: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            last_session: 0,
        }
    }

    pub(crate) fn connections(&self) -> Vec<u32> {
        self.by_connection.keys().copied().collect()
    }
}

fn fresh(state: &State, policy: LeasePolicy, now_ms: u64) -> LeaderLeases {
    LeaderLeases::new(policy, now_ms, state.nodes().map(|node| (node.id, node.state)))
}

impl World {
    fn plan_policy(&self) -> Policy {
        Policy { history_per_slot: self.script.shape.history, ..Policy::default() }
    }

    /// What a leader takes for the lengths of leases.
    fn lease_policy(&self) -> LeasePolicy {
        let policy = self.policy;
        if self.has(Bug::KillTakesNoTime) { LeasePolicy { kill_ms: 0, ..policy } } else { policy }
    }

    fn leading(&mut self, manager: usize) -> Option<&mut Leading> {
        self.managers[manager].leading.as_deref_mut()
    }

    /// A manager notices that it leads.
    pub(crate) fn lead(&mut self, manager: usize, term: u64) {
        let own = &self.managers[manager];
        if !own.is_up || own.is_frozen || (self.raft.term, self.raft.leader) != (term, manager) {
            // It never noticed, or is too late: as if it had crashed right after.
            if (self.raft.term, self.raft.leader) == (term, manager) && own.is_up {
                self.after(500, Event::Lead { manager, term });
            }
            return;
        }
        if own.applied < self.raft.log.len() {
            self.coverage.count("plans on an old view");
        }
        // What it began in an earlier term ends with that.
        self.step_down(manager);
        let own = &self.managers[manager];
        let (policy, plan_policy) = (self.lease_policy(), self.plan_policy());
        let waits_since_ms = own.clock_ms(self.now_ms);
        let leading = Leading::new(term, &own.state, policy, waits_since_ms, plan_policy);
        let is_first = own.state.cluster_id().is_none() && self.raft.log.is_empty();
        self.managers[manager].leading = Some(Box::new(leading));
        self.managers[manager].knows = Some((manager, term));
        if self.has(Bug::NewLeaderDoesNotWait) {
            self.forget_to_wait(manager);
        }
        if is_first {
            self.first_commands(manager, term);
        }
        for event in [ManagerEvent::Leases { term }, ManagerEvent::Planner { term }, ManagerEvent::Members { term }] {
            self.after(1, Event::Manager(manager, event));
        }
    }

    /// The wrong turn: as if this manager had led for a minute, and had heard a stranger all the while, beside whom the
    /// others' silence counts.
    fn forget_to_wait(&mut self, manager: usize) {
        let (policy, now_ms) = (self.lease_policy(), self.clock_ms(manager));
        let began_ms = now_ms.saturating_sub(60_000);
        let mut leases = fresh(&self.managers[manager].state, policy, began_ms);
        let beats = (began_ms..=now_ms).step_by(policy.heartbeat_ms as usize);
        beats.for_each(|at_ms| leases.granted(NodeId::from_random(1 << 40), at_ms));
        if let Some(leading) = self.leading(manager) {
            leading.leases = leases;
        }
    }

    fn first_commands(&mut self, manager: usize, term: u64) {
        let secret = |text: &str| Secret::new(text.into());
        let authority = Authority { certificate: "certificate-0".into(), key: secret("key-0") };
        let secrets = JoinSecrets { manager: secret("for managers"), worker: secret("for workers") };
        self.propose_action(manager, term, Action::InitCluster { id: ClusterId::from_random(1) }, Purpose::Nothing);
        // Others are old ones, of which some are upgraded later.
        if self.random.once_in(2) {
            self.propose_action(manager, term, Action::SetFormat { format: FORMAT }, Purpose::Nothing);
        }
        self.propose_action(manager, term, Action::InitSecurity { authority, secrets }, Purpose::Nothing);
        for at in 0..self.script.shape.managers {
            let action = Action::AddManager { name: format!("m{at}"), address: format!("10.0.0.{}:7700", at + 1) };
            self.propose_action(manager, term, action, Purpose::Nothing);
        }
    }

    /// What follows from a change on the leader.
    pub(crate) fn leader_applied(&mut self, manager: usize, changes: Rc<ChangeSet>) {
        if changes.is_empty() {
            return;
        }
        self.route(manager, &changes);
        let Some(leading) = self.leading(manager) else { return };
        leading.node_changes.extend(changes.nodes.iter().cloned());
        let has_nodes = !changes.nodes.is_empty();
        leading.changes.push_back(changes);
        if has_nodes {
            self.wake_leases(manager);
        }
        self.wake_planner(manager, 1);
    }

    pub(crate) fn proposal_done(&mut self, manager: usize, purpose: Purpose, outcome: Outcome) {
        match purpose {
            Purpose::Nothing | Purpose::Request(_) | Purpose::EndFreeze => {}
            Purpose::Misreport => self.misreported(&outcome),
            Purpose::Register { session } => self.registered(manager, session, &outcome),
            Purpose::HelloReports { session } => self.welcome(manager, session),
            Purpose::Reports { session, sequence } => self.reports_written(manager, session, sequence),
            Purpose::Plan => self.planned(manager, &outcome),
            Purpose::NodeState { node, state, before, is_back } => {
                let is_told = matches!(outcome, Outcome::Done(_));
                self.told(manager, (node, state, before, is_back), is_told);
            }
        }
    }

    pub(crate) fn proposal_failed(&mut self, manager: usize, purpose: Purpose) {
        match purpose {
            Purpose::Nothing | Purpose::Request(_) | Purpose::EndFreeze | Purpose::Misreport => {}
            Purpose::Register { session } | Purpose::HelloReports { session } | Purpose::Reports { session, .. } => {
                self.end_session(manager, session, true);
            }
            Purpose::Plan => self.plan_failed(manager),
            Purpose::NodeState { node, state, before, is_back } => {
                self.told(manager, (node, state, before, is_back), false);
            }
        }
    }
}
