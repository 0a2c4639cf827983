//! People's requests: sent to some manager, passed on to the leader, repeated under the same id until they are answered;
//! on their way they get lost, are late, and come twice.

use goat_core::model::{RequestId, Standing};
use goat_core::scheduler::mix;
use goat_core::state::State;
use goat_core::state::command::{Action, Command, Outcome};

use super::{Event, ManagerEvent, Purpose, World};
use crate::mischief::{Place, Wanted, Wish};
use crate::script::Bug;

/// Tries of one request; more would not come to an end in a world where nobody leads.
const MAX_TRIES: u32 = 40;

#[derive(Debug)]
pub(super) struct Request {
    number: u64,
    id: RequestId,
    via: usize,
    wish: Wish,
    tries: u32,
    /// What its client has heard.
    is_answered: bool,
    outcome: Option<(u64, Outcome)>,
}

impl Request {
    pub(super) fn new(number: u64, via: usize, wish: Wish) -> Self {
        Self {
            number,
            id: RequestId::from_random(mix(0x5eed ^ number)),
            via,
            wish,
            tries: 0,
            is_answered: false,
            outcome: None,
        }
    }
}

impl World {
    pub(super) fn ask(&mut self, request: Request) {
        self.requests.push(request);
        self.after(0, Event::Try(self.requests.len() - 1));
    }

    pub(super) fn try_request(&mut self, at: usize) {
        let wait_ms = self.random.between(1_000, 2_500);
        let request = &mut self.requests[at];
        if request.is_answered || request.tries >= MAX_TRIES {
            return;
        }
        request.tries += 1;
        let (try_number, via) = (request.tries, request.via);
        // Another manager the next time.
        request.via = (via + 1) % self.managers.len();
        let delay_ms = self.net.delay_ms(self.now_ms);
        let event = ManagerEvent::Request { request: at, try_number, is_forwarded: false };
        if self.managers[via].is_up && self.raft.is_member(via) {
            self.after(delay_ms, Event::Manager(via, event));
            self.after(wait_ms, Event::Try(at));
        } else {
            self.after(100, Event::Try(at));
        }
    }

    /// At a manager. One that leads proposes it, another one passes it on.
    pub(super) fn request_arrives(&mut self, manager: usize, at: usize, try_number: u32, is_forwarded: bool) {
        if !self.managers[manager].is_up {
            return;
        }
        if let Some(term) = self.managers[manager].leading.as_ref().map(|leading| leading.term) {
            let Some(action) = self.action_of(manager, at) else { return };
            let id = self.requests[at].id;
            let is_fresh = self.has(Bug::FreshRequestIds);
            let request = if is_fresh { RequestId::from_random(mix(id.bits() ^ u64::from(try_number))) } else { id };
            let now_ms = self.managers[manager].wall_ms(self.now_ms);
            let command = Command { now_ms, request: Some(request), action };
            return self.propose(manager, term, command, Purpose::Request(at));
        }
        let Some(leader) = self.leader_known_to(manager).filter(|_| !is_forwarded) else { return };
        if !self.net.is_open(Place::Manager(manager), Place::Manager(leader)) {
            return;
        }
        let delay_ms = self.net.delay_ms(self.now_ms);
        let event = || ManagerEvent::Request { request: at, try_number, is_forwarded: true };
        self.after(delay_ms, Event::Manager(leader, event()));
        if !self.is_healed && self.random.once_in(12) {
            // It comes twice, the second time perhaps long after its answer.
            let late_ms = delay_ms + self.random.below(6_000);
            self.after(late_ms, Event::Manager(leader, event()));
        }
    }

    /// What a manager makes of the words, by its own view; None where they name nothing that is there.
    fn action_of(&self, manager: usize, at: usize) -> Option<Action> {
        let state = &self.managers[manager].state;
        let Request { wish, number, .. } = &self.requests[at];
        if let Some((worker, availability)) = wish.of_worker() {
            let node = self.machines.get(worker)?.id;
            return match availability {
                Some(availability) => Some(Action::SetAvailability { node, availability }),
                None => Some(Action::RemoveNode { node }),
            };
        }
        let named = |service: u64| {
            let named = state.service_by_name(&Wanted::name(service));
            named.map(|found| (found.id, found.spec.clone()))
        };
        match wish {
            Wish::Update { service, image } => {
                let (id, spec) = named(*service)?;
                let mut spec = (*spec).clone();
                spec.image = format!("registry.example/app:{image}");
                Some(Action::UpdateService { id, seen_version: None, spec: Box::new(spec) })
            }
            Wish::Scale { service, replicas } => {
                named(*service).map(|(id, _)| Action::ScaleService { id, replicas: *replicas })
            }
            Wish::Remove { service } => named(*service).map(|(id, _)| Action::RemoveService { id }),
            // One that is being removed joins again when it is gone.
            Wish::AddManager { manager } if self.raft.is_member(*manager) => None,
            Wish::SetManager { manager, standing } => set_manager(state, *manager, *standing),
            wish => wish.action(*number),
        }
    }

    pub(super) fn answer_request(&mut self, at: usize, index: u64, outcome: Outcome) {
        self.judge_answer(self.requests[at].id, index, &outcome);
        let before = self.requests[at].outcome.replace((index, outcome.clone()));
        if let Some((_, before)) = before.filter(|(_, before)| *before != outcome) {
            self.fail(format!("a request was answered with {before:?} and, repeated, with {outcome:?}"));
        }
        // The answer may be lost on its way.
        if self.is_healed || !self.random.once_in(10) {
            let delay_ms = self.net.delay_ms(self.now_ms);
            self.after(delay_ms, Event::Answer { request: at, index });
        }
    }

    pub(super) fn answered(&mut self, at: usize, _index: u64) {
        if !std::mem::replace(&mut self.requests[at].is_answered, true) {
            self.coverage.count("requests acknowledged");
            if let (id, Some((_, Outcome::Done(_)))) = (self.requests[at].id, &self.requests[at].outcome) {
                self.judge.acknowledged.insert(id);
            }
        }
    }

    /// Whether it took effect is not known: its client tries again.
    pub(super) fn request_failed(&mut self, _at: usize) {}
}

fn set_manager(state: &State, manager: usize, standing: Standing) -> Option<Action> {
    let name = format!("m{manager}");
    let row = state.managers().find(|row| row.name == name && row.is_member())?;
    Some(Action::SetManager { id: row.id, standing })
}
