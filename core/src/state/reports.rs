//! Applying what workers report of their tasks.

use super::apply::Apply;
use super::command::{Answer, TaskReport};
use crate::model::{Cause, Desired, NodeId, Task, TaskState, reason};

impl Apply<'_> {
    pub(super) fn report_tasks(&mut self, node: NodeId, reports: &[TaskReport]) -> Answer {
        let (mut applied, mut stale) = (0, 0);
        for report in reports {
            if self.report_task(node, report) { applied += 1 } else { stale += 1 }
        }
        Answer::Counted { applied, stale }
    }

    /// Takes over what a worker says of a task of its own that goes forward.
    fn report_task(&mut self, node: NodeId, report: &TaskReport) -> bool {
        let Some(task) = self.state.tasks.get(&report.task) else {
            return false;
        };
        let is_workers_to_say = !matches!(report.state, TaskState::Pending | TaskState::Assigned | TaskState::Lost);
        let is_news = report.state > task.state
            || (report.state == task.state
                && report.container_id.is_some()
                && report.container_id != task.container_id);
        if task.node != Some(node) || task.state.is_terminal() || !is_workers_to_say || !is_news {
            return false;
        }
        let mut task = task.clone();
        task.state = report.state;
        if report.container_id.is_some() {
            task.container_id.clone_from(&report.container_id);
        }
        task.reason.clone_from(&report.reason);
        task.error.clone_from(&report.error);
        if task.state == TaskState::Running && task.started_at_ms.is_none() {
            task.started_at_ms = Some(report.at_ms);
        }
        if task.state.is_terminal() {
            task.exit_code = report.exit_code;
            task.finished_at_ms = Some(report.at_ms.max(task.started_at_ms.unwrap_or(0)));
        }
        let cause = cause_of(&task);
        self.put_task(task, cause);
        true
    }
}

/// Why a task is in the state that its worker reported.
fn cause_of(task: &Task) -> Cause {
    match (task.desired, task.state) {
        (_, state) if !state.is_terminal() => task.cause,
        (Desired::Stopped | Desired::Removed, _) => task.stop_cause.unwrap_or(task.cause),
        // Nobody asked for it: its lease had run out.
        (Desired::Running, TaskState::Stopped) => Cause::NodeLost,
        (Desired::Running, _) if task.reason.as_deref() == Some(reason::UNHEALTHY) => Cause::Health,
        (Desired::Running, _) => Cause::Exit,
    }
}
