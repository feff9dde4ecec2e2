//! What an exercise was told: all that it needs, and nothing that says nothing to it.

use std::time::Duration;

use crate::admin::DrillAccount;
use crate::admin::DrillRequest;
use crate::config::settings::Settings;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::providers::Rate;
use crate::providers::TestAccount;
use crate::providers::settings::KindSettings;
use crate::rollout::AppId;
use crate::rollout::Cohort;
use crate::rollout::CohortId;
use crate::rollout::Course;
use crate::rollout::Drill;
use crate::rollout::Exercise;
use crate::rollout::Facts;
use crate::rollout::Hearsay;
use crate::rollout::Needs;
use crate::rollout::Person;
use crate::rollout::Phase;
use crate::secret::Secret;

/// The longest that people meet one.
const LONGEST: Duration = Duration::from_hours(1);
/// The longest that a provider is asked about test accounts.
const LONGEST_LOAD: Duration = Duration::from_mins(10);
/// Calls a second at most.
const MOST_RPS: u32 = 500;
/// Test accounts at most.
const MOST_ACCOUNTS: usize = 200;
/// A provider that takes longer is tried by being away.
const SLOWEST: Duration = Duration::from_secs(30);
/// What is too slow where nothing is said.
const P99: Duration = Duration::from_secs(1);

/// All that an exercise needs to know.
pub(super) enum Told {
    Nothing,
    People(CohortId, Duration),
    Tokens(Vec<TestAccount>),
    Load(Vec<TestAccount>, Rate, Duration),
    Subject(Box<str>),
}

/// What is asked for, with the size that it has.
///
/// # Errors
///
/// Why it is none, in words.
pub(super) fn exercise(wanted: &DrillRequest) -> Result<Exercise, String> {
    let mut exercise = Exercise::named(&wanted.name).ok_or_else(|| {
        let words = Drill::ALL.map(Drill::as_str).join(", ");
        format!("`{}` is no exercise: {words}; `slow:2s`, `clock-skew:90s` and `provider-load:50` have a size", wanted.name)
    })?;
    let usual = match exercise.drill {
        Drill::Slow => Some(2_000),
        Drill::ClockSkew => Some(90),
        Drill::ProviderLoad => wanted.rps.map(u64::from),
        Drill::ModernOutage
        | Drill::LegacyOutage
        | Drill::RateLimited
        | Drill::IntrospectionGarbage
        | Drill::KeysGone
        | Drill::Rollback
        | Drill::JwksRotation
        | Drill::BadTokenFormat
        | Drill::CredentialLeak => None,
    };
    if exercise.size.is_some() && exercise.drill == Drill::ProviderLoad && wanted.rps.is_some() {
        return Err(String::from("how many calls a second is said twice"));
    }
    exercise.size = exercise.size.or(usual);
    if exercise.drill == Drill::Slow && exercise.size > Some(SLOWEST.as_millis() as u64) {
        return Err(format!("at most {} s slower", SLOWEST.as_secs()));
    }
    Ok(exercise)
}

/// The provider that it is about.
///
/// # Errors
///
/// When there is no choice, or no such provider.
pub(super) fn provider(
    settings: &Settings,
    course: &Course,
    exercise: Exercise,
    wanted: &DrillRequest,
) -> Result<ProviderId, String> {
    let (choice, usual) = match exercise.drill {
        Drill::LegacyOutage => (false, &course.from),
        Drill::ModernOutage | Drill::Rollback | Drill::CredentialLeak => (false, &course.to),
        Drill::Slow
        | Drill::RateLimited
        | Drill::IntrospectionGarbage
        | Drill::KeysGone
        | Drill::JwksRotation
        | Drill::BadTokenFormat
        | Drill::ClockSkew
        | Drill::ProviderLoad => (true, &course.to),
    };
    let provider = match &wanted.provider {
        None => usual,
        Some(_) if !choice => return Err(String::from("no provider is chosen here")),
        Some(name) => [&course.from, &course.to]
            .into_iter()
            .find(|side| side.as_str() == name)
            .ok_or_else(|| format!("`{name}` is no side of {}", course.id))?,
    };
    let named = settings.providers.iter().find(|one| one.id == *provider);
    let kind = named.map(|one| &one.kind);
    let (is_asked, has_keys) = match kind {
        Some(KindSettings::Oidc(oidc)) => (oidc.introspect.is_some(), true),
        Some(KindSettings::Introspection(_) | KindSettings::SessionProbe(_)) => (true, false),
        Some(KindSettings::Jwt(_)) => (false, true),
        #[cfg(feature = "ldap")]
        Some(KindSettings::Ldap(_)) => (false, false),
        Some(KindSettings::Basic(_) | KindSettings::ApiKey(_) | KindSettings::ClientCert(_))
        | None => (false, false),
    };
    match exercise.drill {
        Drill::IntrospectionGarbage if !is_asked => {
            Err(format!("`{provider}` is not asked about credentials"))
        }
        Drill::KeysGone if !has_keys => Err(format!("`{provider}` has no keys")),
        _ => Ok(provider.clone()),
    }
}

/// What a provider answers in an exercise that lets nobody through.
pub(super) const fn outage(drill: Drill) -> Outage {
    match drill {
        Drill::RateLimited => Outage::RateLimited,
        Drill::IntrospectionGarbage => Outage::Malformed,
        Drill::KeysGone => Outage::KeysUnavailable,
        Drill::ModernOutage
        | Drill::LegacyOutage
        | Drill::Slow
        | Drill::Rollback
        | Drill::JwksRotation
        | Drill::BadTokenFormat
        | Drill::ClockSkew
        | Drill::CredentialLeak
        | Drill::ProviderLoad => Outage::Connect,
    }
}

/// What it needs to know.
///
/// # Errors
///
/// What is missing, or too much, in words.
pub(super) fn told(
    settings: &Settings,
    exercise: Exercise,
    wanted: &DrillRequest,
) -> Result<Told, String> {
    let needs = exercise.drill.needs();
    let said = [
        (wanted.cohort.is_some(), "a cohort", needs == Needs::People),
        (
            wanted.seconds.is_some(),
            "a time",
            matches!(needs, Needs::People | Needs::Accounts),
        ),
        (
            wanted.subject.is_some(),
            "a subject",
            needs == Needs::Subject,
        ),
        (wanted.rps.is_some(), "a rate", needs == Needs::Accounts),
        (
            wanted.p99_millis.is_some(),
            "a longest time",
            needs == Needs::Accounts,
        ),
        (
            !wanted.accounts.is_empty(),
            "test accounts",
            matches!(needs, Needs::Tokens | Needs::Accounts),
        ),
    ];
    if let Some((_, what, _)) = said.iter().find(|(given, _, wants)| *given && !*wants) {
        return Err(format!(
            "{what} says nothing to `{}`",
            exercise.drill.as_str()
        ));
    }
    let span = |longest: Duration| {
        let span = wanted.seconds.map(Duration::from_secs);
        let span = span.ok_or_else(|| String::from("say for how long"))?;
        if span.is_zero() || longest < span {
            return Err(format!("from one second to {} s", longest.as_secs()));
        }
        Ok(span)
    };
    match needs {
        Needs::Nothing => Ok(Told::Nothing),
        Needs::People => {
            let cohort = wanted.cohort.as_deref();
            let cohort = CohortId::new(cohort.ok_or("say for whom and for how long")?);
            let Some(known) = settings.cohorts.get(&cohort) else {
                return Err(format!("there is no cohort `{}`", cohort.as_str()));
            };
            if exercise.drill == Drill::Rollback && known.phase() == Phase::After {
                return Err(format!(
                    "who is in `{}` is known after a sign-in only: nobody would meet it; take one of addresses, paths or cookies",
                    cohort.as_str()
                ));
            }
            Ok(Told::People(cohort, span(LONGEST)?))
        }
        Needs::Tokens => {
            let accounts = accounts(&wanted.accounts)?;
            if accounts
                .iter()
                .any(|account| matches!(account, TestAccount::Password(..)))
            {
                return Err(String::from("tokens of test accounts, and no passwords"));
            }
            Ok(Told::Tokens(accounts))
        }
        Needs::Accounts => {
            testers(settings)?;
            let rps = exercise.size.and_then(|size| u32::try_from(size).ok());
            let rps = rps.ok_or("say how many calls a second")?;
            if MOST_RPS < rps {
                return Err(format!("at most {MOST_RPS} calls a second"));
            }
            let span = span(LONGEST_LOAD)?;
            let p99 = wanted.p99_millis.map_or(P99, Duration::from_millis);
            Ok(Told::Load(
                accounts(&wanted.accounts)?,
                Rate { rps, span },
                p99,
            ))
        }
        Needs::Subject => {
            testers(settings)?;
            let subject = wanted.subject.as_deref().map(str::trim).unwrap_or_default();
            if subject.is_empty() {
                return Err(String::from(
                    "say whose credentials leak: a test account's, who is signed in",
                ));
            }
            Ok(Told::Subject(subject.into()))
        }
    }
}

/// The people whom exercises may touch.
///
/// # Errors
///
/// When nobody is said to be one.
pub(super) fn testers(settings: &Settings) -> Result<&Cohort, String> {
    let named = settings.test_accounts.as_ref();
    let cohort = named.and_then(|id| settings.cohorts.get(id));
    cohort.ok_or_else(|| {
        String::from(
            "nobody is a test account: `drills: { test_accounts: COHORT }` in the file says who is",
        )
    })
}

/// Whether somebody is one of them, as far as it is known.
pub(super) fn is_tester(
    settings: &Settings,
    app: &AppId,
    (canonical, identity): (&CanonicalSubject, &Identity),
) -> bool {
    let facts = Facts {
        app,
        host: "",
        path: "/",
        method: "GET",
        client_ip: None,
        peer: None,
        fields: None,
        device: None,
        hearsay: Hearsay::default(),
        person: Some(Person {
            canonical,
            identity,
        }),
    };
    testers(settings).is_ok_and(|cohort| cohort.contains(&facts) == Some(true))
}

fn accounts(given: &[DrillAccount]) -> Result<Vec<TestAccount>, String> {
    if given.is_empty() {
        return Err(String::from(
            "test accounts are needed: nobody else's credentials are used for this",
        ));
    }
    if MOST_ACCOUNTS < given.len() {
        return Err(format!("at most {MOST_ACCOUNTS} test accounts"));
    }
    let one = |(place, account): (usize, &DrillAccount)| {
        let DrillAccount {
            username,
            password,
            token,
        } = account;
        match (username.as_str(), password.as_str(), token.as_str()) {
            ("", "", token) if !token.is_empty() => {
                Ok(TestAccount::Token(Secret::new(token.to_owned())))
            }
            (username, password, "") if !username.is_empty() && !password.is_empty() => {
                let password = Secret::new(password.to_owned());
                Ok(TestAccount::Password(username.into(), password))
            }
            _ => Err(format!(
                "test account {}: a name and a password, or a token",
                place + 1
            )),
        }
    };
    given.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str) -> DrillRequest {
        DrillRequest {
            name: name.to_owned(),
            ..DrillRequest::default()
        }
    }

    #[test]
    fn a_size_is_usual_or_said_once() {
        let of = |name: &str| exercise(&wanted(name)).map(|own| own.to_string());
        assert_eq!(of("slow").as_deref(), Ok("slow:2s"));
        assert_eq!(of("clock-skew").as_deref(), Ok("clock-skew:90s"));
        assert_eq!(of("provider-load:9").as_deref(), Ok("provider-load:9"));
        assert!(of("slow:31s").is_err() && of("fast").is_err());
        let twice = DrillRequest {
            rps: Some(9),
            ..wanted("provider-load:9")
        };
        assert!(exercise(&twice).is_err());
    }

    #[test]
    fn accounts_are_given_and_nothing_of_them_is_printed() {
        let account = |username: &str, password: &str, token: &str| DrillAccount {
            username: username.into(),
            password: password.into(),
            token: token.into(),
        };
        assert!(accounts(&[]).unwrap_err().contains("are needed"));
        for bad in [
            account("a", "", ""),
            account("", "b", ""),
            account("", "", ""),
            account("a", "hunter2", "c"),
        ] {
            let why = accounts(&[account("a", "b", ""), bad]).unwrap_err();
            assert!(why.starts_with("test account 2:"), "{why}");
        }
        let good = [account("ann", "hunter2", ""), account("", "", "hunter2")];
        assert_eq!(accounts(&good).unwrap().len(), 2);
        let printed = format!("{good:?} {:?}", accounts(&good).unwrap());
        assert!(!printed.contains("hunter2"), "{printed}");
        let many = vec![account("ann", "x", ""); MOST_ACCOUNTS + 1];
        assert!(accounts(&many).unwrap_err().contains("at most"));
    }
}
