//! A hostile worker: it has a certificate of the cluster, and reports what is not so. None of that may change anything.

use goat_core::model::{TaskId, TaskState};
use goat_core::state::command::{Action, Answer, Outcome, TaskReport};

use super::{Purpose, World};
use crate::mischief::Lie;

/// Beyond every limit of a text in a report.
const LONG_BYTES: usize = 64 << 10;

impl World {
    pub(super) fn misreport(&mut self, worker: usize, lie: Lie) {
        let Some(node) = self.machines.get(worker).map(|machine| machine.id) else { return };
        let is_about_others = matches!(lie, Lie::OthersFailed | Lie::OthersRunHere);
        let is_meant = |task: &&goat_core::model::Task| match task.node {
            Some(of) => (of != node) == is_about_others,
            // Whose it will be is not known yet.
            None => false,
        };
        let tasks: Vec<TaskId> = match lie {
            Lie::NeverWere => (1..=16).map(|_| TaskId::from_random(self.random.between(1, u64::MAX))).collect(),
            _ => self.truth().tasks().filter(is_meant).map(|task| task.id).collect(),
        };
        let reports: Vec<TaskReport> = tasks.into_iter().map(|task| report(task, lie)).collect();
        if reports.is_empty() {
            return;
        }
        let (leader, term) = (self.raft.leader, self.raft.term);
        self.propose_action(leader, term, Action::ReportTasks { node, reports }, Purpose::Misreport);
    }

    pub(crate) fn misreported(&mut self, outcome: &Outcome) {
        self.coverage.count("false reports");
        if let Outcome::Done(Answer::Reported(counts)) = outcome
            && counts.applied > 0
        {
            self.fail(format!("false reports were believed: {counts:?}"));
        }
    }
}

fn report(task: TaskId, lie: Lie) -> TaskReport {
    let long = (lie == Lie::LongTexts).then(|| "x".repeat(LONG_BYTES));
    let state = match lie {
        Lie::OthersRunHere | Lie::NeverWere => TaskState::Running,
        _ => TaskState::Failed,
    };
    TaskReport {
        task,
        state,
        exit_code: Some(i32::MIN),
        reason: long.clone(),
        error: long.clone(),
        container_id: long,
        at_ms: if lie == Lie::FarFuture { u64::MAX } else { 0 },
    }
}
