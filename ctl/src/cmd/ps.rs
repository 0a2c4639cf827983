//! `service ps`: each slot's newest task, and below it what was before, so that a crash loop shows as one.

use std::collections::BTreeMap;

use goat_proto::v1::{ListTasksRequest, Task};

use super::{Context, service, task};
use crate::cli::ListFlags;
use crate::exit::Failure;
use crate::output::{age, ahead, or_dash};
use crate::rows::TaskRow;
use crate::wait::view::has_ended_state;

const HEADER: [&str; 10] =
    ["ID", "NAME", "ATTEMPT", "CAUSE", "NODE", "STATE", "SINCE", "EXIT CODE", "REASON", "DETAIL"];

pub async fn ps(context: &Context, reference: String, current: bool, flags: &ListFlags) -> Result<(), Failure> {
    let (client, out) = (&context.client, context.out);
    // Also finds out whether there is such a service.
    let service = service::get(context, reference, &flags.read).await?;
    let (read, all) = (flags.read.options(), !current);
    let request = ListTasksRequest { read, service: service.id, all, ..ListTasksRequest::default() };
    let reply = client.list_tasks(request).await?;
    context.note_staleness(&flags.read, reply.read);
    let slots = by_slot(&reply.tasks);
    let tasks = || slots.values().flatten().copied();
    if flags.quiet {
        return out.names(tasks().map(|task| &task.id));
    }
    if out.is_json() {
        return out.json(&tasks().map(TaskRow::from).collect::<Vec<_>>());
    }
    let rows = slots.values().flat_map(|tasks| tasks.iter().enumerate().map(|(at, task)| row(task, at > 0)));
    out.table(&HEADER, rows.collect())
}

/// Each slot's tasks, the newest first.
fn by_slot(tasks: &[Task]) -> BTreeMap<u32, Vec<&Task>> {
    let mut slots: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
    for task in tasks {
        slots.entry(task.slot).or_default().push(task);
    }
    for tasks in slots.values_mut() {
        tasks.sort_by_key(|task| std::cmp::Reverse(task.attempt));
    }
    slots
}

fn row(task: &Task, is_earlier: bool) -> Vec<String> {
    let name = task::name(task);
    vec![
        task.id.clone(),
        if is_earlier { format!("└ {name}") } else { name },
        task.attempt.to_string(),
        or_dash(&task.cause),
        or_dash(&task.node),
        task.state.clone(),
        age(task::since_ms(task)),
        task.exit_code.map_or_else(|| "-".into(), |code| code.to_string()),
        or_dash(&task.reason),
        detail(task),
    ]
}

/// What there is to say beyond the reason: what comes next, and what was said.
fn detail(task: &Task) -> String {
    let has_ended = has_ended_state(&task.state);
    let waits = task::due_ms(task).and_then(ahead).map(|ahead| format!("next attempt {ahead}"));
    let stops = (task.desired != "running" && !has_ended).then(|| "to be stopped".to_owned());
    // That it exited, and with which code, is said already.
    let error = Some(task.error.clone()).filter(|error| !error.is_empty() && task.reason != "exit");
    let leaves = Some(task::leaving(task)).filter(|text| task.misplaced && !text.is_empty());
    [waits, stops, leaves, error].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_each_thing_once() {
        let shown = |task: &Task| detail(task);
        let failed = Task {
            state: "failed".into(),
            desired: "running".into(),
            reason: "exit".into(),
            error: "ended with exit code 3".into(),
            exit_code: Some(3),
            ..Task::default()
        };
        assert_eq!(shown(&failed), "");
        assert_eq!(row(&failed, true)[7..9], ["3", "exit"]);
        let unhealthy = Task { reason: "unhealthy".into(), error: "status 503".into(), ..failed.clone() };
        assert_eq!(shown(&unhealthy), "status 503");
        let stopping = Task { state: "running".into(), desired: "removed".into(), ..Task::default() };
        assert_eq!(shown(&stopping), "to be stopped");
        assert_eq!(shown(&Task { state: "stopped".into(), ..stopping }), "");
    }

    #[test]
    fn a_task_that_waits_for_its_turn_says_how_long_and_one_that_is_due_does_not() {
        let pending = Task { state: "pending".into(), desired: "running".into(), ..Task::default() };
        let far = Task { not_before_ms: u64::MAX / 2_000_000, ..pending.clone() };
        assert!(detail(&far).starts_with("next attempt in "), "{}", detail(&far));
        let stuck = Task { not_before_ms: 1, error: "no node fits".into(), ..pending };
        assert_eq!(detail(&stuck), "no node fits");
    }
}
