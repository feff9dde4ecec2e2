//! What of ours a provider is shown that is no registration of OAuth: each use is counted, by the name of the provider.

use std::sync::Arc;

use crate::identity::ProviderId;
use crate::providers::client::Client;
use crate::telemetry::KeyUses;
use crate::telemetry::metrics::KeyUse;
use crate::telemetry::metrics::Metrics;

/// A secret of ours goes to a provider.
pub(super) fn sends(metrics: &Arc<Metrics>, provider: &ProviderId, purpose: &'static str) {
    let uses = KeyUses::counted_by(metrics);
    uses.used(&format!("provider:{provider}"), KeyUse::Send, purpose);
}

impl Client {
    /// A call is to show a secret of ours.
    pub(in crate::providers) fn sends(&self, purpose: &'static str) {
        sends(&self.deps.metrics, &self.provider, purpose);
    }
}
