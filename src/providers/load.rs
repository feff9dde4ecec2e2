//! A provider asked about test accounts, so many times a second: measured before people depend on it.
//!
//! It is built anew for this, with connections and bounds of its own: nobody's login waits for it, and no breaker that counts sees
//! what happens here.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio::time::sleep_until;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::Deps;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::build::build;
use crate::providers::settings::KindSettings;
use crate::providers::settings::Settings;
use crate::secret::Secret;

/// A call that begins so much after its time is late: no account was free.
const LATE: Duration = Duration::from_millis(100);
/// Of so many calls half have no answer, and it stops: the provider has had enough.
const ENOUGH: usize = 50;
/// So often it is told that it is too much (429): somebody else may be refused for it.
const TOO_MANY: u64 = 5;
/// Calls under way at once beside those of the accounts: what ends the sessions that logins have begun.
const BESIDE: usize = 4;

/// What a test account presents.
#[derive(Clone, Debug)]
pub(crate) enum TestAccount {
    /// A name and a password.
    Password(Box<str>, Secret<String>),
    /// A token, or the value of a session cookie.
    Token(Secret<String>),
}

/// How often, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rate {
    /// Calls a second.
    pub(crate) rps: u32,
    /// For so long.
    pub(crate) span: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    /// Calls that were to be made.
    pub(crate) due: u64,
    /// Calls that were made.
    pub(crate) sent: u64,
    /// Good answers.
    pub(crate) good: u64,
    /// The others, by what they say: refusals and outages, in their words.
    pub(crate) others: BTreeMap<&'static str, u64>,
    /// Calls without an answer.
    pub(crate) unanswered: u64,
    /// Of those, calls that were too many for the provider.
    pub(crate) too_many: u64,
    /// Calls that began late.
    pub(crate) late: u64,
    /// Whether it was stopped before its time.
    pub(crate) stopped: bool,
    /// When the last call began, from the start.
    pub(crate) last: Duration,
    /// From the start to the last answer.
    pub(crate) took: Duration,
    /// How long each call took, the shortest first.
    pub(crate) times: Vec<Duration>,
}

impl Measured {
    /// How long so many of a hundred calls took at most.
    pub(crate) fn percentile(&self, of_100: usize) -> Option<Duration> {
        let place = (self.times.len() * of_100).div_ceil(100);
        self.times.get(place.checked_sub(1)?).copied()
    }

    /// Answers a second: as many as were asked for, unless calls began later than that or had no answer.
    pub(crate) fn reached(&self, span: Duration) -> f64 {
        let answered = self.sent - self.unanswered;
        answered as f64 / self.last.max(span).as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// A provider for this alone.
#[derive(Debug)]
pub(crate) struct Trial {
    provider: Arc<dyn Provider>,
    clock: Arc<dyn Clock>,
}

impl Trial {
    /// A provider by its settings, without our own bounds.
    ///
    /// # Errors
    ///
    /// Why it cannot be measured, in words.
    pub(crate) fn of(
        settings: &Settings,
        accounts: &[TestAccount],
        deps: &Deps,
    ) -> Result<Self, String> {
        is_asked(settings, accounts)?;
        let mut settings = settings.clone();
        let client = &mut settings.client;
        client.max_inflight = (BESIDE * accounts.len()).max(client.max_inflight);
        client.rps = None;
        client.retries = 0;
        // It stops by its own count.
        client.breaker.min_requests = u32::MAX;
        match &mut settings.kind {
            KindSettings::Oidc(oidc) => {
                if let Some(introspect) = &mut oidc.introspect {
                    introspect.stale = None;
                }
            }
            KindSettings::Introspection(introspection) => introspection.stale = None,
            KindSettings::SessionProbe(probe) => probe.stale = None,
            KindSettings::Jwt(_)
            | KindSettings::Basic(_)
            | KindSettings::ApiKey(_)
            | KindSettings::ClientCert(_) => {}
            #[cfg(feature = "ldap")]
            KindSettings::Ldap(_) => {}
        }
        let id = settings.id.clone();
        let built = build(&[settings], None, deps).map_err(|problems| problems.to_string())?;
        let provider = built.named(&id).map(Arc::clone);
        Ok(Self {
            provider: provider.ok_or_else(|| format!("`{id}` cannot be built"))?,
            clock: Arc::clone(&deps.clock),
        })
    }

    /// What the provider says of one account.
    ///
    /// # Errors
    ///
    /// As [`Provider::authenticate`].
    pub(crate) async fn ask(&self, account: &TestAccount) -> Result<Authenticated, ProviderError> {
        let (provider, now) = (&self.provider, self.clock.now());
        let owns = provider.owns();
        let credential = match account {
            TestAccount::Password(username, password) if owns.basic => Credential::Basic {
                username: username.clone(),
                password: password.clone(),
            },
            TestAccount::Password(username, password) => {
                return self.by_password(username, password, now).await;
            }
            TestAccount::Token(token) => match (owns.cookies.first(), &owns.opaque) {
                (Some(cookie), _) => Credential::Session {
                    cookie: cookie.clone(),
                    value: token.clone(),
                },
                (None, Some(_)) => Credential::Opaque(token.clone()),
                (None, None) => Credential::Bearer(token.clone()),
            },
        };
        provider.authenticate(&credential, now).await
    }

    async fn by_password(
        &self,
        username: &str,
        password: &Secret<String>,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let judge = self.provider.password_judge().ok_or(Refusal::Unsupported)?;
        judge.check(username, password, now).await
    }

    /// Asks about the accounts in turn, at most once at a time about each.
    pub(crate) async fn run(&self, accounts: &[TestAccount], rate: Rate) -> Measured {
        let millis = u64::try_from(rate.span.as_millis()).unwrap_or(u64::MAX);
        let due = u64::from(rate.rps).saturating_mul(millis) / 1_000;
        let course = Course {
            due,
            step: Duration::from_secs(1) / rate.rps.max(1),
            began: Instant::now(),
            state: Mutex::default(),
        };
        let workers = accounts.iter().map(|account| self.work(&course, account));
        join_all(workers).await;
        let took = course.began.elapsed();
        let mut measured = std::mem::take(&mut course.state().measured);
        measured.times.sort_unstable();
        Measured {
            due,
            took,
            ..measured
        }
    }

    async fn work(&self, course: &Course, account: &TestAccount) {
        while let Some(at) = course.next() {
            sleep_until(at).await;
            if course.state().measured.stopped {
                return;
            }
            let began = Instant::now();
            let answer = self.ask(account).await;
            let late = LATE < began.saturating_duration_since(at);
            course.ended(&answer.map(|_| ()), began, late);
        }
    }
}

/// One measurement under way.
struct Course {
    due: u64,
    step: Duration,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// The last calls, and whether there was an answer.
    last: VecDeque<bool>,
    measured: Measured,
}

impl Course {
    /// When the next call is due; `None`: it is over.
    fn next(&self) -> Option<Instant> {
        let mut state = self.state();
        if self.due <= state.next || state.measured.stopped {
            return None;
        }
        let place = u32::try_from(state.next).ok()?;
        state.next += 1;
        Some(self.began + self.step * place)
    }

    fn ended(&self, answer: &Result<(), ProviderError>, began: Instant, late: bool) {
        let mut state = self.state();
        let own = &mut state.measured;
        own.sent += 1;
        own.late += u64::from(late);
        own.last = own.last.max(began.saturating_duration_since(self.began));
        own.times.push(began.elapsed());
        let answered = match answer {
            Ok(()) => {
                own.good += 1;
                true
            }
            Err(ProviderError::Rejected(refusal)) => {
                *own.others.entry(refusal.as_str()).or_default() += 1;
                true
            }
            Err(ProviderError::Unavailable { outage, .. }) => {
                *own.others.entry(outage.as_str()).or_default() += 1;
                own.unanswered += 1;
                own.too_many += u64::from(*outage == Outage::RateLimited);
                false
            }
        };
        if state.last.len() == ENOUGH {
            state.last.pop_front();
        }
        state.last.push_back(answered);
        let without = state.last.iter().filter(|answered| !**answered).count();
        let tired = state.last.len() == ENOUGH && ENOUGH <= 2 * without;
        if tired || TOO_MANY <= state.measured.too_many {
            state.measured.stopped = true;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether such accounts reach the provider at all: what is judged here measures nothing there.
fn is_asked(settings: &Settings, accounts: &[TestAccount]) -> Result<(), String> {
    let passwords = accounts
        .iter()
        .any(|account| matches!(account, TestAccount::Password(..)));
    let tokens = accounts
        .iter()
        .any(|account| matches!(account, TestAccount::Token(_)));
    let id = &settings.id;
    let (takes_passwords, takes_tokens) = match &settings.kind {
        KindSettings::Oidc(oidc) => (oidc.client.is_some(), oidc.introspect.is_some()),
        KindSettings::Introspection(_) => (false, true),
        KindSettings::SessionProbe(_) => (settings.owns.basic, true),
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(_) => (true, false),
        KindSettings::Jwt(_)
        | KindSettings::Basic(_)
        | KindSettings::ApiKey(_)
        | KindSettings::ClientCert(_) => (false, false),
    };
    match (passwords, tokens) {
        (false, false) => Err(String::from("no test account is given")),
        (true, _) if !takes_passwords => Err(format!(
            "no password is judged at `{id}`: nothing there would be measured"
        )),
        (_, true) if !takes_tokens => Err(format!(
            "tokens of `{id}` are judged here: nothing there would be measured"
        )),
        (true | false, true | false) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::providers::fake::Reply;
    use crate::providers::fixture::Idp;
    use crate::providers::fixture::TOKEN;

    fn ann() -> TestAccount {
        TestAccount::Password("ann".into(), Secret::new(String::from("right")))
    }

    const fn rate(rps: u32, millis: u64) -> Rate {
        Rate {
            rps,
            span: Duration::from_millis(millis),
        }
    }

    #[tokio::test]
    async fn what_is_judged_here_measures_nothing() {
        let (idp, deps) = (Idp::start().await, Deps::for_test());
        let why = |accounts: &[TestAccount]| {
            let trial = Trial::of(&idp.oidc(), accounts, &deps);
            trial.err().unwrap_or_default()
        };
        let token = TestAccount::Token(Secret::new("x".to_owned()));
        assert!(why(&[token]).contains("are judged here"));
        assert!(why(&[]).contains("no test account"));
        assert_eq!(why(&[ann()]), "");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_provider_that_says_too_many_is_stopped_asking_and_its_answers_are_told_apart() {
        let idp = Idp::start().await;
        idp.fake.always(TOKEN, Reply::text(429, "{}"));
        let deps = Deps::for_test();
        let trial = Trial::of(&idp.oidc(), &[ann()], &deps).unwrap();
        let accounts = vec![ann(); 8];
        let measured = trial.run(&accounts, rate(1_000, 60_000)).await;
        assert!(measured.stopped, "{measured:?}");
        // The fifth 429 ends it; no more than one call of each account is under way then.
        assert!((5..=13).contains(&measured.sent), "{}", measured.sent);
        assert_eq!(
            measured.others.get("rate_limited"),
            Some(&measured.too_many)
        );
        assert_eq!((measured.good, measured.due), (0, 60_000));
        assert_eq!(measured.unanswered, measured.sent);
        assert!(measured.reached(Duration::from_secs(60)) < 0.1);
        // A refusal is an answer.
        let wrong = json!({ "error": "invalid_grant" }).to_string();
        idp.fake.always(TOKEN, Reply::text(400, &wrong));
        let measured = trial.run(&accounts, rate(100, 100)).await;
        assert_eq!((measured.sent, measured.unanswered), (10, 0));
        assert_eq!(measured.others.values().sum::<u64>(), 10);
    }

    #[test]
    fn percentiles_are_of_calls_that_were_made() {
        let times = (1..=200).map(Duration::from_millis).collect();
        let measured = Measured {
            times,
            ..Measured::default()
        };
        let of = |of_100| measured.percentile(of_100).unwrap().as_millis();
        assert_eq!((of(50), of(90), of(99), of(100)), (100, 180, 198, 200));
        assert_eq!(Measured::default().percentile(99), None);
    }
}
