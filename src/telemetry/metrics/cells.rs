//! What a series is made of: atomics that are written by few and summed when they are read.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Upper bounds of every duration histogram, in nanoseconds: from a cached verdict (0.1 ms) to a very slow provider.
pub(super) const BOUNDS: [u64; 16] = [
    100_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Adds one, and says whether it is the first.
    pub(super) fn first(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) == 0
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that is set.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicU64);

impl Gauge {
    pub(super) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Durations by size.
#[derive(Debug)]
pub(super) struct Histogram {
    /// One for each bound, and one for what is longer.
    buckets: [Counter; BOUNDS.len() + 1],
    /// Nanoseconds; overflows after 584 years of waiting.
    sum: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    pub(super) const fn new() -> Self {
        Self {
            buckets: [const { Counter::new() }; BOUNDS.len() + 1],
            sum: Counter::new(),
        }
    }

    pub(super) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.add(1);
        }
        self.sum.add(nanos);
    }

    /// Adds what has been seen here to `total`.
    pub(super) fn add_to(&self, total: &mut Distribution) {
        for (into, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *into += bucket.value();
        }
        total.nanos = total.nanos.wrapping_add(self.sum.value());
    }
}

/// Upper bounds of differences of durations, in microseconds.
pub(super) const DELTAS: [i64; 15] = [
    -1_000_000, -500_000, -100_000, -50_000, -10_000, -1_000, 0, 1_000, 10_000, 50_000, 100_000,
    250_000, 500_000, 1_000_000, 2_500_000,
];

/// Differences of durations by size.
#[derive(Debug)]
pub(super) struct Deltas {
    /// One for each bound, and one for what is more.
    buckets: [Counter; DELTAS.len() + 1],
    /// Microseconds of what is above zero, and of what is below.
    sums: [Counter; 2],
}

impl Default for Deltas {
    fn default() -> Self {
        Self {
            buckets: [const { Counter::new() }; DELTAS.len() + 1],
            sums: [const { Counter::new() }; 2],
        }
    }
}

impl Deltas {
    /// By how much longer one took than the other.
    pub(super) fn observe(&self, took: Duration, other: Duration) {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        let delta = micros(took).saturating_sub(micros(other));
        let place = DELTAS.partition_point(|bound| *bound < delta);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.add(1);
        }
        let [above, below] = &self.sums;
        let sum = if delta < 0 { below } else { above };
        sum.add(delta.unsigned_abs());
    }

    /// How many lie between each bound and the one before, and their sum in seconds.
    pub(super) fn values(&self) -> ([u64; DELTAS.len() + 1], f64) {
        let [above, below] = &self.sums;
        let micros = above.value() as f64 - below.value() as f64;
        (self.buckets.each_ref().map(Counter::value), micros / 1e6)
    }
}

/// A histogram that stands still.
#[derive(Clone, Debug, Default)]
pub(super) struct Distribution {
    /// How many observations lie between the bound before and this one.
    pub(super) buckets: [u64; BOUNDS.len() + 1],
    /// Their sum in nanoseconds.
    pub(super) nanos: u64,
}

impl Distribution {
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds another one to this.
    pub(super) fn merge(&mut self, other: &Self) {
        for (into, from) in self.buckets.iter_mut().zip(&other.buckets) {
            *into += from;
        }
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place_of(took: Duration) -> usize {
        let histogram = Histogram::new();
        histogram.observe(took);
        let mut seen = Distribution::default();
        histogram.add_to(&mut seen);
        seen.buckets.iter().position(|n| *n == 1).unwrap()
    }

    #[test]
    fn a_difference_may_be_below_zero() {
        let deltas = Deltas::default();
        let ms = Duration::from_millis;
        deltas.observe(ms(5), ms(30));
        deltas.observe(ms(30), ms(30));
        deltas.observe(ms(9_000), ms(0));
        let (buckets, sum) = deltas.values();
        let places: Vec<_> = (0..).zip(buckets).filter(|(_, n)| *n == 1).collect();
        assert_eq!(places, [(4, 1), (6, 1), (15, 1)]);
        assert!((sum - 8.975).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        assert_eq!(place_of(Duration::ZERO), 0);
        assert_eq!(place_of(Duration::from_micros(100)), 0);
        assert_eq!(place_of(Duration::from_nanos(100_001)), 1);
        assert_eq!(place_of(Duration::from_secs(30)), BOUNDS.len() - 1);
        assert_eq!(place_of(Duration::MAX), BOUNDS.len());
    }
}
