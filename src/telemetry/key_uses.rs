//! Who is told that a key was used: each use is counted, and the first of a key for a purpose is a line in the log.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;

use tracing::info;

use crate::telemetry::metrics::KeyUse;
use crate::telemetry::metrics::Metrics;

/// Counts uses of keys; shared by all that hold the same keys. Until it is known who counts, nobody does.
#[derive(Clone, Default)]
pub(crate) struct KeyUses(Arc<OnceLock<Arc<Metrics>>>);

impl KeyUses {
    /// Uses that `metrics` counts.
    pub(crate) fn counted_by(metrics: &Arc<Metrics>) -> Self {
        let uses = Self::default();
        uses.count_by(metrics);
        uses
    }

    /// Has `metrics` count from now on.
    pub(crate) fn count_by(&self, metrics: &Arc<Metrics>) {
        self.0.get_or_init(|| Arc::clone(metrics));
    }

    /// A key was used. Its name is a digest or a thumbprint, never the key.
    pub(crate) fn used(&self, key: &str, how: KeyUse, purpose: &'static str) {
        let Some(metrics) = self.0.get() else { return };
        if metrics.key_used(key, how, purpose) {
            info!(
                key,
                used = how.as_str(),
                purpose,
                "A key is used for the first time since the start."
            );
        }
    }
}

impl fmt::Debug for KeyUses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyUses")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn every_use_is_counted_by_key_and_purpose() {
        let metrics = Metrics::new(Arc::new(SystemClock), 100);
        let uses = KeyUses::default();
        uses.used("k0", KeyUse::Sign, "mint");
        uses.count_by(&metrics);
        let again = uses.clone();
        for _ in 0..3 {
            uses.used("k1", KeyUse::Sign, "mint");
            again.used("k1", KeyUse::Open, "flow");
        }
        again.used("k2", KeyUse::Sign, "mint");
        let text = metrics.render().unwrap();
        for line in [
            r#"authferry_key_uses_total{key="k1",use="sign",purpose="mint"} 3"#,
            r#"authferry_key_uses_total{key="k1",use="open",purpose="flow"} 3"#,
            r#"authferry_key_uses_total{key="k2",use="sign",purpose="mint"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("k0"), "nobody counted yet");
        assert!(!metrics.key_used("k2", KeyUse::Sign, "mint"), "the second");
        assert!(metrics.key_used("k3", KeyUse::Sign, "mint"), "the first");
    }
}
