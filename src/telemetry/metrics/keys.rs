//! What is counted of keys, and when what the configuration holds ends.

use crate::clock::UnixTime;
use crate::telemetry::metrics::KeyUse;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::gauge;
use crate::telemetry::metrics::texts;

impl Metrics {
    /// A key was used; whether it is the first time for this purpose.
    pub(crate) fn key_used(&self, key: &str, how: KeyUse, purpose: &str) -> bool {
        let labels = [key, how.as_str(), purpose];
        self.rare.key_uses.with(&labels).first()
    }

    /// What else of the configuration ends: its kind, where it is used, its name, who renews it.
    pub(crate) fn expiries<'a>(&self, all: impl IntoIterator<Item = ([&'a str; 4], UnixTime)>) {
        let rows = all
            .into_iter()
            .map(|(words, ends)| (texts(words), gauge(ends.as_secs() as f64)));
        self.rare.expiry.replace(rows);
    }
}
