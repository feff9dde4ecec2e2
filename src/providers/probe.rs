//! Asks a provider whether it would work, before anybody depends on it: `authferry check --online`.
//!
//! It sends what no client could have been given, so nothing at a provider changes (where answers have no `Date` it has itself given a
//! token, for the time in it); it must never vouch for anybody.

mod clock;
mod login;
mod tokens;

use std::sync::Arc;

use crate::identity::Credential;
use crate::providers::Deps;
use crate::providers::ProviderError;
use crate::providers::build::build;
use crate::providers::client::Client;
use crate::providers::client::Trust;
use crate::providers::settings::KindSettings;
use crate::providers::settings::Settings;
use crate::secret::Secret;

/// What one question showed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    /// What was asked about.
    pub(crate) check: Check,
    /// Our callback that was tried, for [`Check::Callback`].
    pub(crate) callback: Option<Box<str>>,
    /// How it went.
    pub(crate) outcome: Outcome,
}

/// What is asked about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Check {
    /// Its metadata (OpenID Connect Discovery 1.0 §4).
    Discovery,
    /// The keys of its signatures.
    Keys,
    /// Whether it takes us for whom we say.
    Client,
    /// Whether its clock and ours agree.
    Clock,
    /// Whether it refuses a credential that nobody was given.
    Refusal,
    /// Whether it sends a browser back to us.
    Callback,
}

impl Check {
    /// The word for programs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Keys => "keys",
            Self::Client => "client",
            Self::Clock => "clock",
            Self::Refusal => "refusal",
            Self::Callback => "callback",
        }
    }
}

/// How it went, in words for the operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// As it should.
    Good(String),
    /// Not so.
    Failed(String),
    /// It cannot be known.
    Unknown(String),
}

impl Finding {
    /// Whether something is wrong.
    pub(crate) const fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }

    fn of(check: Check, result: Result<impl Into<String>, impl Into<String>>) -> Self {
        let outcome = match result {
            Ok(words) => Outcome::Good(words.into()),
            Err(words) => Outcome::Failed(words.into()),
        };
        Self {
            check,
            callback: None,
            outcome,
        }
    }

    fn unknown(check: Check, words: &str) -> Self {
        Self {
            check,
            callback: None,
            outcome: Outcome::Unknown(words.to_owned()),
        }
    }
}

/// Asks one provider everything that its kind can be asked. `origins` are those of the applications whose people sign in
/// there, such as `https://crm.corp.example`.
pub(crate) async fn probe(settings: &Settings, origins: &[Box<str>], deps: &Deps) -> Vec<Finding> {
    let trust = Trust::of_system();
    let http = match Client::new(settings.id.clone(), settings.client.clone(), &trust, deps) {
        Ok(http) => http,
        Err(cause) => {
            return vec![Finding::of(
                Check::Client,
                Err::<&str, _>(cause.to_string()),
            )];
        }
    };
    let asker = Asker { http, deps };
    match &settings.kind {
        KindSettings::Oidc(oidc) => asker.oidc(oidc, origins).await,
        KindSettings::Jwt(jwt) => asker.jwt(jwt).await,
        KindSettings::Introspection(introspection) => asker.introspection(introspection).await,
        KindSettings::SessionProbe(probe) => {
            let cookie = settings.owns.cookies.first().cloned();
            let value = stranger(deps);
            let credential = cookie.map(|cookie| Credential::Session { cookie, value });
            let mut findings = refusal(settings, credential, deps).await;
            findings.push(asker.clock_of(&probe.url).await);
            findings
        }
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(_) => {
            let mut findings = refusal(settings, Some(nobody(deps)), deps).await;
            let words = "a directory shows none, and no time of its is compared with ours";
            findings.push(Finding::unknown(Check::Clock, words));
            findings
        }
        KindSettings::Basic(_) => refusal(settings, Some(nobody(deps)), deps).await,
        // A certificate that no authority made needs no question: the file has been read.
        KindSettings::ClientCert(_) => refusal(settings, None, deps).await,
        KindSettings::ApiKey(_) => {
            refusal(settings, Some(Credential::ApiKey(stranger(deps))), deps).await
        }
    }
}

/// Who asks.
struct Asker<'a> {
    http: Client,
    deps: &'a Deps,
}

/// What nobody was given.
fn stranger(deps: &Deps) -> Secret<String> {
    Secret::new(deps.entropy.token())
}

/// Nobody's name and password. A name that exists would be a step towards locking somebody out.
fn nobody(deps: &Deps) -> Credential {
    Credential::Basic {
        username: format!("authferry-check-{}", deps.entropy.token()).into(),
        password: stranger(deps),
    }
}

/// Whether a credential that nobody was given is refused, by the code that judges credentials.
async fn refusal(settings: &Settings, credential: Option<Credential>, deps: &Deps) -> Vec<Finding> {
    let Some(credential) = credential else {
        return vec![Finding::unknown(Check::Refusal, "it owns no credential")];
    };
    let settings = settings.clone();
    let (asked, deps) = (settings.id.clone(), deps.clone());
    // Building reads files.
    let building = tokio::task::spawn_blocking({
        let deps = deps.clone();
        move || build(&[settings], None, &deps)
    });
    let built = match building.await {
        Ok(Ok(built)) => built,
        Ok(Err(problems)) => {
            return vec![Finding::of(
                Check::Refusal,
                Err::<&str, _>(problems.to_string()),
            )];
        }
        Err(_) => {
            return vec![Finding::of(
                Check::Refusal,
                Err::<&str, _>("it cannot be built"),
            )];
        }
    };
    let Some(provider) = built.named(&asked).map(Arc::clone) else {
        return vec![Finding::of(
            Check::Refusal,
            Err::<&str, _>("it was not built"),
        )];
    };
    let verdict = provider.authenticate(&credential, deps.clock.now()).await;
    let result = match verdict {
        Err(ProviderError::Rejected(refusal)) => Ok(format!("a stranger is refused ({refusal})")),
        Err(unavailable @ ProviderError::Unavailable { .. }) => {
            let problem = provider.health().problem;
            Err(problem.unwrap_or_else(|| unavailable.to_string()))
        }
        Ok(_) => Err("it vouches for a credential that nobody was given".to_owned()),
    };
    vec![Finding::of(Check::Refusal, result)]
}
