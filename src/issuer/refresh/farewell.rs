//! What a provider is told when a family is over: that its refresh token is. Nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::warn;

use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::providers::TokenClient;
use crate::secret::Secret;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Call;

/// Tokens that wait for their providers at once: 1 024. One more is counted, and not sent.
const WAITING: usize = 1_024;
/// A provider that did not answer is told again after 1 s, 2 s, 4 s, … at most 10 min; for about an hour.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(10);
const TRIES: u32 = 15;

/// Who tells them.
#[derive(Clone)]
pub(in crate::issuer) struct Farewells {
    room: Arc<Semaphore>,
    background: Handle,
    metrics: Arc<Metrics>,
}

impl Farewells {
    pub(super) fn new(background: Handle, metrics: Arc<Metrics>) -> Self {
        Self {
            room: Arc::new(Semaphore::new(WAITING)),
            background,
            metrics,
        }
    }

    /// Has a provider revoke a refresh token of a client.
    pub(in crate::issuer) fn tell(
        &self,
        provider: &ProviderId,
        at: &Arc<TokenClient>,
        token: Secret<String>,
        now: UnixTime,
    ) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            warn!(provider = %provider, "Too many refresh tokens wait to be revoked; one is not.");
            self.metrics.logout_fanout(provider, Call::Unavailable);
            return;
        };
        let (provider, at, metrics) = (provider.clone(), Arc::clone(at), Arc::clone(&self.metrics));
        self.background.spawn(async move {
            let (mut wait, began) = (AGAIN, Instant::now());
            for _ in 0..TRIES {
                let outcome = match at
                    .revoke(&token, "refresh_token", now + began.elapsed())
                    .await {
                    Ok(()) => Call::Success,
                    // It has no place to be told: what it issued ends by itself.
                    Err(ProviderError::Rejected(Refusal::Unsupported)) => return,
                    Err(ProviderError::Rejected(refusal)) => {
                        warn!(provider = %provider, %refusal, "A provider did not revoke a refresh token.");
                        Call::Rejected
                    }
                    Err(ProviderError::Unavailable { retry_after, .. }) => {
                        let pause = retry_after.unwrap_or(wait).clamp(AGAIN, LONGEST);
                        tokio::time::sleep(pause).await;
                        wait = (wait * 2).min(LONGEST);
                        continue;
                    }
                };
                metrics.logout_fanout(&provider, outcome);
                drop(room);
                return;
            }
            warn!(provider = %provider, "A provider could not be told that a refresh token is over; it ends by itself.");
            metrics.logout_fanout(&provider, Call::Unavailable);
        });
    }
}
