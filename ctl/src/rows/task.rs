//! Tasks as scripts read them.

use goat_core::model::ServiceSpec;
use goat_proto::v1;
use serde::Serialize;

use super::{present, spec_of};
use crate::cmd::task::due_ms;
use crate::exit::Failure;
use crate::output::rfc3339;

/// A row of `task ls` and `service ps`.
#[derive(Debug, Serialize)]
pub struct TaskRow {
    pub id: String,
    pub service: String,
    pub slot: u32,
    pub node: Option<String>,
    pub state: String,
    pub desired: String,
    pub attempt: u32,
    pub exit_code: Option<i32>,
    pub error: Option<String>,
    pub created_at: Option<String>,
    pub started_at: Option<String>,
    pub container_id: Option<String>,
    /// Why it was made.
    pub cause: String,
    /// A constant word for why it ended.
    pub reason: Option<String>,
    pub finished_at: Option<String>,
    /// Until then it waits, as it does after failures.
    pub next_attempt_at: Option<String>,
    /// Of one that is to leave its node: what it waits for before it goes.
    pub waits_for: Option<String>,
    /// The service's placement excludes its node.
    pub misplaced: bool,
}

impl From<&v1::Task> for TaskRow {
    fn from(task: &v1::Task) -> Self {
        Self {
            id: task.id.clone(),
            service: task.service.clone(),
            slot: task.slot,
            node: present(&task.node),
            state: task.state.clone(),
            desired: task.desired.clone(),
            attempt: task.attempt,
            exit_code: task.exit_code,
            error: present(&task.error).or_else(|| present(&task.reason)),
            created_at: rfc3339(task.created_at_ms),
            started_at: task.started_at_ms.and_then(rfc3339),
            container_id: present(&task.container_id),
            cause: task.cause.clone(),
            reason: present(&task.reason),
            finished_at: task.finished_at_ms.and_then(rfc3339),
            next_attempt_at: due_ms(task).and_then(rfc3339),
            waits_for: present(&task.waits_for),
            misplaced: task.misplaced,
        }
    }
}

/// `task inspect`: the row, and everything else.
#[derive(Debug, Serialize)]
pub struct TaskPage {
    #[serde(flatten)]
    pub row: TaskRow,
    pub service_id: String,
    pub node_id: Option<String>,
    pub not_before: Option<String>,
    pub fencing_token: u64,
    pub version: u64,
    /// Why it is pending: nodes that each filter refused.
    pub filters: Vec<FilterRow>,
    pub spec: ServiceSpec,
    /// The slot's earlier tasks, newest first.
    pub history: Vec<TaskRow>,
}

#[derive(Debug, Serialize)]
pub struct FilterRow {
    pub filter: String,
    pub nodes: u32,
    pub text: String,
}

impl TaskPage {
    pub fn new(detail: &v1::TaskDetail) -> Result<Self, Failure> {
        let task = detail.task.clone().unwrap_or_default();
        let filter = |count: &v1::FilterCount| FilterRow {
            filter: count.filter.clone(),
            nodes: count.nodes,
            text: count.text.clone(),
        };
        Ok(Self {
            row: (&task).into(),
            service_id: task.service_id,
            node_id: present(&task.node_id),
            not_before: rfc3339(task.not_before_ms),
            fencing_token: task.fencing_token,
            version: task.version,
            filters: detail.filters.iter().map(filter).collect(),
            spec: spec_of(detail.spec.as_ref())?,
            history: detail.history.iter().map(TaskRow::from).collect(),
        })
    }
}
