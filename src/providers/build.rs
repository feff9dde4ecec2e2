//! Live providers from settings.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::telemetry::Metrics;

/// What providers need of the rest of the program.
#[derive(Clone, Debug)]
pub(crate) struct Deps {
    /// What time it is.
    pub(crate) clock: Arc<dyn Clock>,
    /// Where jitter and identifiers come from.
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Where what happens is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// The runtime of everything that is not a request: multi-threaded.
    pub(crate) background: Handle,
    /// Where copies of key sets are kept for the next start.
    pub(crate) state_dir: PathBuf,
}

#[cfg(test)]
impl Deps {
    /// A clock that shows second 1 000 000, and a state directory that does not exist.
    pub(super) fn for_test() -> Self {
        Self::at(crate::clock::ManualClock::at(
            crate::clock::UnixTime::from_secs(1_000_000),
        ))
    }

    /// The same with a clock of the test.
    pub(super) fn at(clock: crate::clock::ManualClock) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(clock);
        Self {
            metrics: Metrics::new(Arc::clone(&clock), 8),
            clock,
            entropy: Arc::new(crate::entropy::SystemEntropy),
            background: Handle::current(),
            state_dir: PathBuf::from("/nonexistent"),
        }
    }
}
