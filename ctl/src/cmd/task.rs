//! `task ls` and `task inspect`, and how a task is shown.

use goat_proto::v1::{GetTaskRequest, ListTasksRequest, Task, TaskDetail};

use super::Context;
use super::service::spec_page;
use crate::cli::{ListFlags, ReadFlags};
use crate::exit::Failure;
use crate::output::{age, ahead, local_time, or_dash};
use crate::rows::{TaskPage, TaskRow, spec_of};

pub const HEADER: [&str; 8] = ["ID", "NAME", "NODE", "STATE", "WANTED", "SINCE", "ATTEMPT", "PROBLEM"];

/// What `task ls` leaves in.
#[derive(Debug)]
pub struct Filter {
    pub all: bool,
    pub service: Option<String>,
    pub node: Option<String>,
    pub state: Option<String>,
}

pub async fn ls(context: &Context, filter: Filter, flags: &ListFlags) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    let request = ListTasksRequest {
        read: flags.read.options(),
        service: filter.service.unwrap_or_default(),
        node: filter.node.unwrap_or_default(),
        // Who asks for a state means it, ended or not.
        all: filter.all || filter.state.is_some(),
        page: String::new(),
    };
    let reply = client.list_tasks(request).await?;
    context.note_staleness(&flags.read, reply.read);
    let mut tasks = reply.tasks;
    if let Some(state) = filter.state {
        tasks.retain(|task| task.state == state);
    }
    tasks.sort_by(|a, b| (&a.service, a.slot, b.attempt).cmp(&(&b.service, b.slot, a.attempt)));
    if flags.quiet {
        return out.names(tasks.iter().map(|task| &task.id));
    }
    if out.is_json() {
        return out.json(&tasks.iter().map(TaskRow::from).collect::<Vec<_>>());
    }
    out.table(&HEADER, tasks.iter().map(|task| row(task, name(task))).collect())
}

pub async fn inspect(context: &Context, reference: String, read: &ReadFlags) -> Result<(), Failure> {
    let request = GetTaskRequest { read: read.options(), reference };
    let detail = context.client.unary(request, async |control, request| control.get_task(request).await).await?;
    if context.out.is_json() {
        return context.out.json(&TaskPage::new(&detail)?);
    }
    context.out.page(&page(&detail)?)
}

fn page(detail: &TaskDetail) -> Result<Vec<(&'static str, String)>, Failure> {
    let task = detail.task.clone().unwrap_or_default();
    let time = |at_ms: Option<u64>| at_ms.map(|at_ms| format!("{} ({})", local_time(at_ms), age(at_ms)));
    let filters = detail.filters.iter().map(|count| format!("{} {}", count.nodes, count.text));
    let history = detail.history.iter().map(|task| before(task).trim_end().to_owned());
    let due = |at_ms| format!("{} ({})", local_time(at_ms), ahead(at_ms).unwrap_or_else(|| "due".into()));
    let entries = [
        ("ID", task.id.clone()),
        ("Name", name(&task)),
        ("Service", format!("{} ({})", task.service, task.service_id)),
        ("Node", if task.node.is_empty() { "-".into() } else { format!("{} ({})", task.node, task.node_id) }),
        ("State", format!("{}, wanted {}", task.state, task.desired)),
        ("Problem", problem(&task)),
        ("Leaves its node", leaving(&task)),
        ("Nodes refused", filters.collect::<Vec<_>>().join("\n")),
        ("Attempt", format!("{}, because of {}", task.attempt, task.cause)),
        ("Created", time(Some(task.created_at_ms)).unwrap_or_default()),
        ("Next attempt", due_ms(&task).map(due).unwrap_or_default()),
        ("Started", time(task.started_at_ms).unwrap_or_default()),
        ("Ended", time(task.finished_at_ms).unwrap_or_default()),
        ("Container", task.container_id.clone()),
        ("Fencing token", if task.fencing_token == 0 { String::new() } else { task.fencing_token.to_string() }),
        ("Slot before", history.collect::<Vec<_>>().join("\n")),
    ];
    let mut page: Vec<_> = entries.into_iter().filter(|(_, value): &(_, String)| !value.is_empty()).collect();
    page.extend(spec_page(&spec_of(detail.spec.as_ref())?));
    Ok(page)
}

/// An earlier task of the slot, in one line.
fn before(task: &Task) -> String {
    let (node, age) = (or_dash(&task.node), age(since_ms(task)));
    format!("{}  {} ({})  {node}  {}  {age}  {}", task.id, task.attempt, task.cause, task.state, problem(task))
}

/// Why a task is to leave its node, and what it waits for; the empty text if it stays.
pub fn leaving(task: &Task) -> String {
    let why = if task.misplaced { "the placement excludes its node" } else { "its node drains" };
    if task.waits_for.is_empty() { String::new() } else { format!("{why}: waits for {}", task.waits_for) }
}

/// When it ended, or was started, or else was made.
pub fn since_ms(task: &Task) -> u64 {
    task.finished_at_ms.or(task.started_at_ms).unwrap_or(task.created_at_ms)
}

/// Until when it waits, where it does: the backoff of a slot whose tasks fail.
pub fn due_ms(task: &Task) -> Option<u64> {
    Some(task.not_before_ms).filter(|at_ms| *at_ms > 0 && task.state == "pending")
}

/// SERVICE.SLOT.
pub fn name(task: &Task) -> String {
    format!("{}.{}", task.service, task.slot)
}

/// One line of a table, under [`HEADER`].
pub fn row(task: &Task, name: String) -> Vec<String> {
    vec![
        task.id.clone(),
        name,
        or_dash(&task.node),
        task.state.clone(),
        task.desired.clone(),
        age(since_ms(task)),
        task.attempt.to_string(),
        problem(task),
    ]
}

/// Why a task ended badly or waits, in one phrase; the empty text where nothing is wrong.
pub fn problem(task: &Task) -> String {
    let text = match (task.reason.as_str(), task.error.as_str()) {
        // The code says it all.
        ("exit", _) if task.exit_code.is_some() => String::new(),
        // It was asked for.
        ("stop-requested", _) => String::new(),
        ("", error) => error.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, error) => format!("{reason}: {error}"),
    };
    match task.exit_code.filter(|code| *code != 0 && task.state != "stopped") {
        None => text,
        Some(code) if text.is_empty() => format!("exit code {code}"),
        Some(code) => format!("{text} (exit code {code})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_once_and_shortly() {
        let shown = |state: &str, reason: &str, error: &str, exit_code| {
            let (state, reason, error) = (state.into(), reason.into(), error.into());
            problem(&Task { state, reason, error, exit_code, ..Default::default() })
        };
        assert_eq!(shown("running", "", "", None), "");
        assert_eq!(shown("complete", "exit", "", Some(0)), "");
        assert_eq!(shown("failed", "exit", "ended with exit code 3", Some(3)), "exit code 3");
        assert_eq!(shown("failed", "oom-killed", "", Some(137)), "oom-killed (exit code 137)");
        assert_eq!(shown("failed", "image-not-found", "no such image: x", None), "image-not-found: no such image: x");
        assert_eq!(shown("stopped", "", "", Some(143)), "");
        assert_eq!(shown("stopped", "stop-requested", "", Some(137)), "");
    }
}
