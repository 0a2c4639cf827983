//! `events`: what has happened, and with `-f` what happens, over changes of leader.

use std::time::Duration;

use goat_proto::v1::{Event, WatchEventsRequest};
use tokio::time::sleep;

use super::Context;
use crate::cli::EventsArgs;
use crate::exit::Failure;
use crate::output::{json_text, local_time};
use crate::pipe::{Piece, Pipe};
use crate::rows::EventRow;

/// Between two streams, so that a manager that ends each at once is not asked without a pause.
const REOPEN_PAUSE: Duration = Duration::from_millis(300);

pub async fn events(context: &Context, args: EventsArgs) -> Result<(), Failure> {
    let client = &context.client;
    let mut request = WatchEventsRequest {
        since_index: args.since_index,
        follow: args.follow,
        service: args.service.unwrap_or_default(),
        tail: args.tail,
    };
    let mut seen = Seen { since_ms: args.since.unwrap_or(0), ..Seen::default() };
    let mut pipe = Pipe::new();
    loop {
        let mut events =
            client.stream(request.clone(), async |control, request| control.watch_events(request).await).await?;
        let ended = loop {
            match events.message().await {
                Ok(Some(event)) => {
                    if seen.is_new(&event) {
                        pipe.write(Piece::Stdout(line(context, &event)?.into_bytes())).await?;
                    }
                }
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
        };
        let is_passing = |status: &tonic::Status| {
            status.code() == tonic::Code::Unavailable || std::error::Error::source(status).is_some()
        };
        match ended {
            Some(status) if !is_passing(&status) => {
                pipe.finish().await?;
                return Err(Failure::from_status(&status));
            }
            None if !args.follow => return pipe.finish().await,
            _ => {}
        }
        // What was printed already comes again with the index that broke off, and is left out.
        if seen.index > 0 {
            request.since_index = seen.index;
            request.tail = None;
        }
        client.expect_interruptions();
        sleep(REOPEN_PAUSE).await;
    }
}

/// What was printed of the newest index, which several events may share.
#[derive(Debug, Default)]
struct Seen {
    /// Earlier events are not asked for.
    since_ms: u64,
    index: u64,
    events: Vec<Event>,
}

impl Seen {
    fn is_new(&mut self, event: &Event) -> bool {
        if event.at_ms < self.since_ms
            || event.index < self.index
            || (event.index == self.index && self.events.contains(event))
        {
            return false;
        }
        if event.index > self.index {
            self.index = event.index;
            self.events.clear();
        }
        self.events.push(event.clone());
        true
    }
}

fn line(context: &Context, event: &Event) -> Result<String, Failure> {
    let mut line = match context.out.is_json() {
        true => json_text(&EventRow::from(event))?,
        false => text(event),
    };
    line.push('\n');
    Ok(line)
}

fn text(event: &Event) -> String {
    let mut text = format!("{}  {:<7}  {}", local_time(event.at_ms), event.kind, event.name);
    match (event.from.as_str(), event.to.as_str()) {
        ("", "") => {}
        ("", to) => text.push_str(&format!("  {to}")),
        (from, to) => text.push_str(&format!("  {from} -> {to}")),
    }
    if !event.node.is_empty() {
        text.push_str(&format!("  on {}", event.node));
    }
    if !event.cause.is_empty() {
        text.push_str(&format!("  ({})", event.cause));
    }
    if !event.detail.is_empty() {
        text.push_str(&format!("  {}", event.detail.replace('\n', " ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(index: u64, to: &str) -> Event {
        Event { index, to: to.into(), ..Default::default() }
    }

    #[test]
    fn a_stream_that_begins_again_repeats_nothing_and_leaves_out_nothing() {
        let mut seen = Seen::default();
        assert!(seen.is_new(&event(4, "assigned")) && seen.is_new(&event(5, "running")));
        assert!(!seen.is_new(&event(5, "running")), "the same, once more");
        assert!(seen.is_new(&event(5, "stopped")), "another of the same index");
        assert!(!seen.is_new(&event(4, "assigned")));
        assert!(seen.is_new(&event(6, "running")));
    }

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            kind: "task".into(),
            name: "web.1".into(),
            from: "running".into(),
            to: "failed".into(),
            node: "w1".into(),
            cause: "exit".into(),
            detail: "exit code 1".into(),
            ..Default::default()
        };
        assert_eq!(text(&event), "-  task     web.1  running -> failed  on w1  (exit)  exit code 1");
    }
}
