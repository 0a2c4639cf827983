//! The protocol as a model for the checker: what can happen in each state, and what must always hold.

use stateright::{Model, Property};

use super::arithmetic::{FAST, SLOW};
use super::protocol::{Broken, Protocol, Scene};
use super::world::{Action, Cut, Mail, Worker, World};

pub const NEVER_TWICE: &str = "never two live instances";
pub const NEVER_STUCK: &str = "after a loss the slot can be given away";
pub const RUNS: &str = "the task runs on either worker";
pub const RUNS_ON: &str = "the task outlives its lease without managers";

impl Protocol {
    fn actions_of(&self, world: &World, w: u8, actions: &mut Vec<Action>) {
        let at = usize::from(w);
        let worker = &world.workers[at];
        if worker.is_frozen {
            actions.push(Action::Thaw(w));
        } else if worker.runs && (w == 0 || self.scene == Scene::Stop) {
            actions.push(Action::Freeze(w));
        }
        let reaches = self.reaches_managers(world, at);
        if w == 1 && self.scene != Scene::Stop {
            actions.extend(world.leader.map(|_| Action::Exchange));
        } else if !worker.is_frozen && reaches {
            actions.push(Action::Send(w));
        }
        match worker.mail {
            Mail::Heartbeat { .. } if reaches => {
                actions.extend(world.leader.map(|_| Action::Grant(w)));
                actions.extend(world.is_there_a_stale_leader.then_some(Action::GrantStale(w)));
            }
            Mail::Grant { .. } if reaches && !worker.is_frozen => actions.push(Action::Deliver(w)),
            _ => {}
        }
        if self.scene != Scene::Stop && world.cut != Cut::Everybody && worker.runs && !worker.is_frozen {
            actions.push(Action::Ask(w));
        }
        if !world.down[at] && self.is_due(world, at) {
            actions.push(Action::GiveUp(w));
        }
        if world.leader.is_some() && world.owner.is_none() && !world.down[at] {
            actions.push(Action::Assign(w));
        }
    }

    /// The slot's worker is never heard again, and everybody else does what the protocol says: does it run elsewhere?
    fn can_be_given_away(&self, world: &World) -> bool {
        let Some(lost) = world.owner else { return true };
        let mut world = world.clone();
        let other = 1 - lost;
        let ways = [
            Action::Deliver(other),
            Action::Assign(other),
            Action::GiveUp(lost),
            Action::Thaw(other),
            Action::Elect(0),
            Action::Cut(Cut::Nobody),
            Action::Exchange,
            Action::Grant(other),
            Action::Send(other),
        ];
        for _ in 0..=self.oldest_silence {
            for action in ways.iter().cycle().take(4 * ways.len()) {
                let is_needed = match action {
                    Action::Elect(_) => world.leader.is_none(),
                    Action::Cut(_) => other == 0 && world.cut != Cut::Nobody,
                    Action::Send(_) => world.workers[usize::from(other)].mail == Mail::Nothing,
                    Action::Exchange => other == 1,
                    _ => true,
                };
                let mut able = Vec::new();
                self.actions(&world, &mut able);
                if is_needed && able.contains(action) {
                    world = self.after(&world, *action);
                }
            }
            if world.workers[usize::from(other)].runs && world.owner == Some(other) {
                return true;
            }
            world = self.after(&world, Action::Tick);
        }
        false
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    /// Each clock is as slow or as fast as it may be.
    fn init_states(&self) -> Vec<World> {
        let paces = [[SLOW, SLOW], [SLOW, FAST], [FAST, SLOW]];
        let managers = [[FAST, FAST], [FAST, SLOW]];
        let world = |workers_pace, managers_pace| World {
            workers_pace,
            managers_pace,
            leader: Some(0),
            is_there_a_stale_leader: false,
            silent: [0; 2],
            down: [false; 2],
            owner: None,
            cut: Cut::Nobody,
            found: [false; 2],
            workers: [Worker::new(self.oldest_lease); 2],
        };
        paces.into_iter().flat_map(|workers| managers.map(|managers| world(workers, managers))).collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if !self.is_overdue(world) {
            actions.push(Action::Tick);
        }
        actions.extend([Action::Elect(0), Action::Elect(1)]);
        if let Scene::OneIsCut { .. } = self.scene {
            actions.push(Action::LoseLeader);
            actions.extend([Cut::Nobody, Cut::Managers, Cut::Everybody].map(Action::Cut));
        }
        for w in 0..2 {
            self.actions_of(world, w, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(self.after(world, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(NEVER_TWICE, |_, world: &World| !world.workers.iter().all(|worker| worker.runs)),
            Property::sometimes(RUNS, |_, world: &World| world.workers[1].runs),
        ];
        if matches!(self.broken, Broken::Nothing | Broken::NeverGivesUp) {
            properties.push(Property::always(NEVER_STUCK, |protocol: &Self, world| protocol.can_be_given_away(world)));
            if self.scene != Scene::Stop {
                properties.push(Property::sometimes(RUNS_ON, |protocol: &Self, world: &World| {
                    (0..2).any(|w| world.workers[w].runs && protocol.is_over(world, w) && !protocol.must_end(world, w))
                }));
            }
        }
        properties
    }
}
