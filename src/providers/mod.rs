//! Identity providers, old and new; all I/O to them.
//!
//! A credential is judged only by the provider that owns it. Only this module can make [`Authenticated`]. It must never
//! ask a second provider about a credential, and never turn a refusal into an outage or the other way round.

mod api_key;
mod authenticated;
mod basic;
mod bearer;
mod build;
mod client;
mod client_cert;
#[cfg(test)]
mod contract;
mod entries;
#[cfg(test)]
mod example;
#[cfg(test)]
mod fake;
mod fingerprint;
#[cfg(test)]
mod fixture;
mod flight;
mod health;
mod introspection;
mod jwt;
mod keys;
#[cfg(feature = "ldap")]
mod ldap;
mod oauth;
mod oidc;
pub(crate) mod probe;
mod session_probe;
pub(crate) mod settings;
mod vouch;
mod watched;

pub(crate) use authenticated::Authenticated;
pub(crate) use build::Deps;
pub(crate) use build::build;
pub(crate) use oauth::Grant;
pub(crate) use oauth::Issued;
pub(crate) use oauth::TokenClient;
pub(crate) use oauth::Wanted;

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
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::fingerprint::Fingerprint;
use crate::secret::Secret;
use crate::token::LogoutToken;

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

    /// Judges without I/O where that is possible (a signed token with a known key); `None`: ask [`Self::authenticate`].
    fn judge_locally(
        &self,
        _credential: &Credential,
        _now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        None
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

    /// What is known of its health.
    fn health(&self) -> Health;
}

/// What is known of a provider's health, from its breaker and its background work.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// Whether it can judge now.
    pub(crate) usable: bool,
    /// Since when the breaker has been other than closed without one success.
    pub(crate) down_since: Option<UnixTime>,
    /// What is missing, in words for `/-/ready`.
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

/// What a login sends along (RFC 6749 §4.1.1, RFC 7636 §4.3, OpenID Connect Core 1.0 §3.1.2.1).
#[derive(Debug)]
pub(crate) struct LoginStart<'a> {
    /// Our callback for this provider.
    pub(crate) redirect_uri: &'a str,
    /// Binds the answer to the browser.
    pub(crate) state: &'a str,
    /// Binds the ID token to the login.
    pub(crate) nonce: &'a str,
    /// The PKCE verifier; S256 of it is sent.
    pub(crate) verifier: &'a Secret<String>,
    /// What the login must be, where an earlier one was not enough.
    pub(crate) step_up: Option<&'a StepUp>,
}

/// What a login must be that is more than the one before (RFC 9470).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct StepUp {
    /// `acr_values`, in the words of the provider, the best first.
    pub(crate) acr_values: Vec<Box<str>>,
    /// How long ago the person may have signed in.
    pub(crate) max_age: Option<Duration>,
}

/// What came back, after `state` has been checked.
#[derive(Debug)]
pub(crate) struct LoginAnswer<'a> {
    /// The code.
    pub(crate) code: &'a str,
    /// `iss` of the response (RFC 9207), if it was there.
    pub(crate) iss: Option<&'a str>,
    /// The same address as at the start.
    pub(crate) redirect_uri: &'a str,
    /// The same nonce.
    pub(crate) nonce: &'a str,
    /// The same verifier.
    pub(crate) verifier: &'a Secret<String>,
}

/// A finished login.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    /// The proof.
    pub(crate) authenticated: Authenticated,
    /// For RP-initiated logout (`id_token_hint`).
    pub(crate) id_token: Secret<String>,
    /// To keep the session alive at its owner.
    pub(crate) refresh_token: Option<Secret<String>>,
    /// `sid`, for back-channel logout.
    pub(crate) sid: Option<Box<str>>,
    /// How long the access token lasts (`expires_in`), if it was said.
    pub(crate) lasts: Option<Duration>,
}

/// What a provider said when it was asked for a session again (RFC 6749 §6, OpenID Connect Core 1.0 §12).
#[derive(Debug)]
pub(crate) struct Refreshed {
    /// A new proof, if there was an ID token: of the same person, which the caller compares.
    pub(crate) authenticated: Option<Authenticated>,
    /// The new ID token.
    pub(crate) id_token: Option<Secret<String>>,
    /// The new refresh token; `None`: the old one stays.
    pub(crate) refresh_token: Option<Secret<String>>,
    /// How long the access token lasts.
    pub(crate) lasts: Option<Duration>,
}

/// Browser login: authorization code with PKCE.
#[async_trait]
pub(crate) trait Login: fmt::Debug + Send + Sync {
    /// Our path for its callback, such as `/.authferry/cb/modern`.
    fn redirect_path(&self) -> &str;

    /// The client id at this provider: kept in the flow record; a changed one voids it.
    fn client_id(&self) -> &str;

    /// Where to send the browser.
    ///
    /// # Errors
    ///
    /// When the provider's metadata are not known and cannot be had.
    async fn start(&self, start: LoginStart<'_>) -> Result<String, ProviderError>;

    /// Checks `iss`, redeems the code and judges the ID token.
    ///
    /// # Errors
    ///
    /// As [`Provider::authenticate`].
    async fn finish(
        &self,
        answer: LoginAnswer<'_>,
        now: UnixTime,
    ) -> Result<LoggedIn, ProviderError>;

    /// Who issues its tokens.
    fn issuer(&self) -> Option<&str> {
        None
    }

    /// Judges a logout token that was sent in the provider's name (OpenID Connect Back-Channel Logout 1.0 §2.6).
    ///
    /// # Errors
    ///
    /// As [`Provider::authenticate`].
    async fn logout_token(
        &self,
        _token: &str,
        _now: UnixTime,
    ) -> Result<LogoutToken, ProviderError> {
        Err(Refusal::Unsupported.into())
    }

    /// Asks for a session again, with its refresh token. Called once for a token: one that rotates must not be sent twice.
    ///
    /// # Errors
    ///
    /// A refusal ends the session; an outage says nothing of it.
    async fn refresh(
        &self,
        refresh_token: &Secret<String>,
        now: UnixTime,
    ) -> Result<Refreshed, ProviderError>;

    /// Where to send the browser to end the session there too (OpenID Connect RP-Initiated Logout 1.0 §2).
    fn logout_url(&self, _id_token: &Secret<String>, _return_to: &str) -> Option<String> {
        None
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
