//! The last log lines, in memory and bounded: what a bug report needs, wherever the lines themselves went.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::LookupSpan;

const MAX_LINES: usize = 4_000;
const MAX_BYTES: usize = 1 << 20;
/// Of one line; what is beyond is cut.
const MAX_LINE_BYTES: usize = 4 << 10;

/// The last log lines. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Ring(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Lines {
    fn push(&mut self, mut line: String) {
        if line.len() > MAX_LINE_BYTES {
            let end = (0..=MAX_LINE_BYTES).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
            line.truncate(end);
            line.push_str(" (cut)");
        }
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > MAX_LINES || self.bytes > MAX_BYTES {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
        }
    }
}

impl Ring {
    /// Takes in what the filters before it let through, as text.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(self.clone())
    }

    /// Oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().lines.iter().cloned().collect()
    }
}

/// One event on its way.
#[derive(Debug)]
pub struct Line {
    ring: Ring,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        self.ring.0.lock().push(text.trim_end().to_owned());
    }
}

impl MakeWriter<'_> for Ring {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { ring: self.clone(), text: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn an_event_is_a_line_with_its_fields() {
        let ring = Ring::default();
        let subscriber = tracing_subscriber::registry().with(ring.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(node_id = 7, "a worker is heard again");
            tracing::warn!("nothing");
        });
        let lines = ring.lines();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("INFO a worker is heard again node_id=7"), "{lines:?}");
    }

    #[test]
    fn the_oldest_lines_go_first_and_long_ones_are_cut() {
        let ring = Ring::default();
        for number in 0..MAX_LINES + 10 {
            ring.0.lock().push(format!("line {number}"));
        }
        let lines = ring.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (MAX_LINES, "line 10"));
        for _ in 0..MAX_LINES {
            ring.0.lock().push("ä".repeat(MAX_LINE_BYTES));
        }
        let (lines, bytes) = (ring.lines(), ring.0.lock().bytes);
        assert!(bytes <= MAX_BYTES && lines.iter().map(String::len).sum::<usize>() == bytes, "{bytes}");
        assert!(lines.iter().all(|line| line.len() < MAX_LINE_BYTES + 10 && line.ends_with(" (cut)")));
    }
}
