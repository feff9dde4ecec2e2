//! What a provider is told of what is over: that a token of ours, or a session of the old system, is.
//!
//! Nobody waits for it. A provider that is away is told again, for about an hour; what cannot be said then is counted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;
use tracing::warn;

use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::TokenClient;
use crate::secret::Secret;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Call;

/// Notices that wait for their providers at once: 1 024. One more is counted, and not sent.
const WAITING: usize = 1_024;
/// A provider that did not answer is told again after 1 s, 2 s, 4 s, … at most 10 min.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);
pub(crate) const LONGEST: Duration = Duration::from_mins(10);
/// That many times: for about an hour.
pub(crate) const TRIES: u32 = 15;

/// Notices of what anybody can make up that wait at once: 256. They keep no other from being sent.
const DOUBTFUL: usize = 256;

/// Credentials whose owners have been told of their end: 4 096. One more forgets another, whose owner may hear it twice.
const TOLD: usize = 4_096;

/// The room for notices. Outlives snapshots.
pub(crate) struct Notices {
    room: Arc<Semaphore>,
    doubtful: Arc<Semaphore>,
    told: Cache<[u8; 32], ()>,
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(WAITING)),
            doubtful: Arc::new(Semaphore::new(DOUBTFUL)),
            told: Cache::new(TOLD),
        }
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notices")
            .field("room", &self.room.available_permits())
            .finish_non_exhaustive()
    }
}

/// What is over, and who is told.
pub(crate) enum Spent {
    /// A refresh token of a login (RFC 7009): whatever was issued with it is over too.
    Token(Arc<dyn Provider>, Secret<String>),
    /// The same of a client of our token endpoint, with what it is registered as there.
    Client(Arc<TokenClient>, Secret<String>),
    /// A session that the provider judges itself.
    Session(Arc<dyn Provider>, Credential),
}

/// One notice to one provider.
pub(crate) struct Notice {
    provider: ProviderId,
    spent: Spent,
    metrics: Arc<Metrics>,
    now: UnixTime,
    began: Instant,
}

impl Notices {
    /// Has a notice delivered; one for which there is no room is counted.
    pub(crate) fn send(&self, notice: Notice, background: &Handle) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            warn!(provider = %notice.provider, "Too many sign-outs wait for their providers; one is not told.");
            notice
                .metrics
                .logout_fanout(&notice.provider, Call::Unavailable);
            return;
        };
        background.spawn(async move {
            notice.deliver().await;
            drop(room);
        });
    }

    /// As [`Self::send`], for a credential that may be presented again and again: its owner is told once.
    pub(crate) fn send_once(&self, notice: Notice, background: &Handle) {
        if self.is_first(&notice) {
            self.send(notice, background);
        }
    }

    /// The same, of what anybody can make up, in the room of its own. `goes` is asked first, behind everybody's back. `false`:
    /// there is no room, and nothing is remembered of it: it may come again.
    pub(crate) fn send_if(
        &self,
        notice: Notice,
        goes: impl Future<Output = bool> + Send + 'static,
        background: &Handle,
    ) -> bool {
        let Ok(room) = Arc::clone(&self.doubtful).try_acquire_owned() else {
            debug!(provider = %notice.provider, "Too many sessions that count no more wait for their providers; one is told of when it comes again.");
            return false;
        };
        if !self.is_first(&notice) {
            return true;
        }
        background.spawn(async move {
            if goes.await {
                notice.deliver().await;
            }
            drop(room);
        });
        true
    }

    fn is_first(&self, notice: &Notice) -> bool {
        let Some(key) = notice.spent.key() else {
            return true;
        };
        if self.told.get(&key).is_some() {
            return false;
        }
        self.told.insert(key, ());
        true
    }

    /// As [`Self::send`], for who can wait until there is room.
    pub(super) async fn send_in_turn(&self, notice: Notice, background: &Handle) {
        // It is never closed.
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        background.spawn(async move {
            notice.deliver().await;
            drop(room);
        });
    }
}

impl Spent {
    /// What a session or token of a provider is remembered by, each part with its length.
    fn key(&self) -> Option<[u8; 32]> {
        let (at, slot, value) = match self {
            Self::Session(at, Credential::Session { cookie, value }) => {
                (at.id().as_str(), &**cookie, value)
            }
            Self::Session(at, Credential::Opaque(token)) => (at.id().as_str(), "", token),
            Self::Client(at, token) => (at.id(), "client", token),
            Self::Session(..) | Self::Token(..) => return None,
        };
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [at, slot, value.expose()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        Some(key)
    }
}

impl Notice {
    /// What is over at a provider since `now`.
    pub(crate) fn new(
        provider: &ProviderId,
        spent: Spent,
        metrics: &Arc<Metrics>,
        now: UnixTime,
    ) -> Self {
        Self {
            provider: provider.clone(),
            spent,
            metrics: Arc::clone(metrics),
            now,
            began: Instant::now(),
        }
    }

    /// Tells the provider, as often as it takes.
    pub(crate) async fn deliver(&self) {
        let mut wait = AGAIN;
        for _ in 0..TRIES {
            let outcome = match self.once().await {
                Ok(()) => Call::Success,
                // It has no place to be told: what it issued ends by itself.
                Err(ProviderError::Rejected(Refusal::Unsupported)) => return,
                Err(ProviderError::Rejected(refusal)) => {
                    warn!(provider = %self.provider, %refusal, "A provider did not end what is over.");
                    Call::Rejected
                }
                Err(ProviderError::Unavailable {
                    outage,
                    retry_after,
                }) => {
                    debug!(provider = %self.provider, %outage, "A provider is told of a sign-out again.");
                    tokio::time::sleep(retry_after.unwrap_or(wait).clamp(AGAIN, LONGEST)).await;
                    wait = (wait * 2).min(LONGEST);
                    continue;
                }
            };
            self.metrics.logout_fanout(&self.provider, outcome);
            return;
        }
        warn!(provider = %self.provider, "A provider could not be told of a sign-out; what it issued ends by itself.");
        self.metrics
            .logout_fanout(&self.provider, Call::Unavailable);
    }

    async fn once(&self) -> Result<(), ProviderError> {
        let now = self.now + self.began.elapsed();
        match &self.spent {
            Spent::Token(at, token) => match at.login() {
                Some(login) => login.revoke(token, now).await,
                None => Err(Refusal::Unsupported.into()),
            },
            Spent::Client(at, token) => at.revoke(token, "refresh_token", now).await,
            Spent::Session(at, credential) => at.end(credential).await,
        }
    }
}
