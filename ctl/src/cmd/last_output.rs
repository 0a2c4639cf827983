//! The last lines that a failed task has printed, for the message that says it failed.

use std::time::Duration;

use goat_proto::v1::{Task, TaskLogsRequest};
use tokio::time::{Instant, timeout_at};

use super::task::name;
use crate::client::Client;

/// Most lines, and most characters of each, that are repeated.
const MAX_LINES: u32 = 10;
const MAX_LINE_CHARS: usize = 200;
/// Most bytes that are read for them.
const MAX_BYTES: usize = 64 << 10;
/// Most time that is spent on them. The verdict is known already.
const WITHIN: Duration = Duration::from_secs(3);

/// The last lines under a heading, each line begun by a newline; the empty text if there are none to be had.
pub async fn of(client: &Client, task: &Task) -> String {
    if task.started_at_ms.is_none() && task.container_id.is_empty() {
        return String::new();
    }
    let output = read(client, task, Instant::now() + WITHIN).await;
    let lines = shown(&String::from_utf8_lossy(&output));
    if lines.is_empty() {
        return String::new();
    }
    format!("\n  last output of {} (task {}, on {}):{lines}", name(task), task.id, task.node)
}

/// As much as comes in time.
async fn read(client: &Client, task: &Task, deadline: Instant) -> Vec<u8> {
    let request =
        TaskLogsRequest { reference: task.id.clone(), follow: false, tail: Some(MAX_LINES), timestamps: false };
    let mut output = Vec::new();
    let opened = client.stream(request, async |control, request| control.task_logs(request).await);
    let Ok(Ok(mut chunks)) = timeout_at(deadline, opened).await else { return output };
    while output.len() < MAX_BYTES
        && let Ok(Ok(Some(chunk))) = timeout_at(deadline, chunks.message()).await
    {
        output.extend_from_slice(&chunk.data);
    }
    output
}

/// Text that a program has printed, without what would move a terminal's cursor.
fn shown(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let last = &lines[lines.len().saturating_sub(MAX_LINES as usize)..];
    let shown = last.iter().map(|line| {
        let plain: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_LINE_CHARS).collect();
        let more = if line.chars().count() > MAX_LINE_CHARS { "…" } else { "" };
        format!("\n    | {}{more}", plain.trim_end())
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_bounded_and_moves_no_cursor() {
        assert_eq!(shown(""), "");
        assert_eq!(shown("one\ntwo\x1b[2J\r\n"), "\n    | one\n    | two [2J");
        let many: String = (0..100).map(|line| format!("line {line}\n")).collect();
        assert_eq!(shown(&many).lines().count(), 11);
        assert!(shown(&many).contains("line 90") && !shown(&many).contains("line 89"));
        assert_eq!(shown(&"x".repeat(10_000)).chars().count(), "\n    | ".len() + MAX_LINE_CHARS + 1);
    }
}
