//! Workers are told of a few others, which they ask when no manager answers: now, when somebody comes, and at looks for those
//! that have gone, as `manager/src/dispatcher/introduce.rs` does it.

use goat_core::model::{NodeId, NodeState};

use crate::wire::Down;
use crate::world::{Event, ManagerEvent, World};

const NEIGHBOURS: usize = 5;
const LOOK_AGAIN_MS: u64 = 2_000;

impl World {
    /// A session has begun.
    pub(super) fn begin_introducing(&mut self, manager: usize, number: u64) {
        let Some(term) = self.leading(manager).map(|leading| leading.term) else { return };
        self.introduce(manager, number);
        self.after(LOOK_AGAIN_MS, Event::Manager(manager, ManagerEvent::Introduce { term, session: number }));
    }

    /// A look for those that have gone; the last one when the session has ended.
    pub(crate) fn look_for_gone(&mut self, manager: usize, number: u64) {
        if self.leading(manager).is_some_and(|leading| leading.sessions.contains_key(&number)) {
            self.begin_introducing(manager, number);
        }
    }

    /// Somebody has come.
    pub(super) fn introduce_all(&mut self, manager: usize) {
        let numbers: Vec<u64> = match self.leading(manager) {
            Some(leading) => leading.sessions.keys().copied().collect(),
            None => return,
        };
        for number in numbers {
            self.introduce(manager, number);
        }
    }

    fn introduce(&mut self, manager: usize, number: u64) {
        let own = &mut self.managers[manager];
        let Some(leading) = own.leading.as_deref_mut() else { return };
        let term = leading.term;
        let Some(session) = leading.sessions.get_mut(&number).filter(|session| session.book.is_some()) else { return };
        let others = own.state.nodes_after(session.node).filter(|node| node.state != NodeState::Down);
        let others: Vec<NodeId> = others.take(NEIGHBOURS).map(|node| node.id).collect();
        if session.introduced.as_ref() != Some(&others) {
            session.introduced = Some(others.clone());
            let connection = session.connection;
            self.send_down(connection, term, Down::Peers(others));
        }
    }
}
