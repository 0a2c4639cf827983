//! What goes to standard output: tables and pages for people, JSON and bare ids for scripts.
//!
//! Nothing else in this crate writes there, so that a reader that leaves early ends the command quietly.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, ContentArrangement, Table};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::exit::Failure;

/// Longest text of a table's last column on a terminal; `inspect` shows it whole.
const MAX_PROBLEM_CHARS: usize = 72;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// Where a command's result goes.
#[derive(Debug, Clone, Copy)]
pub struct Out {
    format: Format,
    is_terminal: bool,
    is_coloured: bool,
}

/// A JSON document on one line.
pub fn json_text(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::failed(error.to_string()))
}

impl Out {
    pub fn new(format: Format) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        // https://no-color.org: set and not empty.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { format, is_terminal, is_coloured: is_terminal && !no_color }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub fn line(&self, line: impl Display) -> Result<(), Failure> {
        Ok(writeln!(std::io::stdout().lock(), "{line}")?)
    }

    /// Bytes as they are, at once.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// A JSON document.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::failed(error.to_string()))?;
        self.line(text)
    }

    /// One a line.
    pub fn names(&self, names: impl IntoIterator<Item = impl Display>) -> Result<(), Failure> {
        names.into_iter().try_for_each(|name| self.line(name))
    }

    /// Columns without borders. Cells that are states are coloured on a terminal.
    pub fn table(&self, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if self.is_coloured {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(header);
        for row in rows {
            let last = row.len().saturating_sub(1);
            // The first state is the thing's own; what is wanted of it needs no colour.
            let mut state = None;
            let cells = row.into_iter().enumerate().map(|(at, text)| {
                if at == last {
                    return Cell::new_owned(self.shortened(&text));
                }
                let color = color(&text).filter(|_| self.is_coloured && state.is_none());
                state = state.or(color);
                let cell = Cell::new_owned(text);
                if let Some(color) = color { cell.fg(color) } else { cell }
            });
            table.add_row(cells.collect::<Vec<_>>());
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        self.line(table.trim_fmt())
    }

    /// Keys and values, one a line; a value of several lines is indented below its key.
    pub fn page(&self, entries: &[(&str, String)]) -> Result<(), Failure> {
        let width = entries.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0) + 2;
        for (key, value) in entries {
            let mut lines = value.lines();
            let first = lines.next().unwrap_or("-");
            self.line(format_args!("{:<width$}{first}", format!("{key}:")))?;
            for line in lines {
                self.line(format_args!("{:<width$}{line}", ""))?;
            }
        }
        Ok(())
    }

    fn shortened(&self, text: &str) -> String {
        let line = text.replace(['\n', '\r', '\t'], " ");
        if !self.is_terminal || line.chars().count() <= MAX_PROBLEM_CHARS {
            return line;
        }
        line.chars().take(MAX_PROBLEM_CHARS - 1).chain(['…']).collect()
    }
}

fn color(text: &str) -> Option<Color> {
    match text {
        "running" | "ready" | "leader" => Some(Color::Green),
        "failed" | "rejected" | "lost" | "down" => Some(Color::Red),
        "pending" | "assigned" | "preparing" | "starting" | "disconnected" | "drain" => Some(Color::Yellow),
        _ => None,
    }
}

/// Unix milliseconds as RFC 3339 in UTC; None for zero, which is never.
pub fn rfc3339(at_ms: u64) -> Option<String> {
    timestamp(at_ms).map(|at| at.to_string())
}

/// Unix milliseconds by the local clock, to the millisecond.
pub fn local_time(at_ms: u64) -> String {
    match timestamp(at_ms) {
        Some(at) => at.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        None => "-".into(),
    }
}

fn timestamp(at_ms: u64) -> Option<Timestamp> {
    let at_ms = i64::try_from(at_ms).ok().filter(|at_ms| *at_ms > 0)?;
    Timestamp::from_millisecond(at_ms).ok()
}

/// How long ago that was.
pub fn age(at_ms: u64) -> String {
    let now_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    if at_ms == 0 { "-".into() } else { age_between(at_ms, now_ms) }
}

/// How far ahead that is, rounded up; None where it is not.
pub fn ahead(at_ms: u64) -> Option<String> {
    let now_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    let ms = at_ms.checked_sub(now_ms).filter(|ms| *ms > 0)?;
    Some(format!("in {}", span(ms.div_ceil(1_000) * 1_000)))
}

fn age_between(at_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(at_ms) / 1_000;
    match seconds {
        // Clocks of machines differ a little: the future is now.
        0 => "now".into(),
        1..60 => format!("{seconds}s ago"),
        60..3_600 => format!("{}m ago", seconds / 60),
        3_600..172_800 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// Milliseconds for people.
pub fn span(ms: u64) -> String {
    humantime::format_duration(std::time::Duration::from_millis(ms)).to_string()
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// Thousandths of a CPU for people.
pub fn cpus(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1_000, millis % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// An empty cell is hard to tell from a missing one.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_rounded_to_what_matters() {
        let age = |seconds: u64| age_between(1, 1 + seconds * 1_000);
        assert_eq!([age(0), age(59), age(60), age(3_599)], ["now", "59s ago", "1m ago", "59m ago"]);
        assert_eq!([age(3_600), age(172_799), age(172_800)], ["1h ago", "47h ago", "2d ago"]);
        assert_eq!(age_between(9_000, 1_000), "now");
    }

    #[test]
    fn amounts_are_shown_without_needless_digits() {
        assert_eq!([cpus(0), cpus(500), cpus(2_000), cpus(1_250)], ["0", "0.5", "2", "1.25"]);
        assert_eq!(size(64 << 20), "64.0 MiB");
        assert_eq!(span(90_000), "1m 30s");
    }

    #[test]
    fn times_are_in_utc_and_never_is_none() {
        assert_eq!(rfc3339(1_700_000_000_123).as_deref(), Some("2023-11-14T22:13:20.123Z"));
        assert_eq!(rfc3339(0), None);
        assert_eq!(rfc3339(u64::MAX), None);
    }
}
