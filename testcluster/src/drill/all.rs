//! `drill list` and `drill all`: the catalogue, and one table of all its drills.

use std::time::Duration;

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde::Serialize;
use tokio::time::Instant;

use super::{DrillOptions, Kind, Output, Report, Row, rehearse};
use crate::error::Error;
use crate::runtime;
use crate::up::say;

/// Prints the drills by row, a line each.
pub(super) fn list() {
    for row in Row::ALL {
        let drills: Vec<_> = Kind::drills().filter(|kind| kind.row() == Some(row)).collect();
        if drills.is_empty() {
            continue;
        }
        say(row.title());
        for kind in drills {
            let help = kind.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
            let needs: Vec<_> = kind.needs().iter().map(|need| need.text()).collect();
            let needs = if needs.is_empty() { String::new() } else { format!(" (needs {})", needs.join(", ")) };
            say(&format!("  {:<22} {}{needs}", kind.name(), help.unwrap_or_default()));
        }
    }
    say("all of them, with one table at the end: testcluster drill all");
}

/// How one of all drills ended.
#[derive(Debug, Serialize)]
struct Entry {
    row: &'static str,
    drill: String,
    /// `passed`, `failed`, or `not run: needs root`
    result: String,
    seconds: f64,
    /// None where it did not run, or its cluster could not be set up.
    report: Option<Report>,
    /// Why its cluster could not be set up.
    error: Option<String>,
}

impl Entry {
    fn is_fine(&self) -> bool {
        !self.result.starts_with("failed")
    }
}

/// Runs every drill that can run here; whether none failed.
pub(super) async fn run(options: &DrillOptions) -> Result<bool, Error> {
    if options.dir.is_some() {
        return Err(Error::usage("`drill all` starts a cluster for each drill; leave out --dir and --tag"));
    }
    let (runtime, _) = runtime::choose(options.runtime).await?;
    let mut entries = Vec::new();
    for kind in Kind::drills() {
        let entry = play(&DrillOptions { kind, ..options.clone() }, kind.missing(runtime)).await;
        let is_interrupted = entry.report.as_ref().is_some_and(Report::is_interrupted);
        entries.push(entry);
        if is_interrupted {
            break;
        }
    }
    let is_passed = entries.iter().all(Entry::is_fine);
    match options.output {
        Output::Json => say(&serde_json::to_string_pretty(&entries).expect("they are plain data")),
        Output::Text => table(&entries),
    }
    Ok(is_passed)
}

async fn play(options: &DrillOptions, missing: Option<&str>) -> Entry {
    let began = Instant::now();
    let (result, report, error) = match missing {
        Some(missing) => (format!("not run: needs {missing}"), None, None),
        None => match rehearse(options).await {
            Ok(report) => (result(&report, options.is_strict), Some(report), None),
            Err(error) => ("failed".to_owned(), None, Some(error.to_string())),
        },
    };
    if let (Some(report), Output::Text) = (&report, options.output) {
        report.print(Output::Text);
    }
    let row = options.kind.row().map_or("", Row::title);
    let seconds = began.elapsed().as_secs_f64();
    Entry { row, drill: options.kind.name(), result, seconds, report, error }
}

fn result(report: &Report, is_strict: bool) -> String {
    match report.missed() {
        _ if !report.is_passed() => "failed".into(),
        Some(missed) if is_strict => format!("failed: {} over its figure", missed.name),
        Some(missed) => format!("passed, {} over its figure", missed.name),
        None => "passed".into(),
    }
}

fn table(entries: &[Entry]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ROW", "DRILL", "REPEATS", "RESULT", "KEY MEASURE", "P50 MS", "MAX MS", "TIME"]);
    for entry in entries {
        let key = entry.report.as_ref().and_then(Report::key_measure);
        let number = |value: Option<f64>| value.map(|ms| format!("{ms:.0}")).unwrap_or_default();
        let repeats = entry.report.as_ref().map(|report| format!("{}/{}", report.runs.len(), report.repeat));
        table.add_row([
            entry.row.to_owned(),
            entry.drill.clone(),
            repeats.unwrap_or_else(|| "-".into()),
            entry.result.clone(),
            key.map_or("", |measure| measure.name).to_owned(),
            number(key.map(|measure| measure.p50_ms)),
            number(key.map(|measure| measure.max_ms)),
            format!("{} s", Duration::from_secs_f64(entry.seconds).as_secs()),
        ]);
    }
    say(&format!("\n{table}"));
    let failed: Vec<_> = entries.iter().filter(|entry| !entry.is_fine()).collect();
    for entry in &failed {
        let why = entry.error.as_deref().or(entry.report.as_ref().and_then(|report| report.error.as_deref()));
        say(&format!("{}: {}", entry.drill, why.unwrap_or("see WRONG above")));
    }
    let absent = entries.iter().filter(|entry| entry.result.starts_with("not run")).count();
    let not_run = if absent > 0 { format!(", {absent} not run") } else { String::new() };
    let verdict = if failed.is_empty() { "PASS" } else { "FAIL" };
    say(&format!("{verdict} {} of {} drills{not_run}", entries.len() - failed.len() - absent, entries.len()));
}
