//! Good answers of an owner that is asked about each credential, for the time in which it cannot be reached.
//!
//! Only an owner that is not there leaves an earlier yes in force: its no is final, and an answer that is none may be one.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use aws_lc_rs::digest;
use quick_cache::sync::Cache;
use tracing::debug;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::providers::Authenticated;
use crate::providers::ProviderError;
use crate::telemetry::Metrics;

/// How many answers are remembered: 16 384. One more forgets another.
const REMEMBERED: usize = 16_384;

/// Places in which it is noted when an owner said no last: 4 096. Credentials that share one forget a yes too many.
const NOES: usize = 4_096;

/// How long such a verdict is kept: then the owner is asked again.
const AGAIN: Duration = Duration::from_secs(5);

/// What a credential is remembered by: a digest, and no live credential in memory.
type Key = [u8; 32];

/// The good answers of one provider.
pub(super) struct Stale {
    provider: ProviderId,
    window: Duration,
    /// `None`: it ended here; no later yes outlives the owner's presence.
    kept: Cache<Key, Option<Authenticated>>,
    said: Mutex<Said>,
    metrics: Arc<Metrics>,
}

/// What was asked and refused, in its order: answers may come in another one.
struct Said {
    /// How many questions have been asked.
    asked: u64,
    /// How many had been when a credential of this place was refused last.
    noes: Box<[u64]>,
}

impl Said {
    /// The place of a credential.
    fn no(&mut self, key: &Key) -> Option<&mut u64> {
        let [first, second, ..] = key;
        let place = usize::from(u16::from_be_bytes([*first, *second])) % NOES;
        self.noes.get_mut(place)
    }
}

/// One question to the owner: what it says counts from here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question(u64);

impl std::fmt::Debug for Stale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stale")
            .field("kept", &self.kept.len())
            .finish_non_exhaustive()
    }
}

impl Stale {
    /// Answers that count for so long after the time for which they are kept; `None`: none does.
    pub(super) fn new(
        window: Option<Duration>,
        provider: &ProviderId,
        metrics: &Arc<Metrics>,
    ) -> Option<Self> {
        Some(Self {
            provider: provider.clone(),
            window: window?,
            kept: Cache::new(REMEMBERED),
            said: Mutex::new(Said {
                asked: 0,
                noes: vec![0; NOES].into(),
            }),
            metrics: Arc::clone(metrics),
        })
    }

    /// Before the owner is asked.
    pub(super) fn asks(&self) -> Question {
        let mut said = self.said();
        said.asked += 1;
        Question(said.asked)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What holds of a credential, now that the owner has said this of it, or nothing.
    ///
    /// # Errors
    ///
    /// As the answer, unless the owner cannot be reached and has vouched for the credential within the window.
    pub(super) fn settle(
        &self,
        question: Question,
        (slot, credential): (&str, &str),
        answer: Result<Authenticated, ProviderError>,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let key = key(slot, credential);
        match &answer {
            Ok(proof) => {
                // One that was under way when another question was refused may be older than the no.
                let mut said = self.said();
                let newer = said.no(&key).is_some_and(|no| *no < question.0);
                if newer && self.kept.get(&key).is_none_or(|known| known.is_some()) {
                    self.kept.insert(key, Some(proof.clone()));
                }
                drop(said);
                answer
            }
            Err(ProviderError::Rejected(_)) => {
                self.drop_yes(&key);
                answer
            }
            // It may be a sign-in form in the place of a no: from here on no earlier yes counts.
            Err(ProviderError::Unavailable {
                outage: Outage::Malformed,
                ..
            }) => {
                self.drop_yes(&key);
                answer
            }
            Err(ProviderError::Unavailable { outage, .. }) => {
                let known = self.kept.get(&key).flatten();
                let Some(known) = known.filter(|_| is_away(*outage)) else {
                    return answer;
                };
                let until = (known.expires() + self.window).min(known.life_ends());
                if until <= now {
                    self.kept.remove(&key);
                    return answer;
                }
                debug!(provider = %self.provider, %outage, "An earlier answer counts: the owner cannot be reached.");
                self.metrics.stale_verdict(&self.provider);
                Ok(known.kept_until((now + AGAIN).min(until)).remembered())
            }
        }
    }

    /// Forgets a yes; that it has ended here stays known.
    fn drop_yes(&self, key: &Key) {
        let mut said = self.said();
        let asked = said.asked;
        if let Some(no) = said.no(key) {
            *no = asked;
        }
        if self.kept.get(key).flatten().is_some() {
            self.kept.remove(key);
        }
    }

    /// It has ended here.
    pub(super) fn end(&self, slot: &str, credential: &str) {
        let said = self.said();
        self.kept.insert(key(slot, credential), None);
        drop(said);
    }
}

/// Whether nobody was there. Our own lack of room says nothing of the owner, 429 says that it is there, and a page in the
/// place of an answer may be a sign-in form, which is a no.
const fn is_away(outage: Outage) -> bool {
    match outage {
        Outage::Connect | Outage::Tls | Outage::Timeout | Outage::Http5xx | Outage::CircuitOpen => {
            true
        }
        Outage::RateLimited
        | Outage::KeysUnavailable
        | Outage::Malformed
        | Outage::Shed
        | Outage::TooSoon => false,
    }
}

/// Every part with its length, so that no two credentials meet.
fn key(slot: &str, credential: &str) -> Key {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [slot, credential] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut key = Key::default();
    key.copy_from_slice(context.finish().as_ref());
    key
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::identity::ClaimMap;
    use crate::identity::Issuer;
    use crate::identity::Refusal;
    use crate::providers::Deps;
    use crate::providers::Owns;
    use crate::providers::fixture::NOW;
    use crate::providers::fixture::settings;
    use crate::providers::settings::ApiKey;
    use crate::providers::settings::KindSettings;
    use crate::providers::vouch::Voucher;

    const CACHE: Duration = Duration::from_secs(30);
    const WINDOW: Duration = Duration::from_secs(60);

    fn stale() -> (Stale, Arc<Metrics>) {
        let metrics = Deps::for_test().metrics;
        let stale = Stale::new(Some(WINDOW), &ProviderId::new("old"), &metrics).unwrap();
        (stale, metrics)
    }

    fn settle(
        stale: &Stale,
        credential: (&str, &str),
        answer: Result<Authenticated, ProviderError>,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        stale.settle(stale.asks(), credential, answer, now)
    }

    fn yes(now: UnixTime, ends: UnixTime) -> Result<Authenticated, ProviderError> {
        let kind = KindSettings::ApiKey(ApiKey {
            issuer: Issuer::new("urn:old"),
            file: "/nonexistent".into(),
        });
        let settings = settings("old", Owns::default(), kind);
        let voucher = Voucher::new(&settings, &Issuer::new("urn:old"));
        let kept = (now + CACHE).min(ends);
        let proof = voucher.vouch("1001", &ClaimMap::new(Map::new()), kept)?;
        Ok(proof.of_credential_until(ends))
    }

    const AWAY: [Outage; 5] = [
        Outage::Connect,
        Outage::Tls,
        Outage::Timeout,
        Outage::Http5xx,
        Outage::CircuitOpen,
    ];

    #[tokio::test]
    async fn a_yes_counts_while_the_owner_is_away_and_no_longer_than_said() {
        let (stale, metrics) = stale();
        settle(&stale, ("S", "a"), yes(NOW, UnixTime::NEVER), NOW).unwrap();
        let last = NOW + CACHE + WINDOW - Duration::from_millis(1);
        for outage in AWAY {
            let proof = settle(&stale, ("S", "a"), Err(outage.into()), last).unwrap();
            assert_eq!(proof.expires(), NOW + CACHE + WINDOW, "{outage}");
        }
        let soon = NOW + CACHE + Duration::from_secs(1);
        let proof = settle(&stale, ("S", "a"), Err(Outage::Connect.into()), soon).unwrap();
        assert_eq!(proof.expires(), soon + AGAIN, "the owner is asked again");
        let counted = metrics.render().unwrap();
        assert!(
            counted.contains("authferry_stale_verdicts_total{provider=\"old\"} 6"),
            "{counted}"
        );
        for outage in [Outage::Malformed, Outage::RateLimited, Outage::Shed] {
            let said = settle(&stale, ("S", "a"), Err(outage.into()), soon);
            assert_eq!(said.unwrap_err(), outage.into());
        }
        let over = settle(
            &stale,
            ("S", "a"),
            Err(Outage::Connect.into()),
            NOW + CACHE + WINDOW,
        );
        assert_eq!(over.unwrap_err(), Outage::Connect.into());
    }

    #[tokio::test]
    async fn it_is_of_one_credential_and_never_outlives_it() {
        let (stale, _) = stale();
        let ends = NOW + CACHE + Duration::from_secs(7);
        settle(&stale, ("S", "ab"), yes(NOW, ends), NOW).unwrap();
        let away = |slot: &str, credential: &str, now| {
            settle(&stale, (slot, credential), Err(Outage::Timeout.into()), now)
        };
        assert!(away("Sa", "b", NOW).is_err());
        assert!(away("S", "a", NOW).is_err());
        let last = ends - Duration::from_millis(1);
        assert_eq!(away("S", "ab", last).unwrap().expires(), ends);
        assert!(away("S", "ab", ends).is_err());
    }

    #[tokio::test]
    async fn what_was_refused_or_ended_counts_no_more() {
        let (stale, _) = stale();
        let away =
            |credential: &str| settle(&stale, ("S", credential), Err(Outage::Connect.into()), NOW);
        let said_yes = |credential: &str| {
            drop(settle(
                &stale,
                ("S", credential),
                yes(NOW, UnixTime::NEVER),
                NOW,
            ));
        };
        said_yes("a");
        let no = settle(&stale, ("S", "a"), Err(Refusal::Inactive.into()), NOW);
        assert_eq!(no.unwrap_err(), Refusal::Inactive.into());
        assert!(away("a").is_err());
        said_yes("a");
        assert!(away("a").is_ok(), "the owner knows it again");

        said_yes("b");
        stale.end("S", "b");
        assert!(away("b").is_err());
        // An answer that was under way when it ended.
        said_yes("b");
        assert!(away("b").is_err());
    }

    #[tokio::test]
    async fn a_yes_that_comes_after_a_later_no_is_not_remembered() {
        let (stale, _) = stale();
        let yes = || yes(NOW, UnixTime::NEVER);
        let says = |question, credential: &'static str, answer| {
            drop(stale.settle(question, ("S", credential), answer, NOW));
        };
        let away = |credential: &'static str| {
            settle(&stale, ("S", credential), Err(Outage::Connect.into()), NOW)
        };
        for no in [Refusal::Inactive.into(), Outage::Malformed.into()] {
            // Two requests of one second, and a sign-out between their answers.
            let (first, second) = (stale.asks(), stale.asks());
            says(second, "a", Err(no));
            says(first, "a", yes());
            assert!(away("a").is_err());
            // What was asked before the no came may be older than it, whoever was asked first.
            let third = stale.asks();
            says(second, "b", Err(Refusal::Inactive.into()));
            says(third, "b", yes());
            assert!(away("b").is_err());
            says(stale.asks(), "a", yes());
            assert!(away("a").is_ok(), "it is known again");
        }
    }

    #[tokio::test]
    async fn without_a_window_nothing_is_kept() {
        let deps = Deps::for_test();
        assert!(Stale::new(None, &ProviderId::new("old"), &deps.metrics).is_none());
    }
}
