//! Browser login as providers have it: what is sent along, what comes back, and what becomes of it later.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::UnixTime;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::ProviderError;
use crate::secret::Secret;
use crate::token::LogoutToken;

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
    /// What the person calls themselves, for the page of the provider to begin with.
    pub(crate) login_hint: Option<&'a str>,
    /// Whether the provider may show a page; if not, it says `login_required` where it would (`prompt=none`).
    pub(crate) prompt: Prompt,
}

/// Whether a provider may show a page (OpenID Connect Core 1.0 §3.1.2.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Prompt {
    /// As it likes.
    #[default]
    AsNeeded,
    /// None.
    Never,
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
    /// For RP-initiated logout (`id_token_hint`); `None`: the provider has none.
    pub(crate) id_token: Option<Secret<String>>,
    /// To keep the session alive at its owner.
    pub(crate) refresh_token: Option<Secret<String>>,
    /// `sid`, for back-channel logout.
    pub(crate) sid: Option<Box<str>>,
    /// How long the access token lasts (`expires_in`), if it was said.
    pub(crate) lasts: Option<Duration>,
    /// How long the refresh token lasts, and with it the session there (`refresh_expires_in`), if it was said.
    pub(crate) session_lasts: Option<Duration>,
}

/// What a provider said when it was asked for a session again (RFC 6749 §6, OpenID Connect Core 1.0 §12).
#[derive(Debug)]
pub(crate) struct Refreshed {
    /// A new proof, if there was an ID token: of the same person, which the caller compares.
    pub(crate) authenticated: Option<Authenticated>,
    /// The new ID token, as at the login.
    pub(crate) id_token: Option<Secret<String>>,
    /// The new refresh token; `None`: the old one stays.
    pub(crate) refresh_token: Option<Secret<String>>,
    /// How long the access token lasts.
    pub(crate) lasts: Option<Duration>,
}

/// Where a provider says that somebody has signed out there (OpenID Connect Back-Channel Logout 1.0 §2.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BackChannel<'a> {
    /// At the address that is made of its name.
    Usual,
    /// At this path, and no other.
    At(&'a str),
    /// Nowhere.
    Off,
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
    /// As [`crate::providers::Provider::authenticate`].
    async fn finish(
        &self,
        answer: LoginAnswer<'_>,
        now: UnixTime,
    ) -> Result<LoggedIn, ProviderError>;

    /// Whether an answer that is no success may be of this provider: one that names somebody else is not (RFC 9207 §2.4).
    ///
    /// # Errors
    ///
    /// Who gave it is somebody else.
    fn answers_as(&self, _iss: Option<&str>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Who issues its tokens.
    fn issuer(&self) -> Option<&str> {
        None
    }

    /// Where it says that somebody has signed out there.
    fn back_channel(&self) -> BackChannel<'_> {
        BackChannel::Usual
    }

    /// Judges a logout token that was sent in the provider's name (OpenID Connect Back-Channel Logout 1.0 §2.6).
    ///
    /// # Errors
    ///
    /// As [`crate::providers::Provider::authenticate`].
    async fn logout_token(
        &self,
        _token: &str,
        _now: UnixTime,
    ) -> Result<LogoutToken, ProviderError> {
        Err(Refusal::Unsupported.into())
    }

    /// The same by what is known, without asking anybody; `None`: that cannot say.
    fn logout_token_at_hand(
        &self,
        _token: &str,
        _now: UnixTime,
    ) -> Option<Result<LogoutToken, ProviderError>> {
        None
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

    /// Revokes a refresh token, and with it what was issued with it (RFC 7009 §2.1). Once more does no harm.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unsupported`] where there is no such endpoint; an outage means that the token still counts (§2.2.1).
    async fn revoke(
        &self,
        _refresh_token: &Secret<String>,
        _now: UnixTime,
    ) -> Result<(), ProviderError> {
        Err(Refusal::Unsupported.into())
    }

    /// Where to send the browser to end the session there too (OpenID Connect RP-Initiated Logout 1.0 §2).
    fn logout_url(&self, _id_token: &Secret<String>, _return_to: &str) -> Option<String> {
        None
    }
}
