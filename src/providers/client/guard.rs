//! Calls to a provider that is not asked over HTTP: with the breaker, the figures and the further tries of one that is.

use std::sync::Arc;

use tokio::time::Instant;
use tokio::time::sleep;
use tracing::debug;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::providers::Deps;
use crate::providers::ProviderError;
use crate::providers::client::BACKOFF;
use crate::providers::client::MAX_BACKOFF;
use crate::providers::client::backoff;
use crate::providers::client::breaker::Breaker;
use crate::providers::client::ended;
use crate::providers::client::failure::Failure;
use crate::providers::client::outcome;
#[cfg(feature = "ldap")]
use crate::providers::client::uses::sends;
use crate::providers::settings;
use crate::telemetry::metrics::Circuit;
use crate::telemetry::metrics::Operation;

/// What stands between one provider and its callers.
#[derive(Debug)]
pub(in crate::providers) struct Guard {
    provider: ProviderId,
    breaker: Breaker,
    /// How often it is tried again to reach it.
    retries: u32,
    /// Whether its breaker is the one that operators see of the provider.
    shown: bool,
    deps: Deps,
}

impl Guard {
    /// A call is to show a secret of ours.
    #[cfg(feature = "ldap")]
    pub(in crate::providers) fn sends(&self, purpose: &'static str) {
        sends(&self.deps.metrics, &self.provider, purpose);
    }

    /// For the calls to `provider`.
    pub(in crate::providers) fn new(
        provider: ProviderId,
        settings: &settings::Client,
        deps: &Deps,
    ) -> Self {
        Self {
            provider,
            breaker: Breaker::new(settings.breaker.clone(), Arc::clone(&deps.clock)),
            retries: settings.retries,
            shown: true,
            deps: deps.clone(),
        }
    }

    /// One on the side: nobody's login hangs on its breaker, which is not shown as the provider's.
    pub(in crate::providers) const fn aside(mut self) -> Self {
        self.shown = false;
        self
    }

    /// Does `work` if the breaker lets it, tells the breaker how it went, and counts it.
    ///
    /// # Errors
    ///
    /// An outage when the breaker is open, or what `work` says.
    pub(in crate::providers) async fn call<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, ProviderError>> + Send,
    ) -> Result<T, ProviderError> {
        let began = Instant::now();
        let permit = match self.breaker.admit() {
            Ok(permit) => permit,
            Err(left) => return Err(Failure::Open(left).into()),
        };
        self.show_circuit();
        let result = work.await;
        permit.report(outcome(None, &result));
        self.show_circuit();
        let (ended, took) = (ended(&result), began.elapsed());
        let metrics = &self.deps.metrics;
        metrics.provider_request(&self.provider, operation, ended, took);
        result
    }

    /// Opens a connection, again where it cannot be had: nothing that counts has been sent before there is one.
    ///
    /// # Errors
    ///
    /// What the last try says.
    pub(in crate::providers) async fn connect<T, F>(
        &self,
        deadline: Instant,
        open: impl Fn() -> F + Send,
    ) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ProviderError>> + Send,
    {
        let mut tries = 0;
        loop {
            let failure = match open().await {
                Ok(connection) => return Ok(connection),
                Err(failure) => failure,
            };
            let unreached = matches!(
                failure,
                ProviderError::Unavailable {
                    outage: Outage::Connect,
                    ..
                }
            );
            let wait = backoff(&*self.deps.entropy, BACKOFF, MAX_BACKOFF, tries);
            let left = deadline.saturating_duration_since(Instant::now());
            if !unreached || self.retries <= tries || left <= wait {
                return Err(failure);
            }
            debug!(
                provider = self.provider.as_str(),
                "The provider was not reached and is tried again."
            );
            sleep(wait).await;
            tries += 1;
        }
    }

    /// The breaker's position.
    pub(in crate::providers) fn circuit(&self) -> Circuit {
        self.breaker.circuit()
    }

    /// Since when the breaker has been other than closed without one success.
    pub(in crate::providers) fn down_since(&self) -> Option<UnixTime> {
        self.breaker.down_since()
    }

    fn show_circuit(&self) {
        if self.shown {
            self.deps.metrics.circuit(&self.provider, self.circuit());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;
    use crate::identity::Refusal;

    fn guard(retries: u32, deps: &Deps) -> Guard {
        let settings = settings::Client {
            retries,
            breaker: settings::Breaker {
                min_requests: 2,
                ..settings::Client::for_test().breaker
            },
            ..settings::Client::for_test()
        };
        Guard::new(ProviderId::new("corp"), &settings, deps)
    }

    /// How often a provider is tried that fails like this, given so much time.
    async fn tried(retries: u32, limit: Duration, failure: &ProviderError) -> u32 {
        let (guard, tries) = (guard(retries, &Deps::for_test()), AtomicU32::new(0));
        let open = || {
            tries.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Err::<(), _>(failure.clone()))
        };
        let said = guard.connect(Instant::now() + limit, open).await;
        assert_eq!(said.as_ref(), Err(failure));
        tries.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_reached_is_tried_again_and_nobody_else() {
        let (minute, moment) = (Duration::from_secs(60), Duration::from_millis(10));
        let connect = ProviderError::from(Outage::Connect);
        assert_eq!(tried(2, minute, &connect).await, 3);
        assert_eq!(tried(0, minute, &connect).await, 1);
        assert_eq!(tried(5, moment, &connect).await, 1);
        for other in [
            Outage::Tls.into(),
            Outage::Timeout.into(),
            Refusal::Policy.into(),
        ] {
            assert_eq!(tried(2, minute, &other).await, 1);
        }
    }

    #[tokio::test]
    async fn operators_see_each_call_and_where_the_breaker_stands() {
        let deps = Deps::for_test();
        let (own, aside) = (guard(0, &deps), guard(0, &deps).aside());
        let down = async |guard: &Guard, operation| {
            let work = std::future::ready(Err::<(), _>(Outage::Connect.into()));
            guard.call(operation, work).await.unwrap_err()
        };
        for _ in 0..2 {
            down(&aside, Operation::Directory).await;
        }
        let state = "authferry_provider_circuit_state{provider=\"corp\"}";
        assert!(!deps.metrics.render().unwrap().contains(state));
        let work = std::future::ready(Err::<(), _>(Refusal::BadCredentials.into()));
        own.call(Operation::Bind, work).await.unwrap_err();
        let page = deps.metrics.render().unwrap();
        assert!(page.contains(&format!("{state} 0\n")), "{page}");
        // Two calls are enough to judge by, and half of them failed.
        down(&own, Operation::Bind).await;
        let refused = down(&own, Operation::Bind).await;
        assert!(matches!(
            refused,
            ProviderError::Unavailable {
                outage: Outage::CircuitOpen,
                ..
            }
        ));
        let page = deps.metrics.render().unwrap();
        let open = Circuit::Open as u8;
        assert!(page.contains(&format!("{state} {open}\n")), "{page}");
        let name = "authferry_provider_request_duration_seconds_count";
        for (outcome, times) in [("rejected", 1), ("unavailable", 1)] {
            let labels = format!("provider=\"corp\",operation=\"bind\",outcome=\"{outcome}\"");
            let line = format!("{name}{{{labels}}} {times}\n");
            assert!(page.contains(&line), "{line} in {page}");
        }
    }
}
