//! Results that are kept: bounded, one question at a time for one key, renewed ahead of their end, gone with what they
//! rest on.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::exchange::AskedBy;
use crate::exchange::Token;
use crate::identity::CanonicalSubject;
use crate::identity::CredentialClass;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::SubjectKey;
use crate::providers::ProviderError;
use crate::secret::Secret;

/// How many results one exchange keeps.
const MAX_KEPT: usize = 16_384;

/// How many questions may be under way for one exchange.
const MAX_FLIGHTS: usize = 1_024;

/// How long a refusal is remembered, so that a client in a loop does not put its questions to the target.
const REMEMBER: Duration = Duration::from_secs(5);

/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How soon somebody who has a copy looks whether the renewal has come.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// For how many questions somebody waits: one that was under way may have been asked for another bound.
const QUESTIONS: usize = 2;

/// Everything that a result depends on, beside what its exchange is built of, and how long it may live.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) struct Key {
    pub(super) credential: [u8; 32],
    pub(super) class: CredentialClass,
    pub(super) subject: SubjectKey,
    pub(super) canonical: CanonicalSubject,
    pub(super) provider: ProviderId,
    pub(super) scopes: Box<[Box<str>]>,
    /// All else that is known of the person: a credential whose bytes stay may come to say more, or less.
    pub(super) person: [u8; 32],
    /// The client of ours that asked, with its names: results may say them.
    pub(super) asked_by: Option<Arc<AskedBy>>,
    pub(super) owner_epoch: u64,
    pub(super) target_epoch: u64,
    /// When a result for a client must end; `None`: it is for an upstream, and asked for with the usual scopes.
    pub(super) for_client: Option<UnixTime>,
}

/// How long a result may live. Another application may say less of the same credential, and so may the next configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// When the credential ends here.
    pub(super) ends: UnixTime,
    /// Until when what a provider gives may live by itself; `None`: whoever asked looks at it.
    pub(super) lives_until: Option<UnixTime>,
}

impl Bounds {
    /// Whether somebody may be given it who comes with these.
    fn allow(&self, token: &Token) -> bool {
        let own = token.own_end;
        let within = |most: UnixTime| own == UnixTime::NEVER || own <= most;
        // What we mint ends with the credential, for whoever has it.
        self.lives_until.is_none_or(within) && (!token.minted || own <= self.ends)
    }

    fn cut(&self, mut token: Token) -> Token {
        token.ends = token.ends.min(self.ends);
        token
    }
}

/// How a question was answered: the label `outcome` of `authferry_exchanges_total`, where it was answered well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// From memory.
    Kept,
    /// From memory, while a fresh one is fetched or its target is away.
    Renewing,
    /// The target was asked, or the token was minted.
    Made,
}

/// Whether somebody waits for an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asking {
    /// Yes, and tells how it came out.
    Now,
    /// No: what is kept is renewed ahead of its end.
    Ahead,
}

impl Token {
    /// Until when a copy may be used without asking here again.
    pub(crate) fn kept_until(&self, now: UnixTime) -> UnixTime {
        if now < self.renew {
            self.renew.min(self.ends)
        } else {
            (now + LOOK_AGAIN).min(self.ends)
        }
    }
}

type Answer = Result<Token, ProviderError>;

#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are tokens, and a box would be one more allocation for each"
)]
enum Entry {
    Token {
        token: Token,
        /// No renewal before.
        quiet: UnixTime,
    },
    Refused {
        refusal: Refusal,
        until: UnixTime,
    },
}

impl Entry {
    fn is(&self, token: &Secret<String>) -> bool {
        match self {
            Self::Token { token: kept, .. } => kept.token.matches(token.expose().as_bytes()),
            Self::Refused { .. } => false,
        }
    }
}

/// The results of one exchange. A copy has the same.
#[derive(Clone)]
pub(crate) struct Kept {
    shared: Arc<Shared>,
    background: Handle,
}

struct Shared {
    clock: Arc<dyn Clock>,
    entries: Cache<Key, Entry>,
    flights: Mutex<HashMap<Key, watch::Receiver<Option<Answer>>>>,
}

impl Kept {
    /// Nothing yet. Questions run on `background`.
    pub(super) fn new(background: Handle, clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                entries: Cache::new(MAX_KEPT),
                flights: Mutex::default(),
            }),
            background,
        }
    }

    /// The result for a key: kept, of a question under way, or of `work`. `over`: one that was given back, and is kept no longer.
    pub(super) async fn get<W, F>(
        &self,
        key: Key,
        over: Option<&Secret<String>>,
        bounds: Bounds,
        now: UnixTime,
        work: W,
    ) -> (Outcome, Answer)
    where
        W: FnOnce(Asking) -> F + Send + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        if let Some(over) = over {
            // Only that one: another request may have fetched the next already.
            self.shared.entries.remove_if(&key, |kept| kept.is(over));
        }
        let mut work = Some(work);
        match self.shared.entries.get(&key) {
            Some(Entry::Token { token, quiet }) if now < token.ends && bounds.allow(&token) => {
                if now < token.renew {
                    return (Outcome::Kept, Ok(bounds.cut(token)));
                }
                if quiet <= now {
                    // Whoever comes meanwhile has the token; nobody waits.
                    drop(self.fly(&key, &mut work, Asking::Ahead));
                }
                return (Outcome::Renewing, Ok(bounds.cut(token)));
            }
            Some(Entry::Refused { refusal, until }) if now < until => {
                return (Outcome::Kept, Err(refusal.into()));
            }
            Some(Entry::Token { .. } | Entry::Refused { .. }) | None => {}
        }
        for _ in 0..QUESTIONS {
            let Some(mut answer) = self.fly(&key, &mut work, Asking::Now) else {
                break;
            };
            let answer = match answer.wait_for(Option::is_some).await {
                Ok(answer) => answer.clone(),
                // The question broke off.
                Err(_closed) => None,
            };
            match answer {
                Some(Ok(token)) if bounds.allow(&token) => {
                    return (Outcome::Made, Ok(bounds.cut(token)));
                }
                // Somebody else's, who may have it for longer.
                Some(Ok(_)) => {}
                Some(Err(error)) => return (Outcome::Made, Err(error)),
                None => break,
            }
        }
        (Outcome::Made, Err(Outage::Shed.into()))
    }

    /// The question under way for a key, or a new one. It goes on when the one who asked is gone.
    fn fly<W, F>(
        &self,
        key: &Key,
        work: &mut Option<W>,
        asking: Asking,
    ) -> Option<watch::Receiver<Option<Answer>>>
    where
        W: FnOnce(Asking) -> F + Send + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let mut flights = lock(&self.shared.flights);
        if let Some(flight) = flights.get(key) {
            return Some(flight.clone());
        }
        if MAX_FLIGHTS <= flights.len() {
            return None;
        }
        let work = work.take()?;
        let (sender, receiver) = watch::channel(None);
        flights.insert(key.clone(), receiver.clone());
        drop(flights);
        let landing = Landing {
            shared: Arc::clone(&self.shared),
            key: key.clone(),
        };
        self.background.spawn(async move {
            let answer = work(asking).await;
            landing.shared.keep(&landing.key, &answer);
            drop(landing);
            sender.send_replace(Some(answer));
        });
        Some(receiver)
    }
}

/// Takes a question off the list, also when it broke off.
struct Landing {
    shared: Arc<Shared>,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        lock(&self.shared.flights).remove(&self.key);
    }
}

impl Shared {
    fn keep(&self, key: &Key, answer: &Answer) {
        let now = self.clock.now();
        match answer {
            Ok(token) => {
                let (token, quiet) = (token.clone(), now);
                self.entries
                    .insert(key.clone(), Entry::Token { token, quiet });
            }
            // Final, also for somebody who still has a token: it is not handed on any more.
            Err(ProviderError::Rejected(refusal)) => {
                let (refusal, until) = (*refusal, now + REMEMBER);
                self.entries
                    .insert(key.clone(), Entry::Refused { refusal, until });
            }
            // No judgement: what is kept serves until its own end.
            Err(ProviderError::Unavailable { .. }) => {
                if let Some(Entry::Token { token, .. }) = self.entries.get(key) {
                    let quiet = now + RETRY;
                    self.entries
                        .insert(key.clone(), Entry::Token { token, quiet });
                }
            }
        }
    }
}

/// A map of questions: a panic elsewhere leaves at most one too many.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("entries", &self.shared.entries.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use http::HeaderValue;

    use super::*;
    use crate::clock::ManualClock;
    use crate::identity::Issuer;
    use crate::identity::Subject;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(1_000 + seconds)
    }

    fn key(name: &str) -> Key {
        let subject = SubjectKey {
            issuer: Issuer::new("https://a.test"),
            subject: Subject::try_from(name).unwrap(),
        };
        Key {
            credential: [1; 32],
            class: CredentialClass::Bearer,
            canonical: CanonicalSubject::unjoined(&subject),
            subject,
            provider: ProviderId::new("a"),
            scopes: Box::default(),
            person: [1; 32],
            asked_by: None,
            owner_epoch: 1,
            target_epoch: 1,
            for_client: None,
        }
    }

    fn asked_by(id: &str, issuer: &str, there: Option<&str>) -> Arc<AskedBy> {
        Arc::new(AskedBy {
            id: id.into(),
            issuer: issuer.into(),
            there: there.map(Box::from),
        })
    }

    const BOUNDS: Bounds = Bounds {
        ends: UnixTime::NEVER,
        lives_until: None,
    };

    fn token(text: &'static str) -> Token {
        Token {
            value: HeaderValue::from_static(text),
            token: Secret::new(text.to_owned()),
            minted: false,
            key: None,
            own_end: at(100),
            scopes: Arc::from([]),
            ends: at(100),
            renew: at(75),
            again: at(0),
            about: None,
            bound: None,
        }
    }

    struct World {
        kept: Kept,
        clock: ManualClock,
        asked: Arc<AtomicUsize>,
        ahead: Arc<AtomicUsize>,
    }

    impl World {
        fn new() -> Self {
            let clock = ManualClock::at(at(0));
            Self {
                kept: Kept::new(Handle::current(), Arc::new(clock.clone())),
                clock,
                asked: Arc::default(),
                ahead: Arc::default(),
            }
        }

        async fn get(&self, key: Key, answer: Answer) -> (Outcome, Result<String, ProviderError>) {
            self.within(BOUNDS, key, answer).await
        }

        async fn within(
            &self,
            bounds: Bounds,
            key: Key,
            answer: Answer,
        ) -> (Outcome, Result<String, ProviderError>) {
            let asked = Arc::clone(&self.asked);
            let ahead = Arc::clone(&self.ahead);
            let work = move |asking| async move {
                asked.fetch_add(1, Ordering::SeqCst);
                ahead.fetch_add(usize::from(asking == Asking::Ahead), Ordering::SeqCst);
                tokio::task::yield_now().await;
                answer
            };
            let (outcome, answer) = self
                .kept
                .get(key, None, bounds, self.clock.now(), work)
                .await;
            (
                outcome,
                answer.map(|t| t.value.to_str().unwrap().to_owned()),
            )
        }

        /// Lets a question under way come to its end.
        async fn settle(&self) {
            while !lock(&self.kept.shared.flights).is_empty() {
                tokio::task::yield_now().await;
            }
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    fn down() -> Answer {
        Err(Outage::Connect.into())
    }

    #[tokio::test]
    async fn one_question_at_a_time_for_one_key() {
        let world = World::new();
        let (a, b, c) = tokio::join!(
            world.get(key("a"), Ok(token("1"))),
            world.get(key("a"), Ok(token("2"))),
            world.get(key("b"), Ok(token("3"))),
        );
        assert_eq!(a, (Outcome::Made, Ok("1".into())));
        assert_eq!(b, (Outcome::Made, Ok("1".into())));
        assert_eq!(c, (Outcome::Made, Ok("3".into())));
        assert_eq!(world.asked(), 2);
        let again = world.get(key("a"), Ok(token("4"))).await;
        assert_eq!(again, (Outcome::Kept, Ok("1".into())));
    }

    #[tokio::test]
    async fn one_that_was_given_back_is_kept_no_longer_and_its_successor_is() {
        let world = World::new();
        world.get(key("a"), Ok(token("1"))).await.1.unwrap();
        let over = Secret::new("1".to_owned());
        // Whoever comes late with the old one does not throw away the new one.
        for (fresh, outcome) in [("2", Outcome::Made), ("3", Outcome::Kept)] {
            let work = move |_| async move { Ok(token(fresh)) };
            let now = world.clock.now();
            let (how, answer) = world
                .kept
                .get(key("a"), Some(&over), BOUNDS, now, work)
                .await;
            let value = answer.unwrap().token;
            assert_eq!((how, value.expose().as_str()), (outcome, "2"));
        }
    }

    #[tokio::test]
    async fn every_input_counts() {
        let world = World::new();
        let first = key("a");
        let others = [
            Key {
                credential: [2; 32],
                ..first.clone()
            },
            Key {
                class: CredentialClass::Opaque,
                ..first.clone()
            },
            Key {
                provider: ProviderId::new("b"),
                ..first.clone()
            },
            Key {
                scopes: ["x".into()].into(),
                ..first.clone()
            },
            Key {
                person: [2; 32],
                ..first.clone()
            },
            Key {
                asked_by: Some(asked_by("batch", "https://ferry.test", None)),
                ..first.clone()
            },
            Key {
                asked_by: Some(asked_by("batch", "https://other.test", None)),
                ..first.clone()
            },
            Key {
                asked_by: Some(asked_by("batch", "https://ferry.test", Some("nightly"))),
                ..first.clone()
            },
            Key {
                owner_epoch: 2,
                ..first.clone()
            },
            Key {
                target_epoch: 2,
                ..first.clone()
            },
            Key {
                for_client: Some(at(200)),
                ..first.clone()
            },
            Key {
                for_client: Some(at(300)),
                ..first.clone()
            },
            Key {
                canonical: key("b").canonical,
                ..first.clone()
            },
            Key {
                subject: key("b").subject,
                ..first.clone()
            },
        ];
        let count = others.len();
        world.get(first, Ok(token("1"))).await.1.unwrap();
        for other in others {
            assert_eq!(world.get(other, Ok(token("2"))).await.0, Outcome::Made);
        }
        assert_eq!(world.asked(), count + 1);
    }

    /// The same credential ends earlier for one application, or after a reload, than for another one.
    #[tokio::test]
    async fn a_result_that_may_live_longer_than_the_credential_now_may_is_not_handed_on() {
        let world = World::new();
        let minted = |text, end| {
            Ok(Token {
                minted: true,
                own_end: at(end),
                ends: at(end),
                ..token(text)
            })
        };
        let until = |end| Bounds {
            ends: at(end),
            ..BOUNDS
        };
        // While one is asked for: whoever waits with it has less time.
        let (a, b) = tokio::join!(
            world.within(until(100), key("a"), minted("1", 100)),
            world.within(until(50), key("a"), minted("2", 50)),
        );
        assert_eq!(a, (Outcome::Made, Ok("1".into())));
        assert_eq!(b, (Outcome::Made, Ok("2".into())));
        let again = world.within(until(50), key("a"), minted("3", 50)).await;
        assert_eq!(again, (Outcome::Kept, Ok("2".into())));
        let again = world.within(until(40), key("a"), minted("4", 40)).await;
        assert_eq!(again, (Outcome::Made, Ok("4".into())));

        // A provider's may live longer than it is used, if no longer than the presented token and a little.
        world.get(key("b"), Ok(token("1"))).await.1.unwrap();
        let now = world.clock.now();
        let work = |_| async { down() };
        let kept = world.kept.get(key("b"), None, until(30), now, work).await;
        assert_eq!(kept.1.map(|token| token.ends), Ok(at(30)));
        for (end, outcome) in [(100, Outcome::Kept), (99, Outcome::Made)] {
            let bounds = Bounds {
                lives_until: Some(at(end)),
                ..BOUNDS
            };
            let (how, _) = world.within(bounds, key("b"), down()).await;
            assert_eq!(how, outcome, "{end}");
        }
    }

    #[tokio::test]
    async fn it_is_renewed_ahead_of_its_end_and_nobody_waits() {
        let world = World::new();
        world.get(key("a"), Ok(token("1"))).await.1.unwrap();
        world.clock.set(at(80));
        let fresh = Token {
            ends: at(200),
            renew: at(150),
            ..token("2")
        };
        let (outcome, value) = world.get(key("a"), Ok(fresh)).await;
        assert_eq!((outcome, value), (Outcome::Renewing, Ok("1".into())));
        world.settle().await;
        assert_eq!(
            world.get(key("a"), down()).await,
            (Outcome::Kept, Ok("2".into()))
        );
        assert_eq!(world.asked(), 2);
        assert_eq!(
            world.ahead.load(Ordering::SeqCst),
            1,
            "nobody waited for it"
        );
    }

    #[tokio::test]
    async fn while_the_target_is_away_it_serves_until_its_own_end() {
        let world = World::new();
        world.get(key("a"), Ok(token("1"))).await.1.unwrap();
        world.clock.set(at(80));
        for _ in 0..3 {
            assert_eq!(
                world.get(key("a"), down()).await,
                (Outcome::Renewing, Ok("1".into()))
            );
            world.settle().await;
        }
        assert_eq!(world.asked(), 2, "it is not asked again at once");
        world.clock.set(at(86));
        world.get(key("a"), down()).await.1.unwrap();
        world.settle().await;
        assert_eq!(world.asked(), 3);
        world.clock.set(at(100));
        assert_eq!(
            world.get(key("a"), down()).await.1,
            Err(Outage::Connect.into())
        );
    }

    #[tokio::test]
    async fn a_refusal_of_the_renewal_is_final() {
        let world = World::new();
        world.get(key("a"), Ok(token("1"))).await.1.unwrap();
        world.clock.set(at(80));
        world
            .get(key("a"), Err(Refusal::ExchangeRefused.into()))
            .await
            .1
            .unwrap();
        world.settle().await;
        let refused = Err(ProviderError::from(Refusal::ExchangeRefused));
        assert_eq!(
            world.get(key("a"), Ok(token("2"))).await,
            (Outcome::Kept, refused)
        );
        world.clock.set(at(90));
        assert_eq!(
            world.get(key("a"), Ok(token("2"))).await,
            (Outcome::Made, Ok("2".into()))
        );
    }

    #[tokio::test]
    async fn an_outage_is_not_remembered() {
        let world = World::new();
        assert!(world.get(key("a"), down()).await.1.is_err());
        assert_eq!(
            world.get(key("a"), Ok(token("1"))).await,
            (Outcome::Made, Ok("1".into()))
        );
    }

    #[tokio::test]
    async fn questions_are_bounded() {
        let world = World::new();
        {
            let mut flights = lock(&world.kept.shared.flights);
            for place in 0..MAX_FLIGHTS {
                let (_, receiver) = watch::channel(None);
                flights.insert(key(&format!("p{place}")), receiver);
            }
        }
        assert_eq!(
            world.get(key("a"), Ok(token("1"))).await.1,
            Err(Outage::Shed.into())
        );
        assert_eq!(world.asked(), 0);
    }
}
