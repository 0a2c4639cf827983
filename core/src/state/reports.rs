//! Applying what workers report of their tasks. A worker may be broken, or lie: each report is judged by itself, and one that
//! cannot be true is counted and changes nothing.

use super::apply::Apply;
use super::command::{
    Answer, MAX_REPORT_AHEAD_MS, MAX_REPORT_ERROR_BYTES, MAX_REPORT_WORD_BYTES, Reported, TaskReport,
};
use crate::model::{Cause, Desired, NodeId, Task, TaskState};

impl Apply<'_> {
    pub(super) fn report_tasks(&mut self, node: NodeId, reports: &[TaskReport]) -> Answer {
        let mut counts = Reported::default();
        for report in reports {
            let verdict = self.judge(node, report);
            if let Verdict::News(task) = verdict {
                self.report_task(task, report);
                counts.applied += 1;
                continue;
            }
            *match verdict {
                Verdict::News(_) | Verdict::Stale => &mut counts.stale,
                Verdict::Unknown => &mut counts.unknown,
                Verdict::Foreign => &mut counts.foreign,
                Verdict::Backwards => &mut counts.backwards,
                Verdict::Absurd => &mut counts.absurd,
            } += 1;
        }
        Answer::Reported(counts)
    }

    fn judge(&self, node: NodeId, report: &TaskReport) -> Verdict {
        let Some(task) = self.state.task(report.task) else {
            return Verdict::Unknown;
        };
        if task.node != Some(node) {
            return Verdict::Foreign;
        }
        if is_absurd(report, self.now_ms) {
            return Verdict::Absurd;
        }
        let is_other_container = report.container_id.is_some() && report.container_id != task.container_id;
        match report.state {
            TaskState::Pending | TaskState::Lost => Verdict::Backwards,
            _ if task.state.is_terminal() => Verdict::Stale,
            state if state < task.state => Verdict::Backwards,
            TaskState::Assigned => Verdict::Stale,
            state if state == task.state && !is_other_container => Verdict::Stale,
            _ => Verdict::News(Box::new(task.clone())),
        }
    }

    /// Takes over what a worker says of a task of its own that goes forward.
    fn report_task(&mut self, mut task: Box<Task>, report: &TaskReport) {
        let at_ms = report.at_ms.min(self.now_ms);
        task.state = report.state;
        if report.container_id.is_some() {
            task.container_id.clone_from(&report.container_id);
        }
        task.reason.clone_from(&report.reason);
        task.error.clone_from(&report.error);
        if task.state == TaskState::Running && task.started_at_ms.is_none() {
            task.started_at_ms = Some(at_ms);
        }
        if task.state.is_terminal() {
            task.exit_code = report.exit_code;
            task.finished_at_ms = Some(at_ms.max(task.started_at_ms.unwrap_or(0)));
        }
        let cause = cause_of(&task);
        self.put_task(*task, cause);
    }
}

/// What a report is worth.
enum Verdict {
    /// Of this task, as it is.
    News(Box<Task>),
    Stale,
    Unknown,
    Foreign,
    Backwards,
    Absurd,
}

fn is_absurd(report: &TaskReport, now_ms: u64) -> bool {
    let is_longer = |text: &Option<String>, most| text.as_ref().is_some_and(|text| text.len() > most);
    report.at_ms > now_ms.saturating_add(MAX_REPORT_AHEAD_MS)
        || is_longer(&report.error, MAX_REPORT_ERROR_BYTES)
        || is_longer(&report.reason, MAX_REPORT_WORD_BYTES)
        || is_longer(&report.container_id, MAX_REPORT_WORD_BYTES)
}

/// Why a task is in the state that its worker reported.
fn cause_of(task: &Task) -> Cause {
    match (task.desired, task.state) {
        (_, state) if !state.is_terminal() => task.cause,
        (Desired::Stopped | Desired::Removed, _) => task.stop_cause.unwrap_or(task.cause),
        // Nobody asked for it: its lease had run out.
        (Desired::Running, TaskState::Stopped) => Cause::NodeLost,
        (Desired::Running, _) if task.was_unhealthy() => Cause::Health,
        (Desired::Running, _) => Cause::Exit,
    }
}
