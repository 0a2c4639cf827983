//! What goes wrong in the simulated world, and what people do meanwhile.

use goat_core::model::{Availability, NodeId, OnDisconnect, RestartCondition, ServiceId, ServiceSpec};
use goat_core::state::command::{Action, Outcome};

use super::World;
use crate::support::{needing, spec, tcp};

impl World {
    pub(super) fn mischief(&mut self) {
        if !self.random.once_in(12) {
            return;
        }
        let at = self.random.below(self.machines.len() as u64) as usize;
        match self.random.below(8) {
            0 => self.change_leader(),
            1 => self.crash(at),
            2 | 3 => self.boot(at),
            4 => self.machines[at].is_linked = false,
            5 => self.machines[at].is_linked = true,
            _ => self.user(),
        }
    }

    fn crash(&mut self, at: usize) {
        self.machines[at].is_up = false;
        self.machines[at].processes.clear();
        self.machines[at].session += 1;
    }

    fn boot(&mut self, at: usize) {
        self.machines[at].is_up = true;
    }

    pub(super) fn user(&mut self) {
        let nodes: Vec<NodeId> = self.leader.state.nodes().map(|node| node.id).collect();
        let services: Vec<ServiceId> = self.leader.state.services().map(|service| service.id).collect();
        let (node, service) = (self.random.pick(&nodes), self.random.pick(&services));
        let replicas = self.random.below(6) as u32;
        match (self.random.below(9), node, service) {
            (0, Some(node), _) => self.try_out(Action::SetAvailability { node, availability: Availability::Drain }),
            (1 | 2, Some(node), _) => {
                self.try_out(Action::SetAvailability { node, availability: Availability::Active })
            }
            (3, Some(node), _) => {
                if matches!(self.leader.apply(Action::RemoveNode { node }), Outcome::Done(_)) {
                    self.leases.forget(node);
                }
            }
            (4, _, Some(id)) => self.try_out(Action::ScaleService { id, replicas }),
            (5, _, Some(id)) if self.random.once_in(3) => self.try_out(Action::RemoveService { id }),
            (6, _, Some(id)) => self.update(id),
            (7 | 8, ..) if services.len() < 5 => self.create(replicas),
            _ => {}
        }
    }

    /// Refused or not, the checker has judged.
    fn try_out(&mut self, action: Action) {
        self.leader.apply(action);
    }

    pub(super) fn create(&mut self, replicas: u32) {
        self.services += 1;
        let mut wanted = spec(&format!("s{}", self.services), replicas);
        wanted.reservations = needing(50 + self.random.below(100), 0);
        let leased = self.random.pick(&[OnDisconnect::Keep, OnDisconnect::Stop, OnDisconnect::StopIfIsolated]);
        // Said outright: the default follows the count, and workers learn of a change only with their next grant.
        wanted.on_disconnect = leased;
        wanted.restart.delay_ms = 200;
        wanted.restart.max_delay_ms = 2_000;
        if self.random.once_in(3) {
            wanted.restart.condition = RestartCondition::OnFailure;
        }
        if self.random.once_in(4) {
            wanted.ports = vec![tcp(7_000 + self.random.below(2) as u16)];
        }
        let id = ServiceId::from_random(self.services);
        self.try_out(Action::CreateService { id, spec: Box::new(wanted) });
    }

    fn update(&mut self, id: ServiceId) {
        let Some(service) = self.leader.state.service(id) else {
            return;
        };
        let image = format!("registry.example/app:{}", self.random.below(3));
        let spec = ServiceSpec { image, ..(*service.spec).clone() };
        self.try_out(Action::UpdateService { id, seen_version: None, spec: Box::new(spec) });
    }

    pub(super) fn heal(&mut self) {
        self.is_healed = true;
        for at in 0..self.machines.len() {
            self.boot(at);
            self.machines[at].is_linked = true;
        }
        let nodes: Vec<NodeId> = self.leader.state.nodes().map(|node| node.id).collect();
        for node in nodes {
            self.try_out(Action::SetAvailability { node, availability: Availability::Active });
        }
    }
}
