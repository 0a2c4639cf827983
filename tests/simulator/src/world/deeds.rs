//! What each deed of a script does to the world, and how everything is mended in the end.

use goat_core::model::{Availability, NodeId, NodeState};
use goat_core::state::command::Action;

use super::users::Request;
use super::{Event, Purpose, World};
use crate::mischief::{Deed, Place};

impl World {
    pub(super) fn deed(&mut self, at: usize) {
        let event = self.script.events[at].clone();
        match event.deed {
            Deed::CrashManager(at) => self.crash_manager(at),
            Deed::StartManager(at) => self.start_manager(at),
            Deed::FreezeManager(at) => self.freeze_manager(at),
            Deed::ThawManager(at) => self.thaw_manager(at),
            Deed::SetClock { manager, ahead_ms } => {
                self.coverage.count("clocks set");
                self.managers[manager].wall_ahead_ms = ahead_ms;
            }
            Deed::Misreport { worker, lie } => self.misreport(worker, lie),
            Deed::Elect(at) => {
                if self.raft.voters.contains(&at) && self.has_quorum(at) {
                    self.elect(at);
                }
            }
            Deed::Cut { from, to } => self.set_cut(from, to, true),
            Deed::Mend { from, to } => self.set_cut(from, to, false),
            Deed::Isolate(place) => self.set_isolated(place, true),
            Deed::Rejoin(place) => self.set_isolated(place, false),
            Deed::Slow { for_ms, most_ms } => self.net.slow(self.now_ms + for_ms, most_ms),
            Deed::Ask { via, wish } => self.ask(Request::new(event.number, via, wish)),
            deed => self.deed_to_machine(&deed),
        }
    }

    fn deed_to_machine(&mut self, deed: &Deed) {
        match *deed {
            Deed::CrashMachine(at) => self.crash_machine(at),
            Deed::StartMachine(at) => self.start_machine(at),
            Deed::KillAgent(at) => self.kill_agent(at),
            Deed::StartAgent(at) => self.start_agent(at),
            Deed::FreezeAgent(at) => self.freeze_agent(at),
            Deed::ThawAgent(at) => self.thaw_agent(at),
            Deed::KillWatchdog(at) => self.kill_watchdog(at),
            Deed::Suspend(at) => self.suspend(at),
            Deed::Resume(at) => self.resume(at),
            _ => {}
        }
    }

    fn set_cut(&mut self, from: Place, to: Place, is_cut: bool) {
        self.net.set_cut(from, to, is_cut);
        self.ways_changed();
    }

    fn set_isolated(&mut self, place: Place, is_isolated: bool) {
        self.net.set_isolated(place, is_isolated);
        self.ways_changed();
    }

    fn ways_changed(&mut self) {
        self.look_at_raft();
        self.look_at_streams();
    }

    /// Everything is mended, and nothing fails from now on.
    pub(super) fn heal(&mut self) {
        self.is_healed = true;
        self.net.heal();
        for at in 0..self.managers.len() {
            self.thaw_manager(at);
            self.start_manager(at);
        }
        for at in 0..self.machines.len() {
            self.start_machine(at);
            self.resume(at);
            self.start_agent(at);
            self.thaw_agent(at);
        }
        self.ways_changed();
        self.activate_all();
        self.after(1_000, Event::LookForRest);
    }

    /// Whoever drains is drained no more: else some tasks would have nowhere to be.
    fn activate_all(&mut self) {
        let drained = self.truth().nodes().filter(|node| node.availability == Availability::Drain);
        let nodes: Vec<NodeId> = drained.map(|node| node.id).collect();
        let (leader, term) = (self.raft.leader, self.raft.term);
        for node in nodes {
            let action = Action::SetAvailability { node, availability: Availability::Active };
            self.propose_action(leader, term, action, Purpose::Nothing);
        }
    }

    /// What stands between the world and rest; None where it is at rest.
    pub(super) fn is_at_rest(&mut self) -> bool {
        if self.truth().nodes().any(|node| node.availability == Availability::Drain) {
            self.activate_all();
        }
        // A machine that was given up for good would never be back.
        let is_ready = |node: &goat_core::model::Node| {
            node.state == NodeState::Ready || !self.machines.iter().any(|machine| machine.id == node.id)
        };
        let nodes_are_back = self.truth().nodes().all(is_ready);
        nodes_are_back && self.unrest().is_none()
    }

    pub(super) fn what_is_left(&mut self) -> String {
        self.unrest().unwrap_or_else(|| "nodes are not ready".into())
    }
}
