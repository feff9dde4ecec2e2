//! Shards and series, summed for the registry when somebody scrapes.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::core::Desc;
use prometheus::proto;

use crate::identity::CredentialClass;
use crate::telemetry::metrics::Shards;
use crate::telemetry::metrics::attempt::Attempt;
use crate::telemetry::metrics::catalog;
use crate::telemetry::metrics::cells::Counter;
use crate::telemetry::metrics::cells::Distribution;
use crate::telemetry::metrics::cells::Gauge;
use crate::telemetry::metrics::cells::Histogram;
use crate::telemetry::metrics::codes;
use crate::telemetry::metrics::labels::Cache;
use crate::telemetry::metrics::labels::Flow;
use crate::telemetry::metrics::labels::Lookup;
use crate::telemetry::metrics::labels::Shed;
use crate::telemetry::metrics::labels::TunnelEnd;
use crate::telemetry::metrics::labels::UpstreamError;
use crate::telemetry::metrics::rare::Rare;
use crate::telemetry::metrics::samples::Admitted;
use crate::telemetry::metrics::samples::Counts;
use crate::telemetry::metrics::samples::Moments;
use crate::telemetry::metrics::samples::Times;
use crate::telemetry::metrics::samples::describe;
use crate::telemetry::metrics::shards::Block;

/// Sums what workers have counted.
#[derive(Debug)]
pub(super) struct ShardCollector {
    shards: Arc<Shards>,
    descriptions: Vec<Desc>,
    admitted: Admitted,
}

/// Reads what is looked up by label.
#[derive(Debug)]
pub(super) struct RareCollector {
    rare: Arc<Rare>,
    descriptions: Vec<Desc>,
}

impl ShardCollector {
    /// # Errors
    ///
    /// A family whose name or labels Prometheus does not take.
    pub(super) fn new(shards: Arc<Shards>, limit: usize) -> prometheus::Result<Self> {
        let families = catalog::SHARDED.iter().copied();
        Ok(Self {
            shards,
            descriptions: families.map(describe).collect::<Result<_, _>>()?,
            admitted: Admitted::new(limit),
        })
    }

    fn apps(&self) -> Vec<proto::MetricFamily> {
        let mut requests = Counts::of(&catalog::HTTP_REQUESTS);
        let mut durations = Times::of(&catalog::HTTP_DURATION);
        let mut legacy = Counts::of(&catalog::LEGACY_CREDENTIALS);
        let mut seen = Moments::of(&catalog::LEGACY_LAST_SEEN);
        let mut upstream = Counts::of(&catalog::UPSTREAM_ERRORS);
        self.shards.apps.each(|place, block| {
            let app = label(block, 0);
            for index in 0..codes::CODE_COUNT {
                let sum = total(block, |shard| shard.codes.get(index));
                requests.put(&self.admitted, (place, index), sum, || {
                    vec![app.into(), codes::code(index)]
                });
            }
            durations.put(
                &self.admitted,
                (place, 0),
                &distribution(block, |shard| Some(&shard.duration)),
                || vec![app.into()],
            );
            for (index, class) in CredentialClass::ALL.into_iter().enumerate() {
                let sum = total(block, |shard| shard.legacy.get(index));
                legacy.put(&self.admitted, (place, index), sum, || {
                    vec![app.into(), class.as_str().into()]
                });
                let moments = block
                    .shards()
                    .filter_map(|shard| shard.legacy_seen.get(index));
                let last = moments.map(Gauge::value).fold(0.0, f64::max);
                seen.put(&self.admitted, (place, index), last, || {
                    vec![app.into(), class.as_str().into()]
                });
            }
            for error in UpstreamError::ALL {
                let sum = total(block, |shard| shard.upstream.get(error.index()));
                upstream.put(&self.admitted, (place, error.index()), sum, || {
                    vec![app.into(), error.as_str().into()]
                });
            }
        });
        vec![
            requests.finish(),
            durations.finish(),
            legacy.finish(),
            seen.finish(),
            upstream.finish(),
        ]
    }

    fn pairs(&self) -> Vec<proto::MetricFamily> {
        let mut attempts = Counts::of(&catalog::AUTH_ATTEMPTS);
        let mut durations = Times::of(&catalog::AUTH_DURATION);
        self.shards.pairs.each(|place, block| {
            let (app, provider) = (label(block, 0), label(block, 1));
            for flow in Flow::ALL {
                for attempt in Attempt::all() {
                    let sum = total(block, |shard| {
                        shard.attempts.get(flow.index())?.get(attempt.index())
                    });
                    let cell = (place, flow.index() * Attempt::COUNT + attempt.index());
                    attempts.put(&self.admitted, cell, sum, || {
                        vec![
                            app.into(),
                            provider.into(),
                            flow.as_str().into(),
                            attempt.outcome().into(),
                            attempt.reason().into(),
                        ]
                    });
                }
                durations.put(
                    &self.admitted,
                    (place, flow.index()),
                    &distribution(block, |shard| shard.duration.get(flow.index())),
                    || vec![app.into(), provider.into(), flow.as_str().into()],
                );
            }
        });
        vec![attempts.finish(), durations.finish()]
    }

    fn fixed(&self) -> Vec<proto::MetricFamily> {
        let mut caches = Counts::of(&catalog::CACHE_REQUESTS);
        let mut shed = Counts::of(&catalog::SHED);
        let mut tunnels = Counts::of(&catalog::TUNNELS_CLOSED);
        self.shards.fixed.each(|place, block| {
            for cache in Cache::ALL {
                for lookup in Lookup::ALL {
                    let sum = total(block, |shard| {
                        shard.caches.get(cache.index())?.get(lookup.index())
                    });
                    let cell = (place, cache.index() * Lookup::ALL.len() + lookup.index());
                    caches.put(&self.admitted, cell, sum, || {
                        vec![cache.as_str().into(), lookup.as_str().into()]
                    });
                }
            }
            for what in Shed::ALL {
                let sum = total(block, |shard| shard.shed.get(what.index()));
                shed.put(&self.admitted, (place, what.index()), sum, || {
                    vec![what.as_str().into()]
                });
            }
            for end in TunnelEnd::ALL {
                let sum = total(block, |shard| shard.tunnels.get(end.index()));
                tunnels.put(&self.admitted, (place, end.index()), sum, || {
                    vec![end.as_str().into()]
                });
            }
        });
        vec![caches.finish(), shed.finish(), tunnels.finish()]
    }
}

impl Collector for ShardCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut families = self.apps();
        families.extend(self.pairs());
        families.extend(self.fixed());
        families
    }
}

impl RareCollector {
    /// # Errors
    ///
    /// A family whose name or labels Prometheus does not take.
    pub(super) fn new(rare: Arc<Rare>) -> prometheus::Result<Self> {
        let families = catalog::FAMILIES
            .iter()
            .copied()
            .filter(|family| !catalog::SHARDED.contains(family));
        Ok(Self {
            rare,
            descriptions: families.map(describe).collect::<Result<_, _>>()?,
        })
    }
}

impl Collector for RareCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        self.rare.collect()
    }
}

/// The sum of one counter over all writers.
fn total<S>(block: &Block<S>, pick: impl Fn(&S) -> Option<&Counter>) -> u64 {
    block
        .shards()
        .filter_map(pick)
        .map(Counter::value)
        .fold(0, u64::wrapping_add)
}

/// The sum of one histogram over all writers.
fn distribution<S>(block: &Block<S>, pick: impl Fn(&S) -> Option<&Histogram>) -> Distribution {
    let mut seen = Distribution::default();
    for histogram in block.shards().filter_map(pick) {
        histogram.add_to(&mut seen);
    }
    seen
}

fn label<S>(block: &Block<S>, place: usize) -> &str {
    block.labels.get(place).map_or("", AsRef::as_ref)
}
