//! Prometheus' messages, built from our cells.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;

use prometheus::core::Desc;
use prometheus::proto;

use crate::telemetry::metrics::catalog::Family;
use crate::telemetry::metrics::catalog::Kind;
use crate::telemetry::metrics::cells::BOUNDS;
use crate::telemetry::metrics::cells::Counter;
use crate::telemetry::metrics::cells::DELTAS;
use crate::telemetry::metrics::cells::Deltas;
use crate::telemetry::metrics::cells::Distribution;
use crate::telemetry::metrics::cells::Gauge;
use crate::telemetry::metrics::cells::Histogram;
use crate::telemetry::metrics::series::Labels;
use crate::telemetry::metrics::series::OTHER;
use crate::telemetry::metrics::series::Series;

/// Which cells have a series of their own. A family beyond its limit folds the rest into one series; since nobody is
/// ever moved from one to the other, sums keep growing.
#[derive(Debug)]
pub(super) struct Admitted {
    limit: usize,
    cells: Mutex<HashMap<&'static str, HashSet<(usize, usize)>>>,
}

impl Admitted {
    /// At most `limit` series for each family.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            cells: Mutex::default(),
        }
    }

    fn admit(&self, family: &Family, cell: (usize, usize)) -> bool {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = cells.entry(family.name).or_default();
        admitted.contains(&cell) || (admitted.len() < self.limit && admitted.insert(cell))
    }
}

/// Every histogram of differences of a family.
pub(super) fn deltas(series: &Series<Deltas>) -> proto::MetricFamily {
    let one = |(labels, cell): (Labels, std::sync::Arc<Deltas>)| {
        let (counts, sum) = cell.values();
        let mut below = 0;
        let buckets = DELTAS.iter().zip(counts).map(|(bound, count)| {
            below += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound as f64 / 1e6);
            bucket.set_cumulative_count(below);
            bucket
        });
        let mut inner = proto::Histogram::default();
        inner.set_bucket(buckets.collect());
        inner.set_sample_count(counts.iter().sum());
        inner.set_sample_sum(sum);
        let mut message = metric(series.family, &labels);
        message.set_histogram(inner);
        message
    };
    family(series.family, series.rows().into_iter().map(one).collect())
}

/// Every counter of a family.
pub(super) fn counters(series: &Series<Counter>) -> proto::MetricFamily {
    let rows = series.rows().into_iter();
    family(
        series.family,
        rows.map(|(labels, cell)| counter(series.family, &labels, cell.value()))
            .collect(),
    )
}

/// Every gauge of a family; `read` turns what is stored into what is shown.
pub(super) fn gauges(series: &Series<Gauge>, read: impl Fn(f64) -> f64) -> proto::MetricFamily {
    let rows = series.rows().into_iter();
    family(
        series.family,
        rows.map(|(labels, cell)| gauge(series.family, &labels, read(cell.value())))
            .collect(),
    )
}

/// Gauges that are computed when somebody scrapes.
pub(super) fn values(
    of: &'static Family,
    rows: impl Iterator<Item = (Labels, f64)>,
) -> proto::MetricFamily {
    let metrics = rows.map(|(labels, value)| gauge(of, &labels, value));
    family(of, metrics.collect())
}

/// Every histogram of a family.
pub(super) fn histograms(series: &Series<Histogram>) -> proto::MetricFamily {
    let rows = series.rows().into_iter();
    family(
        series.family,
        rows.map(|(labels, cell)| {
            let mut seen = Distribution::default();
            cell.add_to(&mut seen);
            histogram(series.family, &labels, &seen)
        })
        .collect(),
    )
}

/// The counters of one family while they are gathered.
pub(super) struct Counts {
    family: &'static Family,
    metrics: Vec<proto::Metric>,
    rest: u64,
}

impl Counts {
    pub(super) const fn of(family: &'static Family) -> Self {
        Self {
            family,
            metrics: Vec::new(),
            rest: 0,
        }
    }

    /// Adds a series, unless nothing was ever counted.
    pub(super) fn put<'a>(
        &mut self,
        admitted: &Admitted,
        cell: (usize, usize),
        sum: u64,
        values: impl FnOnce() -> Vec<Cow<'a, str>>,
    ) {
        if sum == 0 {
            return;
        }
        if admitted.admit(self.family, cell) {
            self.metrics.push(counter(self.family, &values(), sum));
        } else {
            self.rest += sum;
        }
    }

    pub(super) fn finish(mut self) -> proto::MetricFamily {
        if 0 < self.rest {
            let values = vec![OTHER; self.family.labels.len()];
            self.metrics.push(counter(self.family, &values, self.rest));
        }
        family(self.family, self.metrics)
    }
}

/// The last moments of one family while they are gathered.
pub(super) struct Moments {
    family: &'static Family,
    metrics: Vec<proto::Metric>,
    rest: f64,
}

impl Moments {
    pub(super) const fn of(family: &'static Family) -> Self {
        Self {
            family,
            metrics: Vec::new(),
            rest: 0.0,
        }
    }

    /// Adds a series, unless there was no such moment.
    pub(super) fn put<'a>(
        &mut self,
        admitted: &Admitted,
        cell: (usize, usize),
        last: f64,
        values: impl FnOnce() -> Vec<Cow<'a, str>>,
    ) {
        if last <= 0.0 {
            return;
        }
        if admitted.admit(self.family, cell) {
            self.metrics.push(gauge(self.family, &values(), last));
        } else {
            self.rest = self.rest.max(last);
        }
    }

    pub(super) fn finish(mut self) -> proto::MetricFamily {
        if 0.0 < self.rest {
            let values = vec![OTHER; self.family.labels.len()];
            self.metrics.push(gauge(self.family, &values, self.rest));
        }
        family(self.family, self.metrics)
    }
}

/// The histograms of one family while they are gathered.
pub(super) struct Times {
    family: &'static Family,
    metrics: Vec<proto::Metric>,
    rest: Distribution,
}

impl Times {
    pub(super) fn of(family: &'static Family) -> Self {
        Self {
            family,
            metrics: Vec::new(),
            rest: Distribution::default(),
        }
    }

    /// Adds a series, unless nothing was ever observed.
    pub(super) fn put<'a>(
        &mut self,
        admitted: &Admitted,
        cell: (usize, usize),
        seen: &Distribution,
        values: impl FnOnce() -> Vec<Cow<'a, str>>,
    ) {
        if seen.count() == 0 {
            return;
        }
        if admitted.admit(self.family, cell) {
            self.metrics.push(histogram(self.family, &values(), seen));
        } else {
            self.rest.merge(seen);
        }
    }

    pub(super) fn finish(mut self) -> proto::MetricFamily {
        if 0 < self.rest.count() {
            let values = vec![OTHER; self.family.labels.len()];
            self.metrics
                .push(histogram(self.family, &values, &self.rest));
        }
        family(self.family, self.metrics)
    }
}

/// What the registry wants to know about a family.
///
/// # Errors
///
/// A name or label that Prometheus does not take.
pub(super) fn describe(family: &'static Family) -> prometheus::Result<Desc> {
    let labels = family.labels.iter().map(|&label| label.into()).collect();
    Desc::new(
        family.name.into(),
        family.help.into(),
        labels,
        HashMap::new(),
    )
}

fn family(family: &Family, metrics: Vec<proto::Metric>) -> proto::MetricFamily {
    let mut message = proto::MetricFamily::default();
    message.set_name(family.name.into());
    message.set_help(family.help.into());
    message.set_field_type(match family.kind {
        Kind::Counter => proto::MetricType::COUNTER,
        Kind::Gauge => proto::MetricType::GAUGE,
        Kind::Histogram => proto::MetricType::HISTOGRAM,
    });
    message.set_metric(metrics);
    message
}

fn metric(family: &Family, values: &[impl AsRef<str>]) -> proto::Metric {
    let pairs = family.labels.iter().zip(values).map(|(name, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).into());
        pair.set_value(value.as_ref().into());
        pair
    });
    proto::Metric::from_label(pairs.collect())
}

fn counter(family: &Family, values: &[impl AsRef<str>], value: u64) -> proto::Metric {
    let mut inner = proto::Counter::default();
    inner.set_value(value as f64);
    let mut message = metric(family, values);
    message.set_counter(inner);
    message
}

fn gauge(family: &Family, values: &[impl AsRef<str>], value: f64) -> proto::Metric {
    let mut inner = proto::Gauge::default();
    inner.set_value(value);
    let mut message = metric(family, values);
    message.set_gauge(inner);
    message
}

fn histogram(family: &Family, values: &[impl AsRef<str>], seen: &Distribution) -> proto::Metric {
    let mut below = 0;
    let buckets = BOUNDS.iter().zip(&seen.buckets).map(|(bound, count)| {
        below += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound as f64 / 1e9);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut inner = proto::Histogram::default();
    inner.set_bucket(buckets.collect());
    inner.set_sample_count(seen.count());
    inner.set_sample_sum(seen.nanos as f64 / 1e9);
    let mut message = metric(family, values);
    message.set_histogram(inner);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::catalog::FAMILIES;

    /// A page on which every family has a sample, as the families of one process seldom do. Where the variable
    /// `METRICS_PAGE` names a file, it is written there: `tests/real/rules` gives it to promtool.
    #[test]
    fn a_page_with_a_sample_of_every_family_can_be_written() {
        let page = FAMILIES.iter().map(|of| {
            let values = vec!["a"; of.labels.len()];
            let sample = match of.kind {
                Kind::Counter => counter(of, &values, 1),
                Kind::Gauge => gauge(of, &values, 1.0),
                Kind::Histogram => histogram(of, &values, &Distribution::default()),
            };
            describe(of).unwrap();
            family(of, vec![sample])
        });
        let page: Vec<_> = page.collect();
        let text = prometheus::TextEncoder::new().encode_to_string(&page);
        let text = text.unwrap();
        for of in FAMILIES {
            let sampled = |line: &str| line.starts_with(of.name) && !line.starts_with('#');
            assert!(text.lines().any(sampled), "{} has no sample", of.name);
        }
        if let Some(file) = std::env::var_os("METRICS_PAGE") {
            std::fs::write(file, text).unwrap();
        }
    }
}
