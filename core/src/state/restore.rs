//! After rows of a saved snapshot were put in the place of managers that are lost: what was decided later is not in them,
//! and workers may run it.
//!
//! ```text
//! refounded ─► each worker says what it has ─► everybody was heard, or has had its full time ─► settled
//!                ├ what the rows think it runs and it does not: lost
//!                └ what it runs and the rows do not know: taken in, or to be stopped
//! ```
//! Until it is settled nothing is given to a node: it could run twice.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::State;
use super::apply::{Apply, Done};
use super::command::{Answer, KnownTask, Origin, Refusal};
use super::managers::{NUMBERS_SKIPPED, check_address};
use crate::model::validate::validate_name;
use crate::model::{Cause, Desired, Manager, NodeId, NodeState, Resources, Standing, Task, TaskId, TaskState, reason};

/// The largest attempt that is believed of a worker: one more each second counts on from it for 68 years.
const MAX_ATTEMPT: u32 = u32::MAX / 2;

/// The rows are those of a snapshot, and not settled yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The version of what put them here; whatever lost managers gave out is below.
    pub version: u64,
    /// By the state's clock (Unix ms), for people.
    pub at_ms: u64,
}

impl State {
    /// While the rows are those of a snapshot and workers have not all said what they run.
    pub const fn restored(&self) -> Option<Restored> {
        self.meta.restored
    }

    /// The least number that a manager may have which makes a cluster of this state anew.
    pub fn first_free_manager(&self) -> u64 {
        let highest = self.managers.last_key_value().map_or(0, |(id, _)| *id);
        self.meta.next_manager.max(highest.saturating_add(NUMBERS_SKIPPED))
    }
}

impl Apply<'_> {
    /// The first command over the rows of a snapshot: all managers are removed but a new one.
    pub(super) fn refound(&mut self, id: u64, name: &str, address: &str, leap: u64) -> Done {
        validate_name(name).map_err(|invalid| Refusal::Invalid { field: "name".into(), problem: invalid.problem })?;
        check_address(address)?;
        let first_free = self.state.first_free_manager();
        if id < first_free {
            let what =
                format!("manager number {id} may have been given before; {first_free} is the first that was not");
            return Err(Refusal::Impossible { what });
        }
        self.leap(leap, id.saturating_add(1));
        let (version, at_ms) = (self.at.index, self.now_ms);
        self.set_restored(Some(Restored { version, at_ms }));
        self.remove_managers_but(id)?;
        self.put_manager(Manager {
            id,
            name: name.to_owned(),
            address: address.to_owned(),
            standing: Standing::Voter,
            joined_at_ms: at_ms,
            version: 0,
        })
    }

    pub(super) fn settle_restore(&mut self, seen: u64) -> Done {
        match self.state.meta.restored {
            Some(restored) if restored.version == seen => {
                self.set_restored(None);
                self.changes.settled = true;
                Ok(Answer::Nothing)
            }
            Some(restored) => Err(Refusal::Stale { seen, found: restored.version }),
            None => Err(Refusal::Impossible { what: "what was restored is settled already".into() }),
        }
    }

    fn set_restored(&mut self, restored: Option<Restored>) {
        self.state.meta.restored = restored;
        self.rows.push(State::meta_row(&self.state.meta));
    }

    /// All that a node knows, ended or not. Says nothing of a state that is settled.
    pub(super) fn take_stock(&mut self, node: NodeId, known: &[KnownTask]) -> Done {
        let row = self.state.node(node).ok_or(Refusal::NoSuchNode { id: node })?;
        let Some(restored) = self.state.meta.restored.filter(|_| row.state == NodeState::Ready) else {
            return Ok(Answer::Nothing);
        };
        self.lose_unknown(node, known);
        let live = known.iter().filter(|task| !task.state.is_terminal());
        let mut oldest_first: Vec<(&KnownTask, Origin)> = live.filter_map(|task| Some((task, task.origin?))).collect();
        oldest_first.sort_by_key(|(_, origin)| origin.fencing_token);
        for (task, origin) in oldest_first {
            let is_of_the_lost = (1..restored.version).contains(&origin.fencing_token);
            if is_of_the_lost && self.state.task(task.task).is_none() {
                self.take_in(node, task, origin);
            }
        }
        self.stocked(node);
        Ok(Answer::Nothing)
    }

    /// It ran and has ended, and was forgotten since; were the node told of it, it would run for a second time.
    fn lose_unknown(&mut self, node: NodeId, known: &[KnownTask]) {
        let known: BTreeSet<TaskId> = known.iter().map(|task| task.task).collect();
        let gone = self.state.tasks_of_node(node);
        let gone = gone.filter(|task| !task.state.is_terminal() && !known.contains(&task.id));
        for mut task in gone.cloned().collect::<Vec<_>>() {
            (task.state, task.fenced) = (TaskState::Lost, true);
            task.reason = Some(reason::NOT_THERE.into());
            task.finished_at_ms = Some(self.now_ms);
            self.put_task(task, Cause::NodeBack);
        }
    }

    /// A task that lost managers had made. It stays where it is what its slot wants; else it is to be stopped, and its
    /// slot waits for that.
    fn take_in(&mut self, node: NodeId, known: &KnownTask, origin: Origin) {
        let Some(service) = self.state.service(origin.service) else { return };
        let (wanted, is_removed) = (service.spec.replicas(), service.removed);
        let is_as_wanted =
            !is_removed && (1..=wanted).contains(&origin.slot) && origin.spec_version == service.spec_version;
        let Some(mut task) = self.row_of(node, known, origin) else { return };
        let (newest, keeper) = (self.newest_of(&task), self.alive_in(&task));
        let keeps = is_as_wanted && keeper.is_none() && self.has_room(node, &task);
        if let Some(newest) = &newest {
            let Some(attempt) = newest.attempt.checked_add(1) else { return };
            (task.attempt, task.previous) = (attempt.max(task.attempt), Some(newest.id));
        }
        if !keeps {
            // What it holds is not counted: it is on its way out, and may be more than its node has.
            (task.reservations, task.ports) = (Resources::default(), Vec::new());
            let (desired, cause) = match (is_removed, is_as_wanted) {
                (true, _) => (Desired::Removed, Cause::User),
                (false, true) => (Desired::Stopped, Cause::NodeBack),
                (false, false) => (Desired::Stopped, Cause::Update),
            };
            (task.desired, task.stop_cause) = (desired, Some(cause));
        }
        let (id, attempt) = (task.id, task.attempt);
        for other in self.state.slot(task.service, task.slot).to_vec() {
            if Some(other) != keeper && self.state.task(other).is_some_and(|other| !other.state.is_terminal()) {
                self.desire(other, Desired::Stopped, Cause::NodeBack);
            }
        }
        self.put_task(task, Cause::NodeBack);
        // The one that stays is the newest, so that what follows it follows what ran last.
        if let Some(mut keeper) = keeper.and_then(|id| self.state.task(id)).cloned() {
            (keeper.attempt, keeper.previous) = (attempt.saturating_add(1), Some(id));
            keeper.returned = self.at.index;
            self.put_task(keeper, Cause::NodeBack);
        }
    }

    fn row_of(&self, node: NodeId, known: &KnownTask, origin: Origin) -> Option<Task> {
        let service = self.state.service(origin.service)?;
        let running = (known.state == TaskState::Running).then_some(known.at_ms.min(self.now_ms));
        (origin.slot > 0 && known.state != TaskState::Pending).then(|| Task {
            id: known.task,
            service: origin.service,
            slot: origin.slot,
            // Of one that runs another spec only this much is true, and needed: that it is to be stopped.
            spec_version: service.spec_version,
            node: Some(node),
            desired: Desired::Running,
            state: known.state,
            attempt: self.plausible(origin.attempt),
            failures: 0,
            not_before_ms: 0,
            cause: Cause::NodeBack,
            previous: None,
            created_at_ms: self.now_ms,
            started_at_ms: running,
            finished_at_ms: None,
            exit_code: None,
            reason: None,
            error: None,
            container_id: known.container_id.clone(),
            reservations: service.spec.reservations,
            ports: service.spec.ports.clone(),
            fencing_token: origin.fencing_token,
            stop_cause: None,
            fenced: false,
            returned: self.at.index,
            version: 0,
        })
    }

    /// An attempt that can be counted on from, whatever the worker said.
    fn plausible(&self, attempt: u32) -> u32 {
        let most = if self.state.is_bounded() { MAX_ATTEMPT } else { u32::MAX };
        attempt.clamp(1, most)
    }

    fn newest_of(&self, task: &Task) -> Option<Task> {
        self.state.slot(task.service, task.slot).last().and_then(|id| self.state.task(*id)).cloned()
    }

    /// Another of its slot that is wanted, and of which its own node has said that it lives.
    fn alive_in(&self, task: &Task) -> Option<TaskId> {
        let others = self.state.slot(task.service, task.slot).iter().filter_map(|id| self.state.task(*id));
        let since = self.state.meta.restored.map_or(0, |restored| restored.version);
        let is_heard = |node: NodeId| self.state.node(node).is_some_and(|node| node.stocked > since);
        let mut alive = others.filter(|other| !other.state.is_terminal() && other.desired == Desired::Running);
        alive.find(|other| other.node.is_some_and(is_heard)).map(|other| other.id)
    }
}
