//! What a worker records while it serves: no lock, no look-up by label, no memory shared with another worker.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::rollout::AppId;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::attempt::Attempt;
use crate::telemetry::metrics::codes;
use crate::telemetry::metrics::labels::Cache;
use crate::telemetry::metrics::labels::Flow;
use crate::telemetry::metrics::labels::Lookup;
use crate::telemetry::metrics::labels::TunnelEnd;
use crate::telemetry::metrics::labels::UpstreamError;
use crate::telemetry::metrics::series;
use crate::telemetry::metrics::shards::AppShard;
use crate::telemetry::metrics::shards::AuthShard;
use crate::telemetry::metrics::shards::FixedShard;
use crate::telemetry::metrics::shards::Writer;

/// The label value of requests that belong to no application.
pub(super) const NO_APP: &str = "none";

/// The place of an application in [`Names::apps`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct AppIndex(pub(crate) usize);

/// The place of a provider in [`Names::providers`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ProviderIndex(pub(crate) usize);

/// The names of one snapshot; their order is what the indices mean.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// Applications.
    pub(crate) apps: Vec<AppId>,
    /// Providers.
    pub(crate) providers: Vec<ProviderId>,
}

impl Names {
    /// The place of a provider. A short list, so it is walked.
    pub(crate) fn provider(&self, id: &ProviderId) -> Option<ProviderIndex> {
        self.providers
            .iter()
            .position(|known| known == id)
            .map(ProviderIndex)
    }
}

/// One worker's counters for one snapshot. The next snapshot gets a new view of the same counters.
#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    metrics: Arc<Metrics>,
    names: Arc<Names>,
    writer: Writer,
    fixed: Arc<FixedShard>,
    apps: Box<[Arc<AppShard>]>,
    nobody: Arc<AppShard>,
    /// By application, then provider; found when first needed, because most pairs never meet.
    pairs: Box<[OnceLock<Arc<AuthShard>>]>,
}

impl WorkerMetrics {
    pub(super) fn new(metrics: Arc<Metrics>, writer: Writer, names: Arc<Names>) -> Self {
        let store = &metrics.shards;
        let app = |name: &str| store.apps.shard(series::labels([name]), writer);
        Self {
            fixed: store.fixed.shard(series::labels([]), writer),
            apps: names.apps.iter().map(|id| app(id.as_str())).collect(),
            nobody: app(NO_APP),
            pairs: (0..names.apps.len() * names.providers.len())
                .map(|_| OnceLock::new())
                .collect(),
            metrics,
            names,
            writer,
        }
    }

    /// The names that the indices of this view mean.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// A request has ended: `took` from its head to the end of the answer. `None`: no application has this host.
    pub(crate) fn request(&self, app: Option<AppIndex>, status: u16, took: Duration) {
        let shard = self.app(app);
        if let Some(counter) = shard.codes.get(codes::code_index(status)) {
            counter.add(1);
        }
        shard.duration.observe(took);
    }

    /// A provider decided about a credential, or could not. Cached verdicts count too.
    pub(crate) fn attempt(
        &self,
        app: AppIndex,
        provider: ProviderIndex,
        flow: Flow,
        attempt: Attempt,
        took: Duration,
    ) {
        let Some(shard) = self.pair(app, provider) else {
            return;
        };
        record(shard, flow, attempt, took);
    }

    /// A request presented a credential of a rollout's `from` side.
    pub(crate) fn legacy_credential(&self, app: AppIndex, class: CredentialClass, at: UnixTime) {
        let place = CredentialClass::ALL
            .iter()
            .position(|known| *known == class);
        let shard = self.app(Some(app));
        let cells =
            place.and_then(|place| shard.legacy.get(place).zip(shard.legacy_seen.get(place)));
        if let Some((counter, seen)) = cells {
            counter.add(1);
            seen.set(at.as_secs() as f64);
        }
    }

    /// An upstream did not answer, or not to the end.
    pub(crate) fn upstream_error(&self, app: AppIndex, error: UpstreamError) {
        if let Some(counter) = self.app(Some(app)).upstream.get(error.index()) {
            counter.add(1);
        }
    }

    /// A cache was asked.
    pub(crate) fn cache(&self, cache: Cache, lookup: Lookup) {
        let counter = self.fixed.caches.get(cache.index());
        if let Some(counter) = counter.and_then(|row| row.get(lookup.index())) {
            counter.add(1);
        }
    }

    /// A tunnel ended.
    pub(crate) fn tunnel_closed(&self, end: TunnelEnd) {
        if let Some(counter) = self.fixed.tunnels.get(end.index()) {
            counter.add(1);
        }
    }

    fn app(&self, app: Option<AppIndex>) -> &AppShard {
        app.and_then(|AppIndex(place)| self.apps.get(place))
            .unwrap_or(&self.nobody)
    }

    fn pair(&self, app: AppIndex, provider: ProviderIndex) -> Option<&AuthShard> {
        let (AppIndex(app), ProviderIndex(provider)) = (app, provider);
        let names = (
            self.names.apps.get(app)?,
            self.names.providers.get(provider)?,
        );
        let cell = self
            .pairs
            .get(app * self.names.providers.len() + provider)?;
        Some(cell.get_or_init(|| self.metrics.pair(names.0, names.1, self.writer)))
    }
}

/// Counts one attempt.
pub(super) fn record(shard: &AuthShard, flow: Flow, attempt: Attempt, took: Duration) {
    let counter = shard.attempts.get(flow.index());
    if let Some(counter) = counter.and_then(|row| row.get(attempt.index())) {
        counter.add(1);
    }
    if let Some(histogram) = shard.duration.get(flow.index()) {
        histogram.observe(took);
    }
}
