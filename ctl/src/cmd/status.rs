//! `status`: the cluster at a glance. It is wanted most when the cluster is not well, so it shows what one manager knows
//! where none leads.

use std::collections::HashMap;

use goat_proto::v1::{GetStatusRequest, ReadOptions, Status};

use super::Context;
use crate::cli::ReadFlags;
use crate::exit::{Exit, Failure, say};
use crate::output::{or_dash, span};
use crate::rows::StatusRow;

pub async fn status(context: &Context, read: &ReadFlags) -> Result<(), Failure> {
    let failure = match ask(context, read.stale).await {
        Ok(status) => {
            context.note_staleness(read, status.read);
            return print(context, &status);
        }
        Err(failure) if failure.exit == Exit::Unreachable && !read.stale => failure,
        Err(failure) => return Err(failure),
    };
    let Ok(status) = ask(context, true).await else {
        return Err(failure);
    };
    let age = span(status.read.unwrap_or_default().age_ms);
    say(&format!("stale: what {} knows; it last heard from a leader {age} ago", context.client.answered_by()));
    print(context, &status)?;
    Err(failure)
}

/// Two of these must fit into the time for one request, and who asks when all is not well should not wait long.
async fn ask(context: &Context, stale: bool) -> Result<Status, Failure> {
    let within = context.client.timeout() / 4;
    let request = GetStatusRequest { read: Some(ReadOptions { stale }) };
    context.client.unary_within(within, request, async |control, request| control.get_status(request).await).await
}

fn print(context: &Context, status: &Status) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(&StatusRow::from(status));
    }
    let managers = status.managers.unwrap_or_default();
    context.out.page(&[
        ("Cluster", status.cluster_id.clone()),
        ("Leader", format!("{} (term {})", or_dash(&status.leader), status.term)),
        ("Managers", format!("{} of {} reachable", managers.reachable, managers.total)),
        ("Nodes", counted(&status.nodes)),
        ("Services", status.services.to_string()),
        ("Tasks", counted(&status.tasks)),
        ("Version", format!("{} (format {})", status.version, status.format)),
    ])?;
    status.warnings.iter().try_for_each(|warning| context.out.line(format_args!("warning: {warning}")))
}

/// `3 (1 down, 2 ready)`.
fn counted(by_state: &HashMap<String, u32>) -> String {
    let mut states: Vec<_> = by_state.iter().filter(|(state, count)| *state != "total" && **count > 0).collect();
    states.sort();
    let total = by_state.get("total").copied().unwrap_or_else(|| states.iter().map(|(_, count)| **count).sum());
    let parts: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    if parts.is_empty() { total.to_string() } else { format!("{total} ({})", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_shown_by_state_below_their_total() {
        let states = |states: &[(&str, u32)]| counted(&states.iter().map(|(state, n)| ((*state).into(), *n)).collect());
        assert_eq!(states(&[("ready", 2), ("down", 1), ("total", 3), ("disconnected", 0)]), "3 (1 down, 2 ready)");
        assert_eq!(states(&[]), "0");
    }
}
