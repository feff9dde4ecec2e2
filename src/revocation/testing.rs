//! Lists for tests of other modules.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::links::Links;
use crate::revocation::list::Parts;
use crate::revocation::list::Revocations;
use crate::session::Sessions;
use crate::store::Store;
use crate::telemetry::DecisionLog;
use crate::telemetry::Metrics;
use crate::telemetry::Pseudonyms;

impl Revocations {
    /// A list of which everything is known, for tests of other modules.
    pub(crate) fn for_test(
        store: &Arc<dyn Store>,
        sessions: &Arc<Sessions>,
        clock: Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        let list = Self::new(Parts {
            store: Arc::clone(store),
            links: Arc::new(Links::new(Arc::clone(store))),
            sessions: Arc::clone(sessions),
            clock,
            entropy: Arc::new(crate::entropy::SystemEntropy),
            metrics: Arc::clone(metrics),
            decisions: DecisionLog::off(),
            pseudonyms: Pseudonyms::new(&crate::secret::Secret::new(vec![1; 32])),
            keep: Duration::from_secs(12 * 3_600),
        });
        list.index.set_ready();
        list
    }

    /// The same, before anything is known.
    pub(crate) fn unknown_for_test(other: &Self) -> Arc<Self> {
        Self::new(Parts {
            store: Arc::clone(&other.store),
            links: Arc::clone(&other.links),
            sessions: Arc::clone(&other.sessions),
            clock: Arc::clone(&other.clock),
            entropy: Arc::clone(&other.entropy),
            metrics: Arc::clone(&other.metrics),
            decisions: DecisionLog::off(),
            pseudonyms: other.pseudonyms.clone(),
            keep: Duration::ZERO,
        })
    }
}
