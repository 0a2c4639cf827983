//! Applying a command: how rows and the change set come to be. What is said of services is in `services`, of nodes in
//! `nodes`, what workers report in `reports`, what planners decided in `plan_steps`.

use super::change::{ChangeSet, RowChange, TaskChange};
use super::command::{Action, Answer, Command, Outcome, Refusal};
use super::rows::{old_spec_key, task_key};
use super::{At, State};
use crate::codec;
use crate::model::{Cause, Desired, Task, TaskId, TaskState};

pub(super) type Done = Result<Answer, Refusal>;

/// One command's work on the state.
pub(super) struct Apply<'a> {
    pub state: &'a mut State,
    pub at: At,
    pub now_ms: u64,
    pub rows: &'a mut Vec<RowChange>,
    pub(super) changes: ChangeSet,
}

impl State {
    /// Applies one command: changes the tables, appends the rows to write, and tells what was touched.
    pub fn apply(&mut self, at: At, command: &Command, rows: &mut Vec<RowChange>) -> (Outcome, ChangeSet) {
        self.meta.applied_index = at.index;
        self.meta.clock_ms = self.meta.clock_ms.max(command.now_ms);
        rows.push(Self::meta_row(&self.meta));
        if let Some(first) = command.request.and_then(|id| self.requests.get(id)) {
            return (first.clone(), ChangeSet { index: at.index, term: at.term, ..ChangeSet::default() });
        }
        let now_ms = self.meta.clock_ms;
        let base = self.meta.index_base;
        let changes = ChangeSet { index: at.index, term: at.term, at_ms: now_ms, ..ChangeSet::default() };
        // Rows count on where those before them ended; the log, and whoever reads it, by the log's own indexes.
        let at = At { index: at.index.saturating_add(base), ..at };
        let mut apply = Apply { state: self, at, now_ms, rows, changes };
        let outcome = match apply.act(&command.action) {
            Ok(answer) => Outcome::Done(answer),
            Err(refusal) => Outcome::Refused(refusal),
        };
        if let Some(request) = command.request {
            apply.remember(request, outcome.clone());
        }
        (outcome, apply.changes)
    }
}

impl Apply<'_> {
    fn act(&mut self, action: &Action) -> Done {
        match action {
            Action::InitCluster { id } => self.init_cluster(*id),
            Action::CreateService { id, spec } => self.create_service(*id, spec),
            Action::UpdateService { id, seen_version, spec } => self.update_service(*id, *seen_version, spec),
            Action::ScaleService { id, replicas } => self.scale_service(*id, *replicas),
            Action::RemoveService { id } => self.remove_service(*id),
            Action::RestoreServices { changes } => self.restore_services(changes),
            Action::DrainNode { node, within_ms } => self.drain_node(*node, *within_ms),
            Action::SetAvailability { node, availability } => self.set_availability(*node, *availability),
            Action::SetNodeLabels { node, set, remove } => self.set_node_labels(*node, set, remove),
            Action::RevokeNode { node } => self.revoke_node(*node),
            Action::RemoveNode { node } => self.remove_node(*node),
            Action::AddManager { name, address } => self.add_manager(name, address),
            Action::Recover { survivor, address, leap } => self.recover(*survivor, address.as_deref(), *leap),
            Action::Refound { id, name, address, leap } => self.refound(*id, name, address, *leap),
            Action::SettleRestore { seen_version } => self.settle_restore(*seen_version),
            Action::TakeStock { node, known } => self.take_stock(*node, known),
            Action::SetManagerAddress { id, address } => self.set_manager_address(*id, address),
            Action::SetManager { id, standing } => self.set_manager(*id, *standing),
            Action::RegisterNode { node, name, address, labels, inventory, running } => {
                let was_down = self.is_down(*node);
                let answer = self.register_node(*node, name, address, labels, inventory)?;
                if was_down {
                    self.take_back(*node, running);
                }
                Ok(answer)
            }
            Action::UpdateInventory { node, inventory } => self.update_inventory(*node, inventory),
            Action::ReportTasks { node, reports } => Ok(self.report_tasks(*node, reports)),
            Action::SetNodeState { node, seen_version, state } => self.set_node_state(*node, *seen_version, *state),
            Action::Freeze { for_ms } => self.freeze(*for_ms),
            Action::StopFreeze => self.stop_freeze(),
            Action::EndFreeze { seen_version } => self.end_freeze(*seen_version),
            Action::SetFormat { format } => self.set_format(*format),
            Action::InitSecurity { authority, secrets } => self.init_security(authority, secrets),
            Action::RotateJoinSecret { invited, secret } => self.rotate_secret(*invited, secret),
            Action::AnnounceAuthority { authority } => self.announce_authority(authority),
            Action::IssueClient { name, expires_at_ms } => self.issue_client(name, *expires_at_ms),
            Action::RevokeClient { name } => self.revoke_client(name),
            Action::AdvanceRotation { seen_version } => self.advance_rotation(*seen_version),
            #[cfg(feature = "next-format")]
            Action::Rehearse { .. } => Ok(Answer::Nothing),
            Action::Plan { steps } => Ok(self.plan(steps)),
        }
    }

    /// Moves a task's desired state forward; one that no worker knows ends at once. False where it is there already.
    pub(super) fn desire(&mut self, id: TaskId, desired: Desired, cause: Cause) -> bool {
        let Some(task) = self.state.tasks.get(&id).filter(|task| task.desired < desired) else {
            return false;
        };
        let mut task = task.clone();
        (task.desired, task.stop_cause) = (desired, Some(cause));
        if task.state == TaskState::Pending {
            task.state = TaskState::Stopped;
            task.finished_at_ms = Some(self.now_ms);
        }
        self.put_task(task, cause);
        true
    }

    pub(super) fn put_task(&mut self, mut task: Task, cause: Cause) {
        task.version = self.at.index;
        let before = self.state.tasks.remove(&task.id);
        if let Some(before) = &before {
            self.state.index.remove_task(before);
        }
        self.changes.tasks.push(TaskChange {
            task: task.id,
            service: task.service,
            slot: task.slot,
            node: task.node,
            from: before.map(|before| before.state),
            to: Some(task.state),
            desired: task.desired,
            cause,
            detail: task.error.clone().or_else(|| task.reason.clone()),
        });
        self.write(task_key(task.id), codec::encode(&task));
        let tasks = &self.state.tasks;
        self.state.index.add_task(&task, |id| tasks.get(&id).map_or(0, |task| task.attempt));
        self.state.tasks.insert(task.id, task);
    }

    pub(super) fn forget_task(&mut self, id: TaskId) {
        let Some(task) = self.state.tasks.remove(&id) else {
            return;
        };
        self.state.index.remove_task(&task);
        self.delete(task_key(id));
        let key = (task.service, task.spec_version);
        if !self.state.index.spec_use.contains_key(&key) && self.state.old_specs.remove(&key).is_some() {
            self.delete(old_spec_key(key.0, key.1));
        }
        self.changes.tasks.push(TaskChange {
            task: id,
            service: task.service,
            slot: task.slot,
            node: task.node,
            from: Some(task.state),
            to: None,
            desired: task.desired,
            cause: task.stop_cause.unwrap_or(task.cause),
            detail: None,
        });
    }

    pub(super) fn write(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.rows.push(RowChange { key, value: Some(value) });
    }

    pub(super) fn delete(&mut self, key: Vec<u8>) {
        self.rows.push(RowChange { key, value: None });
    }
}
