//! Identity providers, old and new; all I/O to them.
//!
//! A credential is judged only by the provider that owns it. Only this module can make [`Authenticated`]. It must never
//! ask a second provider about a credential, and never turn a refusal into an outage or the other way round.

mod abilities;
mod api_key;
mod authenticated;
mod basic;
mod bearer;
mod build;
mod client;
mod client_cert;
#[cfg(test)]
mod contract;
mod directory;
mod entries;
#[cfg(test)]
mod example;
#[cfg(test)]
mod fake;
mod fingerprint;
#[cfg(test)]
mod fixture;
mod flight;
mod forged;
mod health;
mod introspection;
mod jwt;
mod keys;
#[cfg(feature = "ldap")]
mod ldap;
mod load;
mod login;
mod oauth;
mod oidc;
mod own;
pub(crate) mod probe;
#[cfg(any(test, fuzzing))]
pub(crate) mod promises;
mod provisioning;
mod session_probe;
pub(crate) mod settings;
mod stale;
mod vouch;
mod watched;

pub(crate) use abilities::Ability;
pub(crate) use authenticated::Authenticated;
pub(crate) use build::Deps;
pub(crate) use build::build;
pub(crate) use directory::Directory;
pub(crate) use directory::Known;
pub(crate) use directory::PLACE;
#[cfg(test)]
pub(crate) use directory::Shut;
pub(crate) use keys::copied;
pub(crate) use load::Measured;
pub(crate) use load::Rate;
pub(crate) use load::TestAccount;
pub(crate) use load::Trial;
pub(crate) use login::BackChannel;
pub(crate) use login::LoggedIn;
pub(crate) use login::Login;
pub(crate) use login::LoginAnswer;
pub(crate) use login::LoginStart;
pub(crate) use login::Prompt;
pub(crate) use login::Refreshed;
pub(crate) use login::StepUp;
pub(crate) use oauth::Grant;
pub(crate) use oauth::Issued;
pub(crate) use oauth::Polled;
pub(crate) use oauth::TokenClient;
pub(crate) use oauth::Wanted;
pub(crate) use own::OwnKeys;
pub(crate) use own::OwnTokens;
pub(crate) use own::SELF;
pub(crate) use provisioning::Account;
pub(crate) use provisioning::Newcomer;
pub(crate) use provisioning::Passwords;
pub(crate) use provisioning::Provisioning;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::Issuer;
use crate::identity::KeyPrint;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::fingerprint::Fingerprint;
use crate::token::Unverified;

/// Why a provider did not vouch for a credential.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ProviderError {
    /// Final: no other provider is asked.
    #[error("credential rejected: {0}")]
    Rejected(Refusal),
    /// No judgement was reached. A presented credential is answered 503; only a *new login* may start elsewhere.
    #[error("provider unavailable: {outage}")]
    Unavailable {
        /// What kind of outage.
        outage: Outage,
        /// What the provider asked for (RFC 9110 §10.2.3), if it did.
        retry_after: Option<Duration>,
    },
}

impl From<Refusal> for ProviderError {
    fn from(refusal: Refusal) -> Self {
        Self::Rejected(refusal)
    }
}

impl From<Outage> for ProviderError {
    fn from(outage: Outage) -> Self {
        Self::Unavailable {
            outage,
            retry_after: None,
        }
    }
}

/// How a presented credential is recognised as this provider's. Never "try both".
#[derive(Clone, Debug, Default)]
pub(crate) struct Owns {
    /// Issuers of signed tokens.
    pub(crate) issuers: Vec<Issuer>,
    /// Names of session cookies.
    pub(crate) cookies: Vec<Box<str>>,
    /// Opaque bearer tokens; with several such providers, those that begin with one of these prefixes.
    pub(crate) opaque: Option<Vec<Box<str>>>,
    /// `Authorization: Basic`.
    pub(crate) basic: bool,
    /// The header that carries this provider's API keys.
    pub(crate) api_key_header: Option<http::HeaderName>,
    /// Certificates of TLS clients.
    pub(crate) client_cert: bool,
}

/// What a cached verdict rests on: raised whenever an earlier verdict of the provider may no longer hold (a key left
/// the set, a revocation, a quarantine). Compared on every use.
#[derive(Clone, Debug)]
pub(crate) struct Epoch(Arc<AtomicU64>);

impl Default for Epoch {
    /// An epoch that no other one has shown: a verdict made by a provider that was built anew rests on nothing of its
    /// predecessor.
    fn default() -> Self {
        static BUILT: AtomicU64 = AtomicU64::new(0);
        let built = BUILT.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(AtomicU64::new(built << 32)))
    }
}

impl Epoch {
    /// The present value.
    pub(crate) fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Whether it is that of the same provider, as it was built once.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Voids every verdict made before.
    pub(crate) fn raise(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// An identity provider.
#[async_trait]
pub(crate) trait Provider: fmt::Debug + Send + Sync {
    /// Its name.
    fn id(&self) -> &ProviderId;

    /// Which credentials are its own.
    fn owns(&self) -> &Owns;

    /// What verdicts of this provider rest on.
    fn epoch(&self) -> &Epoch;

    /// Whether the keys of `issuer` that are known now have refused the signature of this token before: then nobody need read it.
    fn has_refused(&self, _issuer: &str, _token: &str, _now: UnixTime) -> bool {
        false
    }

    /// As [`Self::judge_locally`], of a signed token that was read to find its owner; `None`: ask that.
    fn judge_read(
        &self,
        _token: Unverified<'_>,
        _now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        None
    }

    /// Judges without I/O where that is possible (a signed token with a known key); `None`: ask [`Self::authenticate`].
    fn judge_locally(
        &self,
        _credential: &Credential,
        _now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        None
    }

    /// Has keys fetched that may be new, if that is due; nobody waits for them.
    fn look_for_keys(&self) {}

    /// Whether what this key of it signs is still good, and until when that is to be believed; `None`: [`Self::look_for_key`].
    /// As of a token that the key has signed, whoever is asked.
    fn has_key(&self, _key: &KeyPrint, _now: UnixTime) -> Option<Result<UnixTime, ProviderError>> {
        Some(Err(Refusal::BadSignature.into()))
    }

    /// The same once its keys were fetched, where that may help. Called on the background runtime.
    ///
    /// # Errors
    ///
    /// A refusal: the key is gone. An outage: nobody can say.
    async fn look_for_key(
        &self,
        _key: &KeyPrint,
        _now: UnixTime,
    ) -> Result<UnixTime, ProviderError> {
        Err(Refusal::BadSignature.into())
    }

    /// Judges `credential` as of `now`. Called on the background runtime.
    ///
    /// # Errors
    ///
    /// See [`ProviderError`]: its variants decide the answer, never another judge.
    async fn authenticate(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError>;

    /// Browser login, where this kind has it.
    fn login(&self) -> Option<&dyn Login> {
        None
    }

    /// What it can do beside judging; none of it unless its kind says so.
    fn abilities(&self) -> &[Ability] {
        &[]
    }

    /// Its directory, where it can be looked into.
    fn directory(&self) -> Option<&dyn Directory> {
        None
    }

    /// How people come to it whose password another provider has found good, where they do.
    fn provisioning(&self) -> Option<&dyn Provisioning> {
        None
    }

    /// How it judges a password that was presented to us and is not its own credential ([`Self::owns`]), where people come with
    /// theirs.
    fn passwords(&self) -> Option<&dyn Passwords> {
        None
    }

    /// How it judges the password of a test account, where it can be asked at all: nobody else's is sent there by this.
    fn password_judge(&self) -> Option<&dyn Passwords> {
        self.passwords()
    }

    /// The same, over connections and behind a breaker of their own, for a second opinion: its trouble is nobody's who signs in.
    fn second_passwords(&self) -> Option<&dyn Passwords> {
        None
    }

    /// One spelling for all spellings of a name that this provider takes for one person's, as far as that can be said without
    /// asking it.
    fn person_name(&self, username: &str) -> String {
        username.to_owned()
    }

    /// The token endpoint of this kind, where it has one, with a registration of ours there: `None` is the one of its
    /// logins.
    ///
    /// # Errors
    ///
    /// When the registration cannot be used, or there is none.
    fn token_client(
        &self,
        _registration: Option<&settings::OAuthClient>,
    ) -> Option<Result<TokenClient, String>> {
        None
    }

    /// The provider's own words for an assurance class of ours.
    fn acr_values(&self, class: &str) -> Vec<Box<str>> {
        vec![class.into()]
    }

    /// Whether it can be told that a session is over whose cookie it judges.
    fn ends_sessions(&self) -> bool {
        false
    }

    /// Ends such a session. Once more does no harm.
    ///
    /// # Errors
    ///
    /// An outage means that the session still counts.
    async fn end(&self, _credential: &Credential) -> Result<(), ProviderError> {
        Err(Refusal::Unsupported.into())
    }

    /// What is known of its health.
    fn health(&self) -> Health;

    /// Whether it judges by its file as it is now: if not, that cannot be read or understood, and what it said last stays.
    /// `None`: it has none.
    fn file_is_good(&self) -> Option<bool> {
        None
    }
}

/// What is known of a provider's health, from its breaker and its background work.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// Whether it can judge now.
    pub(crate) usable: bool,
    /// Since when the breaker has been other than closed without one success.
    pub(crate) down_since: Option<UnixTime>,
    /// What is missing, or is not what counts though it can judge, in words for `/-/ready`.
    pub(crate) problem: Option<String>,
}

impl Health {
    /// The health of a provider of which nothing is known but how calls to it end.
    pub(crate) fn of_calls(down_since: Option<UnixTime>) -> Self {
        Self {
            usable: down_since.is_none(),
            down_since,
            problem: None,
        }
    }
}

/// All providers of a snapshot. Which of them owns a credential is a question of one application: `auth` asks it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Providers {
    all: HashMap<ProviderId, Arc<dyn Provider>>,
    /// What each was built from, for the next reload.
    built: HashMap<Fingerprint, ProviderId>,
}

impl Providers {
    /// Takes the providers of a snapshot; `config::compile` has made sure that nothing is owned twice.
    pub(crate) fn new(all: impl IntoIterator<Item = Arc<dyn Provider>>) -> Self {
        Self {
            all: all.into_iter().map(|p| (p.id().clone(), p)).collect(),
            built: HashMap::new(),
        }
    }

    fn of(all: Vec<(Fingerprint, Arc<dyn Provider>)>) -> Self {
        let built = all.iter().map(|(built, p)| (*built, p.id().clone()));
        Self {
            built: built.collect(),
            ..Self::new(all.into_iter().map(|(_, provider)| provider))
        }
    }

    fn built_from(&self, fingerprint: Fingerprint) -> Option<&Arc<dyn Provider>> {
        self.named(self.built.get(&fingerprint)?)
    }

    /// By name.
    pub(crate) fn named(&self, id: &ProviderId) -> Option<&Arc<dyn Provider>> {
        self.all.get(id)
    }

    /// Every provider.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        self.all.values()
    }
}
