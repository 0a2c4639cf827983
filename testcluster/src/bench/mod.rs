//! Measures a cluster, each figure beside its yardstick in the same run: machines differ, ratios less so.
//!
//! | part | what | yardstick |
//! | --- | --- | --- |
//! | `idle` | resident memory of an idle manager | – |
//! | `writes` | accepted control writes of 64 clients over all managers | 512 bytes written and synced, one after the other |
//! | `create` | `service create` to running, one container | `docker run -d` of the same image |
//! | `many` | 60 replicas on all workers | create and start over Docker's API, as many at a time |
//! | `restart` | container killed to running again, the first restart | create and start over Docker's API; and the same by hand |
//!
//! | `scale` | what 100,000 tasks and 1,000,000 log entries cost; takes so long that it has to be named | nothing is done |
//!
//! How long failures last is measured by the drills. Only with Docker there are `create`, `many` and `restart`.

mod containers;
mod control;
mod flood;
mod raw;
mod scale;

use std::path::PathBuf;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::cluster::Options;
use crate::echo;
use crate::error::Error;
use crate::runtime::RuntimeKind;
use crate::supervisor::Hosted;

pub use scale::Scale;

/// The parts, in the order in which they run.
pub const PARTS: [&str; 6] = ["idle", "writes", "create", "many", "restart", SCALE];
/// The part that takes so long that it has to be asked for.
const SCALE: &str = "scale";

/// What to measure, and where.
#[derive(Debug, Clone)]
pub struct Bench {
    pub dir: PathBuf,
    pub runtime: RuntimeKind,
    /// Of [`PARTS`]; empty: all that the runtime allows.
    pub parts: Vec<String>,
    /// Seconds of writing.
    pub seconds: u64,
    /// Repetitions of what is measured one by one; the median counts.
    pub repeat: usize,
    pub scale: Scale,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub part: &'static str,
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    pub yardstick: Option<Yardstick>,
    /// The value in terms of its yardstick.
    pub ratio: Option<f64>,
    pub target: String,
    pub is_met: bool,
    /// Each measurement, where the value is a median.
    pub samples: Vec<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Yardstick {
    pub what: String,
    pub value: f64,
}

impl Figure {
    fn absolute(part: &'static str, what: String, value: f64, unit: &'static str, bound: Bound) -> Self {
        let target = bound.text(unit);
        Self {
            part,
            what,
            value,
            unit,
            yardstick: None,
            ratio: None,
            target,
            is_met: bound.is_met(value),
            samples: vec![],
        }
    }

    fn compared(
        part: &'static str,
        what: String,
        (value, unit): (f64, &'static str),
        yardstick: Yardstick,
        bound: Bound,
    ) -> Self {
        let ratio = value / yardstick.value;
        let target = bound.text("× the yardstick");
        let is_met = bound.is_met(ratio);
        Self {
            part,
            what,
            value,
            unit,
            yardstick: Some(yardstick),
            ratio: Some(ratio),
            target,
            is_met,
            samples: vec![],
        }
    }

    fn with_samples(self, samples: Vec<f64>) -> Self {
        Self { samples, ..self }
    }
}

/// What is good enough.
#[derive(Debug, Clone, Copy)]
enum Bound {
    /// It is told for its own sake.
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::None => true,
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::None => "–".into(),
            Self::AtMost(limit) => format!("≤ {limit} {unit}"),
            Self::AtLeast(limit) => format!("≥ {limit} {unit}"),
        }
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Starts a cluster, measures, takes it down. Says on standard error how far it is.
pub async fn run(bench: Bench) -> Result<Vec<Figure>, Error> {
    if let Some(unknown) = bench.parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(Error::usage(format!("there is no part {unknown:?}; there are {}", PARTS.join(", "))));
    }
    let options = Options::new(bench.dir.clone(), bench.runtime)?;
    let binaries = options.binaries.clone();
    // What a manager says of its start is part of what is measured there.
    let log_level = if bench.parts.iter().any(|part| part == SCALE) { "info" } else { "warn" };
    // Its tasks are more than a few workers can hold; a cluster without workers accepts them.
    let workers = if bench.parts == [SCALE] { 0 } else { options.workers };
    let hosted = Hosted::start(Options { log_level: log_level.into(), is_direct: true, workers, ..options }).await?;
    let measured = async {
        echo::provide(hosted.cluster.layout(), &binaries).await?;
        measure(&bench, &hosted).await
    };
    let measured = tokio::select! {
        measured = measured => measured,
        _ = tokio::signal::ctrl_c() => Err(Error::failed("interrupted")),
    };
    hosted.end(false).await?;
    measured
}

async fn measure(bench: &Bench, hosted: &Hosted) -> Result<Vec<Figure>, Error> {
    let client = hosted.formed().await?;
    hosted.workers_ready(&client).await?;
    containers::lead_with_the_first(&client).await?;
    let mut figures = Vec::new();
    let is_named = |part: &str| bench.parts.iter().any(|wanted| wanted == part);
    let is_wanted = |part: &str| is_named(part) || (bench.parts.is_empty() && part != SCALE);
    for part in PARTS {
        if !is_wanted(part) {
            continue;
        }
        if bench.runtime == RuntimeKind::Process && ["create", "many", "restart"].contains(&part) {
            eprintln!("{part}: left out, it needs Docker");
            continue;
        }
        eprintln!("{part} ...");
        figures.extend(match part {
            "idle" => vec![control::idle(hosted).await?],
            "writes" => vec![control::writes(hosted, Duration::from_secs(bench.seconds)).await?],
            "create" => vec![containers::create(&client, bench.repeat).await?],
            "many" => vec![containers::many(hosted, &client).await?],
            SCALE => scale::run(hosted, &client, bench.scale).await?,
            _ => containers::restart(&client, bench.repeat).await?,
        });
    }
    Ok(figures)
}

/// For people.
pub fn table(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["what", "measured", "yardstick, same run", "ratio", "to reach", ""]);
    for figure in figures {
        let yardstick = figure.yardstick.as_ref();
        table.add_row([
            figure.what.clone(),
            format!("{} {}", rounded(figure.value), figure.unit),
            yardstick.map_or("–".into(), |y| format!("{}: {} {}", y.what, rounded(y.value), figure.unit)),
            figure.ratio.map_or("–".into(), |ratio| format!("{ratio:.2}")),
            figure.target.clone(),
            match figure.is_met {
                true if figure.target == Bound::None.text("") => String::new(),
                true => "reached".into(),
                false => "MISSED".into(),
            },
        ]);
    }
    table.to_string()
}

fn rounded(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_by_its_ratio_where_there_is_a_yardstick() {
        let yardstick = || Yardstick { what: "raw".into(), value: 2.0 };
        let figure = |value, bound| Figure::compared("many", "x".into(), (value, "/s"), yardstick(), bound);
        assert!(figure(1.9, Bound::AtLeast(0.9)).is_met);
        assert!(!figure(1.7, Bound::AtLeast(0.9)).is_met);
        assert!(figure(2.4, Bound::AtMost(1.25)).is_met);
        assert!(table(&[figure(1.7, Bound::AtLeast(0.9))]).contains("MISSED"));
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
