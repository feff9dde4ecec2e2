//! What a provider is told after a sign-out: that a token of ours, or a session of the old system, is over.
//!
//! Nobody waits for it. A provider that is away is told again, for about an hour; what cannot be said then is counted.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;
use tracing::warn;

use crate::auth::cookies;
use crate::auth::cookies::Keep;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::Refusal;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::secret::Secret;
use crate::session::Farewell;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Call;

/// Notices that wait for their providers at once: 1 024. One more is counted, and not sent.
const WAITING: usize = 1_024;
/// A provider that did not answer is told again after 1 s, 2 s, 4 s, … at most 10 min.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(10);
/// That many times: for about an hour.
const TRIES: u32 = 15;

/// The room for notices. Outlives snapshots.
#[derive(Debug)]
pub(crate) struct Notices(Arc<Semaphore>);

impl Default for Notices {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WAITING)))
    }
}

/// What is over.
enum Over {
    /// A refresh token (RFC 7009): whatever was issued with it is over too.
    Token(Secret<String>),
    /// A session that the provider judges itself.
    Session(Credential),
}

/// One notice to one provider.
struct Notice {
    provider: Arc<dyn Provider>,
    over: Over,
    metrics: Arc<Metrics>,
    now: UnixTime,
    began: Instant,
}

impl Logins {
    /// Has the provider of a session revoke its refresh token.
    pub(super) fn revoke_at_provider(&self, ask: &Ask<'_>, farewell: &mut Farewell) {
        let provider = self.deps.providers.named(&farewell.provider);
        if let (Some(provider), Some(token)) = (provider, farewell.refresh_token.take()) {
            self.tell(ask, provider, Over::Token(token));
        }
    }

    /// Ends the sessions of old systems whose cookies the browser sent; `Set-Cookie` fields that make it forget them.
    pub(super) fn end_old_sessions(&self, ask: &Ask<'_>) -> Vec<HeaderValue> {
        let mut forget = Vec::new();
        for (name, provider) in &ask.policy.owners().cookies {
            let sent = cookies::named(ask.request.headers, name);
            if !provider.ends_sessions() || sent == cookies::Sent::None {
                continue;
            }
            if let Some(value) = sent.text() {
                let credential = Credential::Session {
                    cookie: name.clone(),
                    value: Secret::new(value.to_owned()),
                };
                self.tell(ask, provider, Over::Session(credential));
            }
            forget.extend(self.names.set(name, "", Keep::Forget));
        }
        forget
    }

    fn tell(&self, ask: &Ask<'_>, provider: &Arc<dyn Provider>, over: Over) {
        let metrics = Arc::clone(&self.deps.reports.metrics);
        let Ok(room) = Arc::clone(&self.deps.notices.0).try_acquire_owned() else {
            warn!(provider = %provider.id(), "Too many sign-outs wait for their providers; one is not told.");
            metrics.logout_fanout(provider.id(), Call::Unavailable);
            return;
        };
        let notice = Notice {
            provider: Arc::clone(provider),
            over,
            metrics,
            now: ask.now,
            began: Instant::now(),
        };
        self.deps.background.spawn(async move {
            notice.deliver().await;
            drop(room);
        });
    }
}

impl Notice {
    async fn deliver(&self) {
        let mut wait = AGAIN;
        for _ in 0..TRIES {
            let outcome = match self.once().await {
                Ok(()) => Call::Success,
                // It has no place to be told: what it issued ends by itself.
                Err(ProviderError::Rejected(Refusal::Unsupported)) => return,
                Err(ProviderError::Rejected(refusal)) => {
                    warn!(provider = %self.provider.id(), %refusal, "A provider did not end what is over.");
                    Call::Rejected
                }
                Err(ProviderError::Unavailable {
                    outage,
                    retry_after,
                }) => {
                    debug!(provider = %self.provider.id(), %outage, "A provider is told of a sign-out again.");
                    tokio::time::sleep(retry_after.unwrap_or(wait).clamp(AGAIN, LONGEST)).await;
                    wait = (wait * 2).min(LONGEST);
                    continue;
                }
            };
            self.metrics.logout_fanout(self.provider.id(), outcome);
            return;
        }
        warn!(provider = %self.provider.id(), "A provider could not be told of a sign-out; what it issued ends by itself.");
        self.metrics
            .logout_fanout(self.provider.id(), Call::Unavailable);
    }

    async fn once(&self) -> Result<(), ProviderError> {
        let now = self.now + self.began.elapsed();
        match &self.over {
            Over::Token(token) => match self.provider.login() {
                Some(login) => login.revoke(token, now).await,
                None => Err(Refusal::Unsupported.into()),
            },
            Over::Session(credential) => self.provider.end(credential).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::FakeProvider;
    use crate::auth::fake::at;
    use crate::identity::Outage;
    use crate::telemetry::metrics::MAX_SERIES_PER_FAMILY;

    async fn told(answers: &[Result<(), ProviderError>]) -> (usize, Arc<Metrics>) {
        let clock = Arc::new(crate::clock::ManualClock::at(at(0)));
        let metrics = Metrics::new(clock, MAX_SERIES_PER_FAMILY);
        let provider = Arc::new(FakeProvider::named("new").with_login());
        let login = provider.login.as_ref().unwrap();
        let script = answers.iter().rev().cloned();
        login.revocations.lock().unwrap().extend(script);
        let notice = Notice {
            provider: Arc::clone(&provider) as _,
            over: Over::Token(Secret::new(String::from("RT"))),
            metrics: Arc::clone(&metrics),
            now: at(0),
            began: Instant::now(),
        };
        notice.deliver().await;
        let asked = login.revoked.lock().unwrap().len();
        (asked, metrics)
    }

    fn counted(metrics: &Metrics, outcome: &str) -> bool {
        let wanted =
            format!("authferry_logout_fanout_total{{provider=\"new\",outcome=\"{outcome}\"}} 1");
        metrics.render().unwrap().contains(&wanted)
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_is_away_is_told_again_and_one_that_refuses_is_not() {
        let away = || Err(ProviderError::from(Outage::Http5xx));
        let (asked, metrics) = told(&[away(), away(), Ok(())]).await;
        assert_eq!(asked, 3);
        assert!(counted(&metrics, "success"));
        let (asked, metrics) = told(&[Err(Refusal::Policy.into())]).await;
        assert_eq!(asked, 1);
        assert!(counted(&metrics, "rejected"));
        let (asked, metrics) = told(&[Err(Refusal::Unsupported.into())]).await;
        assert_eq!(asked, 1);
        assert!(
            !metrics
                .render()
                .unwrap()
                .contains("authferry_logout_fanout_total{")
        );
        let began = Instant::now();
        let (asked, metrics) = told(&vec![away(); 40]).await;
        assert_eq!(asked, TRIES as usize, "and then no more");
        assert!(counted(&metrics, "unavailable"));
        let took = began.elapsed();
        assert!(
            (Duration::from_mins(50)..Duration::from_mins(90)).contains(&took),
            "{took:?}"
        );
    }
}
