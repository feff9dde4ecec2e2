//! What providers are like: how old their keys are, what time they have, and what counts while they are away.

use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::gauge;
use crate::telemetry::metrics::texts;

impl Metrics {
    /// A provider's keys were fetched, or read from a copy that was fetched then.
    pub(crate) fn keys_fetched(&self, provider: &ProviderId, at: UnixTime) {
        let cell = self.rare.keys_fetched.with(&[provider.as_str()]);
        cell.set(at.as_secs() as f64);
    }

    /// A provider's clock is so many seconds ahead of ours, or behind it where that is negative.
    pub(crate) fn clock_skew(&self, provider: &ProviderId, ahead: f64) {
        self.rare.clock_skew.with(&[provider.as_str()]).set(ahead);
    }

    /// A provider's clock was seen to be so many seconds ahead of ours, and never to be more.
    pub(crate) fn clock_ahead(&self, provider: &ProviderId, most: f64) {
        self.rare.clock_ahead.with(&[provider.as_str()]).set(most);
    }

    /// Which providers judge by a file, and whether by that file as it is now.
    pub(crate) fn provider_files<'a>(&self, all: impl IntoIterator<Item = (&'a str, bool)>) {
        let all = all.into_iter();
        let rows = all.map(|(id, good)| (texts([id]), gauge(f64::from(u8::from(good)))));
        self.rare.provider_files.replace(rows);
    }

    /// An earlier answer of a provider counted, because it could not be reached.
    pub(crate) fn stale_verdict(&self, provider: &ProviderId) {
        self.rare.stale_verdicts.with(&[provider.as_str()]).add(1);
    }
}
