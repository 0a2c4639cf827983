//! Metrics as declared: one constant each says name, kind, labels and meaning, and a value gets onto the page only by way of
//! its constant. So the page cannot say what the documentation does not.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What a value means for who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// As on the page.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric, as it is documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// With its unit last; that of a counter ends with `_total`.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// One sentence without its full stop.
    pub help: &'static str,
}

impl Metric {
    pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    pub const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, labels, help }
    }

    /// The library puts the ending of counters there itself.
    fn stem(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            _ => self.name,
        }
    }
}

/// A value at the moment of asking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

/// Where values are written while somebody asks for them.
#[derive(Debug)]
pub struct Sheet<'a>(DescriptorEncoder<'a>);

impl<'a> Sheet<'a> {
    pub const fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    fn begin(&mut self, metric: &'static Metric) -> Result<MetricEncoder<'_>, fmt::Error> {
        let kind = match metric.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        self.0.encode_descriptor(metric.stem(), metric.help, None, kind)
    }

    /// The value of a metric without labels.
    pub fn one(&mut self, metric: &'static Metric, value: impl Into<Value>) -> fmt::Result {
        write(metric, self.begin(metric)?, value.into())
    }

    /// The values of a metric, each with those of its labels, in the order in which the constant has them.
    pub fn each<const N: usize, L, V>(
        &mut self,
        metric: &'static Metric,
        rows: impl IntoIterator<Item = ([L; N], V)>,
    ) -> fmt::Result
    where
        L: AsRef<str>,
        V: Into<Value>,
    {
        let mut encoder = self.begin(metric)?;
        for (labels, value) in rows {
            let labels = named(metric, &labels);
            write(metric, encoder.encode_family(&labels)?, value.into())?;
        }
        Ok(())
    }

    /// A histogram without labels.
    pub fn spread(&mut self, metric: &'static Metric, histogram: &Histogram) -> fmt::Result {
        histogram.encode(self.begin(metric)?)
    }

    /// Histograms with labels.
    pub fn each_spread<'h, const N: usize, L: AsRef<str>>(
        &mut self,
        metric: &'static Metric,
        rows: impl IntoIterator<Item = ([L; N], &'h Histogram)>,
    ) -> fmt::Result {
        let mut encoder = self.begin(metric)?;
        for (labels, histogram) in rows {
            let labels = named(metric, &labels);
            histogram.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn named<const N: usize, L: AsRef<str>>(metric: &Metric, values: &[L; N]) -> Vec<(&'static str, String)> {
    debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
    metric.labels.iter().zip(values).map(|(name, value)| (*name, value.as_ref().to_owned())).collect()
}

fn write(metric: &Metric, mut encoder: MetricEncoder<'_>, value: Value) -> fmt::Result {
    match (metric.kind, value) {
        (Kind::Counter, Value::Whole(value)) => encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None),
        (Kind::Counter, Value::Real(value)) => encoder.encode_counter::<NoLabelSet, f64, u64>(&value, None),
        (_, Value::Whole(value)) => encoder.encode_gauge(&value),
        (_, Value::Real(value)) => encoder.encode_gauge(&value),
    }
}

/// Something that fills in a part of the page.
pub trait Show: fmt::Debug + Send + Sync + 'static {
    /// Quickly: whoever asks waits, and more may ask.
    fn show(&self, sheet: &mut Sheet<'_>) -> fmt::Result;
}

#[derive(Debug)]
struct Shown<T>(T);

impl<T: Show> Collector for Shown<T> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.show(&mut Sheet::new(encoder))
    }
}

/// Has it shown on the page that is made of the registry.
pub fn register(registry: &mut Registry, show: impl Show) {
    registry.register_collector(Box::new(Shown(show)));
}

/// The page.
pub fn page(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    prometheus_text::encode(&mut text, registry)?;
    Ok(text)
}

/// The metrics as a table for the documentation, a line each.
pub fn table(metrics: &[Metric]) -> String {
    let mut text = String::from("| name | kind | labels | what |\n| --- | --- | --- | --- |\n");
    for Metric { name, kind, labels, help } in metrics {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        text.push_str(&format!("| `{name}` | {} | {} | {help} |\n", kind.as_str(), labels.join(", ")));
    }
    text
}

/// Counts under a few words that are known beforehand.
#[derive(Debug)]
pub struct Tally<const N: usize> {
    words: [&'static str; N],
    counts: [AtomicU64; N],
}

impl<const N: usize> Tally<N> {
    pub const fn new(words: [&'static str; N]) -> Self {
        Self { words, counts: [const { AtomicU64::new(0) }; N] }
    }

    /// Adds to the count of a word; one that is not known is not counted.
    pub fn add(&self, word: &str, count: usize) {
        let at = self.words.iter().position(|known| *known == word);
        debug_assert!(at.is_some(), "{word:?} is none of {:?}", self.words);
        if let Some(at) = at {
            self.counts[at].fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// For [`Sheet::each`].
    pub fn rows(&self) -> impl Iterator<Item = ([&'static str; 1], u64)> {
        self.words.iter().zip(&self.counts).map(|(word, count)| ([*word], count.load(Ordering::Relaxed)))
    }
}

/// Of durations from a tenth of a millisecond, as a commit on a fast disk takes, to ten seconds.
pub fn durations() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

/// Of durations up to many minutes, as a pull takes.
pub fn long_durations() -> Histogram {
    Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Metric = Metric::gauge("goat_up", &[], "Whether it is");
    const SEEN: Metric = Metric::counter("goat_seen_total", &["kind", "by"], "What was seen");
    const TOOK: Metric = Metric::histogram("goat_took_seconds", &["by"], "How long it took");

    #[derive(Debug)]
    struct Example;

    impl Show for Example {
        fn show(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
            sheet.one(&UP, true)?;
            sheet.each(&SEEN, [(["a\"b", "x"], 2_u64), (["c", "y"], 1 << 60)])?;
            let histogram = Histogram::new([1.0]);
            histogram.observe(0.5);
            sheet.each_spread(&TOOK, [(["x"], &histogram)])
        }
    }

    #[test]
    fn a_page_has_what_was_declared_with_its_labels() {
        let mut registry = Registry::default();
        register(&mut registry, Example);
        let text = page(&registry).expect("it can be written");
        for line in [
            "# TYPE goat_up gauge",
            "goat_up 1",
            "# HELP goat_seen_total What was seen",
            "# TYPE goat_seen_total counter",
            "goat_seen_total{kind=\"a\\\"b\",by=\"x\"} 2",
            "goat_seen_total{kind=\"c\",by=\"y\"} 1152921504606846976",
            "# TYPE goat_took_seconds histogram",
            "goat_took_seconds_bucket{by=\"x\",le=\"1\"} 1",
            "goat_took_seconds_count{by=\"x\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
        }
    }
}
