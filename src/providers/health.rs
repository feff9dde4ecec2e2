//! Finds out that a provider is back, without waiting for a person to try.
//!
//! While the breaker is not closed, one harmless question is asked as often as the breaker allows. So a flood of bad
//! requests that opened it does not keep it open: the question is ours, and a healthy provider answers it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::providers::ProviderError;
use crate::providers::client::Call;
use crate::providers::client::Client;
use crate::telemetry::metrics::Circuit;

/// How often the breaker is looked at.
const POLL: Duration = Duration::from_secs(1);

/// Looks after one provider. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Watch(AbortHandle);

impl Watch {
    /// Asks `question` whenever the breaker would let one call try.
    pub(super) fn start<F>(client: Arc<Client>, background: &Handle, question: F) -> Self
    where
        F: Fn() -> Result<Call, ProviderError> + Send + 'static,
    {
        let task = async move {
            let mut tick = interval(POLL);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                if client.circuit() != Circuit::HalfOpen {
                    continue;
                }
                if let Ok(call) = question() {
                    // Whatever it says, it is there; what it means is somebody else's question.
                    client.call(&call, |_answer| Ok(())).await.ok();
                }
            }
        };
        Self(background.spawn(task).abort_handle())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}
