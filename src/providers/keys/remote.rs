//! A fetched key set: one task fetches, everybody else waits for it or does without.
//!
//! Who presents tokens with unknown keys causes one fetch per cool-down and issuer, however many tokens there are.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use http::StatusCode;
use http::header;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio::time::timeout;
use tracing::info;
use tracing::warn;

use crate::clock::UnixTime;
use crate::identity::Issuer;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Deps;
use crate::providers::Epoch;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::client::Call;
use crate::providers::client::Client;
use crate::providers::client::Endpoint;
use crate::providers::keys::disk::DiskCopy;
use crate::providers::keys::gate::Gate;
use crate::providers::keys::source::Source;
use crate::providers::settings;
use crate::telemetry::metrics::Operation;
use crate::token::KeySet;
use crate::token::SkippedKey;

/// The shortest and longest time between two fetches that the provider may ask for (RFC 9111 §5.2.2.1).
const MIN_REFRESH: Duration = Duration::from_secs(60);
const MAX_REFRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait after the first failed fetch, and the longest one; it doubles.
const BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The longest wait that a provider's `Retry-After` may cause.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10 * 60);

/// How many requests may wait for one fetch.
const MAX_WAITING: usize = 1_024;

/// A key set that is kept fresh. The task that does it ends when this is dropped.
#[derive(Debug)]
pub(in crate::providers) struct Remote {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    held: ArcSwapOption<Held>,
    max_stale: Duration,
    gate: Mutex<Gate>,
    wanted: Notify,
    rounds: watch::Sender<Round>,
    waiting: Semaphore,
    patience: Duration,
}

#[derive(Debug)]
struct Held {
    keys: KeySet,
    fetched: UnixTime,
}

/// How fetches went: written after the keys are in place.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    finished: u64,
    succeeded: bool,
}

impl Remote {
    /// Reads the copy on disk and begins to fetch. `epoch` is raised whenever a key leaves the set.
    pub(in crate::providers) fn start(
        provider: &ProviderId,
        issuer: &Issuer,
        verify: &settings::Verify,
        source: Source,
        client: Arc<Client>,
        epoch: Epoch,
        deps: &Deps,
    ) -> Self {
        let origin = match &source {
            Source::Url(url) => url.to_string(),
            Source::Discovered(_) => "discovered".to_owned(),
        };
        let shared = Arc::new(Shared {
            held: ArcSwapOption::empty(),
            max_stale: verify.jwks_max_stale,
            gate: Mutex::default(),
            wanted: Notify::new(),
            rounds: watch::Sender::new(Round::default()),
            waiting: Semaphore::new(MAX_WAITING),
            // Metadata and keys may both have to be fetched.
            patience: client.timeout().saturating_mul(2),
        });
        let task = Task {
            provider: provider.clone(),
            shared: Arc::clone(&shared),
            copy: DiskCopy::new(&deps.state_dir, provider, issuer, &origin),
            refresh: verify.jwks_refresh,
            source,
            client,
            epoch,
            deps: deps.clone(),
        };
        task.read_copy();
        let task = deps.background.spawn(task.run()).abort_handle();
        Self { shared, task }
    }

    /// The keys, unless they are older than the configuration allows.
    pub(super) fn current(&self, now: UnixTime) -> Option<KeySet> {
        let held = self.shared.held.load();
        held.as_ref()
            .filter(|held| now.since(held.fetched) <= self.shared.max_stale)
            .map(|held| held.keys.clone())
    }

    /// See [`super::Keys::believed_until`].
    pub(super) fn believed_until(&self) -> UnixTime {
        let held = self.shared.held.load();
        held.as_ref().map_or(UnixTime::NEVER, |held| {
            held.fetched + self.shared.max_stale + Duration::from_millis(1)
        })
    }

    /// See [`super::Keys::settled`].
    pub(super) fn settled(&self) -> Option<ProviderError> {
        let number = self.shared.gate().speaks(Instant::now())?;
        let round = *self.shared.rounds.borrow();
        (number <= round.finished).then(|| round.verdict())
    }

    /// See [`super::Keys::look`].
    pub(super) fn look(&self) {
        self.shared.ask();
    }

    /// See [`super::Keys::fetch`].
    pub(super) async fn fetch(&self) -> ProviderError {
        let Ok(_place) = self.shared.waiting.try_acquire() else {
            return Outage::Shed.into();
        };
        let mut rounds = self.shared.rounds.subscribe();
        let number = self.shared.ask();
        let served = rounds.wait_for(|round| number <= round.finished);
        match timeout(self.shared.patience, served).await {
            Ok(Ok(round)) => round.verdict(),
            // Too long, or the task has ended with its provider.
            Ok(Err(_)) | Err(_) => Outage::KeysUnavailable.into(),
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Round {
    /// An unknown key after a good fetch is nobody's; after a failed one it might be.
    fn verdict(self) -> ProviderError {
        if self.succeeded {
            Refusal::BadSignature.into()
        } else {
            Outage::KeysUnavailable.into()
        }
    }
}

impl Shared {
    /// Asks for a fetch that begins after now, and says its number; within the cool-down, that of the last one asked for.
    fn ask(&self) -> u64 {
        let finished = self.rounds.borrow().finished;
        let (number, begins) = self.gate().ask(finished, Instant::now());
        if begins {
            self.wanted.notify_one();
        }
        number
    }

    /// A few numbers, each right by itself: a panic elsewhere does not spoil them.
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the fetching task owns.
struct Task {
    provider: ProviderId,
    shared: Arc<Shared>,
    copy: DiskCopy,
    refresh: Duration,
    source: Source,
    client: Arc<Client>,
    epoch: Epoch,
    deps: Deps,
}

/// A key set as it came.
struct Fetched {
    keys: KeySet,
    skipped: Vec<SkippedKey>,
    document: String,
    lifetime: Option<Duration>,
}

impl Task {
    async fn run(mut self) {
        let mut next = Instant::now();
        let mut failures = 0;
        let mut asked = None;
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.shared.wanted.notified() => {}
                () = self.source.moved(asked.as_ref()) => {}
            }
            let closed = self.shared.gate().closed_until(Instant::now());
            if let Some(until) = closed {
                sleep_until(until).await;
            }
            asked = self.source.known().await;
            self.shared.gate().begin(asked.is_some(), Instant::now());
            let fetched = self.fetch(asked.as_ref()).await;
            self.shared.gate().end(asked.is_some(), Instant::now());
            let wait = match &fetched {
                Ok(wait) => *wait,
                Err(error) => self.after_failure(error, failures),
            };
            failures = fetched
                .as_ref()
                .map_or_else(|_| failures.saturating_add(1), |_| 0);
            next = Instant::now() + wait;
            self.shared.rounds.send_modify(|round| {
                round.finished += 1;
                round.succeeded = fetched.is_ok();
            });
        }
    }

    /// Fetches once, and says when to fetch again.
    async fn fetch(&self, endpoint: Option<&Endpoint>) -> Result<Duration, ProviderError> {
        let endpoint = endpoint.ok_or(Outage::KeysUnavailable)?;
        // Trying again is this task's own business: it alone knows how often the provider may be asked.
        let call = Call::get(Operation::Keys, endpoint).once();
        let fetched = self.client.call(&call, |answer| self.read(&answer)).await?;
        let refresh = fetched.lifetime.unwrap_or(self.refresh);
        let now = self.deps.clock.now();
        let copy = self.copy.clone();
        let document = fetched.document.clone();
        self.adopt(fetched.keys, &fetched.skipped, now);
        // Writing blocks. That the copy is not written is a pity for the next start, and nothing else.
        let written = tokio::task::spawn_blocking(move || copy.write(&document, now)).await;
        if let Ok(Err(cause)) = written {
            warn!(provider = self.provider.as_str(), %cause, "The copy of a key set was not written.");
        }
        // A little earlier, by chance, so that many instances do not ask at once.
        let early = self.client.backoff(refresh / 10, refresh, 0);
        Ok(refresh.saturating_sub(early))
    }

    /// A set of which nothing is usable, or nothing at all, is no answer: the last good set stays.
    fn read(&self, answer: &Answer) -> Result<Fetched, ProviderError> {
        if answer.status != StatusCode::OK {
            return Err(Outage::Malformed.into());
        }
        let (keys, skipped) = KeySet::from_remote(&answer.body).map_err(|cause| {
            warn!(provider = self.provider.as_str(), %cause, "The provider's key set is not one.");
            Outage::Malformed
        })?;
        let document = String::from_utf8(answer.body.to_vec()).or(Err(Outage::Malformed))?;
        if keys.is_empty() {
            return Err(Outage::Malformed.into());
        }
        Ok(Fetched {
            keys,
            skipped,
            document,
            lifetime: lifetime(&answer.headers),
        })
    }

    /// Puts a set in place of the one before. Verdicts that rest on a key that has left must go.
    fn adopt(&self, keys: KeySet, skipped: &[SkippedKey], fetched: UnixTime) {
        let held = Arc::new(Held { keys, fetched });
        let before = self.shared.held.swap(Some(Arc::clone(&held)));
        self.deps.metrics.keys_fetched(&self.provider, fetched);
        if before
            .as_ref()
            .is_some_and(|b| held.keys.lost_a_key_of(&b.keys))
        {
            self.epoch.raise();
        }
        let fingerprint = held.keys.fingerprint();
        if before.is_some_and(|b| b.keys.fingerprint() == fingerprint) {
            return;
        }
        let provider = self.provider.as_str();
        info!(
            provider,
            keys = held.keys.len(),
            "The provider's keys are known."
        );
        for key in skipped {
            warn!(provider, %key, "A key of the provider is not used.");
        }
    }

    fn after_failure(&self, error: &ProviderError, failures: u32) -> Duration {
        let own = self.client.backoff(BACKOFF, MAX_BACKOFF, failures);
        if failures == 0 {
            warn!(provider = self.provider.as_str(), reason = %error, "The provider's keys could not be fetched.");
        }
        match error {
            ProviderError::Unavailable {
                retry_after: Some(asked),
                ..
            } => own.max((*asked).min(MAX_RETRY_AFTER)),
            ProviderError::Rejected(_) | ProviderError::Unavailable { .. } => own,
        }
    }

    fn read_copy(&self) {
        let now = self.deps.clock.now();
        let read = self.copy.read(now).and_then(|found| {
            let Some((document, fetched)) = found else {
                return Ok(());
            };
            let (keys, _) =
                KeySet::from_remote(document.as_bytes()).map_err(std::io::Error::other)?;
            self.adopt(keys, &[], fetched);
            Ok(())
        });
        if let Err(cause) = read {
            warn!(provider = self.provider.as_str(), %cause, "The copy of a key set was not read.");
        }
    }
}

/// `max-age` (RFC 9111 §5.2.2.1), between a minute and a day.
fn lifetime(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get_all(header::CACHE_CONTROL).into_iter();
    let seconds = directives
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|directive| {
            let (name, value) = directive.split_once('=')?;
            let is_max_age = name.trim_ascii().eq_ignore_ascii_case("max-age");
            is_max_age.then(|| value.trim_ascii().trim_matches('"').parse().ok())?
        })?;
    Some(Duration::from_secs(seconds).clamp(MIN_REFRESH, MAX_REFRESH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn of(value: &[u8]) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(value).ok()?;
        headers.insert(header::CACHE_CONTROL, value);
        lifetime(&headers)
    }

    #[test]
    fn the_provider_may_choose_between_a_minute_and_a_day() {
        let seconds = Duration::from_secs;
        assert_eq!(of(b"public, Max-Age=3600"), Some(seconds(3_600)));
        assert_eq!(of(b"max-age=\"900\""), Some(seconds(900)));
        assert_eq!(of(b"max-age=0"), Some(MIN_REFRESH));
        assert_eq!(of(b"max-age=18446744073709551615"), Some(MAX_REFRESH));
        for none in [
            "no-cache",
            "max-age",
            "max-age=",
            "max-age=-1",
            "s-maxage=5",
        ] {
            assert_eq!(of(none.as_bytes()), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_header_breaks_the_bounds(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(lifetime) = of(&value) {
                prop_assert!((MIN_REFRESH..=MAX_REFRESH).contains(&lifetime));
            }
        }
    }
}
