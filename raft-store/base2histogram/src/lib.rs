//! What openraft uses of the crate `base2histogram`, in a few hundred bytes. The original computes tables for all of its
//! sixteen resolutions when the first histogram is made, which then stay resident in every manager: 24 MB for the one
//! resolution that openraft uses (docs/decisions/0002). Here a value falls into the bucket of its power of two, and a
//! percentile is the lower end of its bucket: coarser, which matters to nobody while openraft's `runtime-stats` is off.
//!
//! Delete this crate, and its line under `[patch.crates-io]`, when openraft or the original no longer needs it.
#![forbid(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;

const BUCKETS: usize = u64::BITS as usize + 1;

/// Counts of values by their number of binary digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    slot: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// Without a value.
    pub const fn new() -> Self {
        Self { counts: [0; BUCKETS], slot: PhantomData }
    }

    /// Counts a value.
    pub const fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `n` times.
    pub const fn record_n(&mut self, value: u64, n: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.counts[bucket] = self.counts[bucket].saturating_add(n);
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The power of two below which at most `permille` of the values lie; 0 without values.
    fn percentile(&self, permille: u64) -> u64 {
        let rank = (u128::from(self.total()) * u128::from(permille)).div_ceil(1_000);
        let mut seen = 0_u128;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if *count > 0 && seen >= rank {
                return if bucket == 0 { 0 } else { 1 << (bucket - 1) };
            }
        }
        0
    }

    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(1),
            p1: self.percentile(10),
            p5: self.percentile(50),
            p10: self.percentile(100),
            p50: self.percentile(500),
            p90: self.percentile(900),
            p99: self.percentile(990),
            p99_9: self.percentile(999),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Percentiles, each the lower end of its power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} samples, p50 {}, p90 {}, p99 {}, p99.9 {}", self.samples, self.p50, self.p90, self.p99, self.p99_9)
    }
}

/// Several histograms under each other, a line for each.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    rows: Vec<(String, Histogram)>,
}

impl AsciiChart {
    pub const fn new() -> Self {
        Self { rows: Vec::new() }
    }

    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.rows.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|(name, histogram)| writeln!(f, "{name}: {}", histogram.percentile_stats()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_and_the_largest_value_are_counted() {
        let mut histogram = Histogram::<()>::new();
        for value in [0, 1, 512, u64::MAX] {
            histogram.record(value);
        }
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p1, stats.p50, stats.p99_9), (4, 0, 1, 1 << 63));
    }

    #[test]
    fn a_percentile_is_the_lower_end_of_its_bucket_and_zero_without_values() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        histogram.record_n(100, 99);
        histogram.record(5_000);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.p50, stats.p99, stats.p99_9), (64, 64, 4_096));
        assert_eq!(AsciiChart::new().add("x", histogram).to_string(), "x: 100 samples, p50 64, p90 64, p99 64, p99.9 4096\n");
    }
}
