//! What the service keeps of one task.

use std::time::Instant;

use tokio::sync::watch;

use super::super::Seen;
use super::super::goal::Goal;
use super::super::plan::{self, Doing};
use crate::task::{Assignment, Exit, Record};

#[derive(Debug)]
pub(super) struct Known {
    pub(super) record: Record,
    /// While something is being done to bring it up, to watch it or to stop it.
    pub(super) actor: Option<ActorHandle>,
    pub(super) is_forgetting: bool,
    /// When this agent learned that it has ended: a listing from before may show it running.
    pub(super) ended: Option<Instant>,
}

impl Known {
    pub(super) fn new(record: Record, actor: Option<ActorHandle>) -> Self {
        let ended = record.state.is_terminal().then(Instant::now);
        Self { record, actor, is_forgetting: false, ended }
    }

    /// Tells the actor how the task has ended, once.
    pub(super) fn tell_exit(&self, exit: Exit) {
        if let Some(actor) = &self.actor {
            actor.exit.send_if_modified(|told| {
                let is_first = told.is_none();
                told.get_or_insert(exit);
                is_first
            });
        }
    }

    pub(super) fn seen(&self) -> Seen {
        let is_told_to_stop = |actor: &ActorHandle| *actor.goal.borrow() != Goal::Run;
        Seen { record: self.record.clone(), is_stopping: self.actor.as_ref().is_some_and(is_told_to_stop) }
    }
}

#[derive(Debug)]
pub(super) struct ActorHandle {
    pub(super) goal: watch::Sender<Goal>,
    pub(super) exit: watch::Sender<Option<Exit>>,
    /// When this agent first saw it run: a listing from before does not show it.
    pub(super) running_since: Option<Instant>,
    /// Since when its container has been listed as paused.
    pub(super) paused_since: Option<Instant>,
}

impl Known {
    pub(super) fn view(&self) -> plan::Known {
        let goal = self.actor.as_ref().map(|actor| *actor.goal.borrow());
        let doing = match goal {
            _ if self.is_forgetting => Doing::Forgetting,
            None => Doing::Nothing,
            Some(Goal::Run) => Doing::Running,
            Some(Goal::Stop { grace_ms, .. }) => Doing::Stopping { grace_ms },
        };
        plan::Known {
            state: self.record.state,
            doing,
            on_disconnect: self.record.meta.on_disconnect,
            stop_grace_ms: self.record.meta.stop_grace_ms,
        }
    }
}

pub(super) fn wanted(assignment: &Assignment) -> plan::Wanted {
    plan::Wanted {
        desired: assignment.desired,
        driver: assignment.meta.driver,
        on_disconnect: assignment.meta.on_disconnect,
        unusable: assignment.spec.as_ref().err().cloned(),
    }
}
