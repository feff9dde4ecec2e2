//! Finds out whether a provider is away, and that it is back, without waiting for people to try.
//!
//! After a failed call a harmless question is asked every second until one is answered, and while the breaker is not closed
//! as often as the breaker allows. So an outage is known where people sign in once an hour; and a flood of bad requests
//! that opened the breaker does not keep it open: the question is ours, and a healthy provider answers it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::providers::ProviderError;
use crate::providers::client::Call;
use crate::providers::client::Client;

/// How often the breaker is looked at.
const POLL: Duration = Duration::from_secs(1);

/// Looks after one provider. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Watch(AbortHandle);

impl Watch {
    /// Asks `question` whenever the last call failed and the breaker would let one try.
    pub(super) fn start<F>(client: Arc<Client>, background: &Handle, question: F) -> Self
    where
        F: Fn() -> Result<Call, ProviderError> + Send + 'static,
    {
        let task = async move {
            let mut tick = interval(POLL);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                if !client.is_in_doubt() {
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
