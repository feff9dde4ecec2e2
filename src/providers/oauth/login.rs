//! Browser login at an OpenID provider: authorization code with PKCE (OpenID Connect Core 1.0 §3.1).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use tracing::warn;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::BackChannel;
use crate::providers::Deps;
use crate::providers::LoggedIn;
use crate::providers::Login;
use crate::providers::LoginAnswer;
use crate::providers::LoginStart;
use crate::providers::ProviderError;
use crate::providers::Refreshed;
use crate::providers::bearer::SignedTokens;
use crate::providers::client::Answer;
use crate::providers::client::Client;
use crate::providers::client::Endpoint;
use crate::providers::oauth::client_auth::ClientAuthenticator;
use crate::providers::oauth::discovery::Discovery;
use crate::providers::oauth::discovery::Metadata;
use crate::providers::oauth::form::Form;
use crate::providers::oauth::pushed;
use crate::providers::oauth::renewal::revoked;
use crate::providers::oauth::request::authorization;
use crate::providers::settings::Par;
use crate::secret::Secret;
use crate::telemetry::metrics::Operation;
use crate::token::LogoutToken;

/// The longest `sid`, in bytes: it is kept as an index.
const MAX_SID: usize = 256;

/// The login half of an OpenID provider.
#[derive(Debug)]
pub(in crate::providers) struct OidcLogin {
    /// Our registration there.
    pub(in crate::providers) client: ClientAuthenticator,
    /// Our callback path.
    pub(in crate::providers) redirect_path: String,
    /// What is asked for, joined by spaces.
    pub(in crate::providers) scope: String,
    /// Whether `iss` must be in the answer whatever the metadata say.
    pub(in crate::providers) require_iss: bool,
    /// When authorization requests are pushed.
    pub(in crate::providers) par: Par,
    /// Whether sessions are renewed: if not, a login brings no refresh token.
    pub(in crate::providers) refreshes: bool,
    /// Whether each renewal must bring a new refresh token.
    pub(in crate::providers) rotates: bool,
    /// Whether refresh tokens are given back.
    pub(in crate::providers) revokes: bool,
    /// Where the provider says that somebody has signed out there.
    pub(in crate::providers) back_channel: Option<String>,
    /// Where things are.
    pub(in crate::providers) discovery: Arc<Discovery>,
    /// How ID tokens are judged.
    pub(in crate::providers) tokens: Arc<SignedTokens>,
    /// How the token endpoint is asked.
    pub(in crate::providers) http: Arc<Client>,
    /// Identifiers; and the time of a pushed request, for whose caller it has none.
    pub(in crate::providers) deps: Deps,
}

#[async_trait]
impl Login for OidcLogin {
    fn redirect_path(&self) -> &str {
        &self.redirect_path
    }

    fn client_id(&self) -> &str {
        self.client.id()
    }

    async fn start(&self, start: LoginStart<'_>) -> Result<String, ProviderError> {
        // The address is known, so nothing is asked: whether anybody is there, the next login should know.
        self.http.wonder();
        let metadata = self.discovery.metadata().await?;
        let endpoint = known(metadata.authorization_endpoint.as_ref())?;
        let address = endpoint.to_string();
        let endpoint = pushed::endpoint(self.par, &metadata)?;
        let Some(endpoint) = endpoint else {
            return Ok(authorization(Some(self.client.id()), &self.scope, &start).onto(&address));
        };
        let request_uri = self.push(endpoint, &start).await?;
        Ok(pushed::named(self.client.id(), &request_uri).onto(&address))
    }

    async fn finish(
        &self,
        answer: LoginAnswer<'_>,
        now: UnixTime,
    ) -> Result<LoggedIn, ProviderError> {
        let metadata = self.discovery.metadata().await?;
        self.check_issuer(answer.iss, &metadata)?;
        let endpoint = known(metadata.token_endpoint.as_ref())?;
        let form = Form::default()
            .with("grant_type", "authorization_code")
            .with("code", answer.code)
            .with("redirect_uri", answer.redirect_uri)
            .with("code_verifier", answer.verifier.expose());
        let issuer = self.tokens.issuer().as_str();
        let entropy = &*self.deps.entropy;
        let call = self
            .client
            .post(Operation::Token, endpoint, form, issuer, now, entropy)?;
        // Made once: a code is redeemed once, and a second try would end what the first may have begun (RFC 6749 §4.1.2).
        let tokens = self.http.call(&call, |answer| read(&answer)).await?;
        let (authenticated, verified) = self
            .tokens
            .judge_id_token(
                tokens.id_token.expose(),
                answer.nonce,
                self.client.id(),
                now,
            )
            .await?;
        Ok(LoggedIn {
            authenticated,
            id_token: self.hint(Some(tokens.id_token)),
            refresh_token: tokens.refresh_token.filter(|_| self.refreshes),
            sid: sid(verified.claims().text("sid")),
            lasts: tokens.lasts,
            session_lasts: tokens.session_lasts,
        })
    }

    async fn refresh(
        &self,
        refresh_token: &Secret<String>,
        now: UnixTime,
    ) -> Result<Refreshed, ProviderError> {
        let metadata = self.discovery.metadata().await?;
        let endpoint = known(metadata.token_endpoint.as_ref())?;
        let form = Form::default()
            .with("grant_type", "refresh_token")
            .with("refresh_token", refresh_token.expose());
        let issuer = self.tokens.issuer().as_str();
        let entropy = &*self.deps.entropy;
        let call = self
            .client
            .post(Operation::Token, endpoint, form, issuer, now, entropy)?;
        // Made once: a rotated token that comes a second time looks like theft (RFC 9700 §4.14.2).
        let tokens = self.http.call(&call, |answer| granted(&answer)).await?;
        let used = refresh_token.expose();
        let new = tokens.refresh_token.as_ref().map(Secret::expose);
        if self.rotates && new.is_none_or(|new| new == used) {
            // Whoever else has seen it could go on using it (RFC 9700 §4.14.2).
            warn!(issuer = %self.tokens.issuer(), "A refresh token was used and not replaced, against `refresh.rotate`.");
            return Err(Refusal::Policy.into());
        }
        let authenticated = match &tokens.id_token {
            Some(token) => {
                let client = self.client.id();
                let judged = self
                    .tokens
                    .judge_renewed_id_token(token.expose(), client, now);
                Some(judged.await?)
            }
            None => None,
        };
        Ok(Refreshed {
            authenticated,
            id_token: self.hint(tokens.id_token),
            refresh_token: tokens.refresh_token,
            lasts: tokens.lasts,
        })
    }

    async fn revoke(
        &self,
        refresh_token: &Secret<String>,
        now: UnixTime,
    ) -> Result<(), ProviderError> {
        if !self.revokes {
            return Err(Refusal::Unsupported.into());
        }
        let metadata = self.discovery.metadata().await?;
        let endpoint = metadata.revocation_endpoint.as_ref();
        let endpoint = endpoint.ok_or(Refusal::Unsupported)?;
        let form = Form::default()
            .with("token", refresh_token.expose())
            .with("token_type_hint", "refresh_token");
        let issuer = self.tokens.issuer().as_str();
        let entropy = &*self.deps.entropy;
        let call = self
            .client
            .post(Operation::Revoke, endpoint, form, issuer, now, entropy)?;
        self.http.call(&call, |answer| revoked(&answer)).await
    }

    fn answers_as(&self, iss: Option<&str>) -> Result<(), Refusal> {
        let right = iss.is_none_or(|iss| iss == self.tokens.issuer().as_str());
        right.then_some(()).ok_or(Refusal::WrongIssuer)
    }

    fn issuer(&self) -> Option<&str> {
        Some(self.tokens.issuer().as_str())
    }

    fn back_channel(&self) -> BackChannel<'_> {
        match &self.back_channel {
            Some(path) => BackChannel::At(path),
            None => BackChannel::Off,
        }
    }

    async fn logout_token(&self, token: &str, now: UnixTime) -> Result<LogoutToken, ProviderError> {
        self.tokens
            .judge_logout_token(token, self.client.id(), now)
            .await
    }

    fn logout_token_at_hand(
        &self,
        token: &str,
        now: UnixTime,
    ) -> Option<Result<LogoutToken, ProviderError>> {
        self.tokens
            .judge_logout_token_at_hand(token, self.client.id(), now)
    }

    fn logout_url(&self, id_token: &Secret<String>, return_to: &str) -> Option<String> {
        let endpoint = self.discovery.current()?.end_session_endpoint.clone()?;
        let form = Form::default()
            .with("id_token_hint", id_token.expose())
            .with("client_id", self.client.id())
            .with("post_logout_redirect_uri", return_to);
        Some(form.onto(&endpoint.to_string()))
    }
}

impl OidcLogin {
    /// Leaves the parameters of a login at the provider, and gets a name for them (RFC 9126 §2).
    async fn push(
        &self,
        endpoint: &Endpoint,
        start: &LoginStart<'_>,
    ) -> Result<Secret<String>, ProviderError> {
        // A parameter of the request, also where `Authorization` says who we are.
        let named = (!self.client.names_itself()).then(|| self.client.id());
        let form = authorization(named, &self.scope, start);
        let issuer = self.tokens.issuer().as_str();
        let (now, entropy) = (self.deps.clock.now(), &*self.deps.entropy);
        let call = self
            .client
            .post(Operation::Token, endpoint, form, issuer, now, entropy)?;
        self.http.call(&call, |answer| pushed::read(&answer)).await
    }

    /// The ID token, where sessions can be ended with it: kept for nothing, it is more than half of a session.
    fn hint(&self, id_token: Option<Secret<String>>) -> Option<Secret<String>> {
        let metadata = self.discovery.current();
        id_token.filter(|_| metadata.is_some_and(|known| known.end_session_endpoint.is_some()))
    }

    /// RFC 9207 §2.4: an `iss` that is there must be right, and where one is announced it must be there.
    fn check_issuer(&self, iss: Option<&str>, metadata: &Metadata) -> Result<(), Refusal> {
        let right = match iss {
            Some(iss) => iss == self.tokens.issuer().as_str(),
            None => !(self.require_iss || metadata.names_itself),
        };
        right.then_some(()).ok_or(Refusal::WrongIssuer)
    }
}

/// Metadata without what a login needs are no metadata of a provider that has logins.
fn known(endpoint: Option<&Endpoint>) -> Result<&Endpoint, ProviderError> {
    endpoint.ok_or_else(|| Outage::Malformed.into())
}

fn sid(text: Option<&str>) -> Option<Box<str>> {
    text.filter(|sid| !sid.is_empty() && sid.len() <= MAX_SID)
        .map(Box::from)
}

/// What the token endpoint hands out (OpenID Connect Core 1.0 §3.1.3.3), as far as it is used.
#[derive(Debug)]
struct Tokens {
    id_token: Secret<String>,
    refresh_token: Option<Secret<String>>,
    lasts: Option<Duration>,
    session_lasts: Option<Duration>,
}

/// The same of a refresh, where the ID token may be left out (OpenID Connect Core 1.0 §12.2).
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) id_token: Option<Secret<String>>,
    pub(super) refresh_token: Option<Secret<String>>,
    lasts: Option<Duration>,
    session_lasts: Option<Duration>,
}

fn read(answer: &Answer) -> Result<Tokens, ProviderError> {
    let granted = granted(answer)?;
    Ok(Tokens {
        id_token: granted.id_token.ok_or(Outage::Malformed)?,
        refresh_token: granted.refresh_token,
        lasts: granted.lasts,
        session_lasts: granted.session_lasts,
    })
}

pub(super) fn granted(answer: &Answer) -> Result<Granted, ProviderError> {
    let document: Map<String, Value> =
        serde_json::from_slice(&answer.body).or(Err(Outage::Malformed))?;
    if answer.status != StatusCode::OK {
        // RFC 6749 §5.2: an error has a 4xx. What else there is, such as a redirect, says nothing of anybody.
        let error = document.get("error").and_then(Value::as_str);
        let error = error.filter(|_| answer.status.is_client_error());
        return Err(error.map_or_else(|| Outage::Malformed.into(), judge_error));
    }
    let text = |name: &str| match document.get(name) {
        Some(Value::String(text)) => Some(Secret::new(text.clone())),
        _ => None,
    };
    // Without an access token it is no answer of a token endpoint (RFC 6749 §5.1).
    if text("access_token").is_none() && text("id_token").is_none() {
        return Err(Outage::Malformed.into());
    }
    // 0 is how Keycloak says that it does not end by itself.
    let lasts = |name: &str| {
        let seconds = document.get(name).and_then(Value::as_u64);
        seconds
            .filter(|seconds| 0 < *seconds)
            .map(Duration::from_secs)
    };
    Ok(Granted {
        id_token: text("id_token"),
        refresh_token: text("refresh_token"),
        lasts: lasts("expires_in"),
        session_lasts: lasts("refresh_expires_in"),
    })
}

/// RFC 6749 §5.2, OpenID Connect Core 1.0 §3.1.2.6: what is said of the code or the person is final; what is said of us
/// (a wrong secret, a grant that is switched off) is no judgement of anybody.
fn judge_error(error: &str) -> ProviderError {
    match error {
        "invalid_client" | "unauthorized_client" | "unsupported_grant_type" => {
            Outage::Malformed.into()
        }
        "server_error" | "temporarily_unavailable" => Outage::Http5xx.into(),
        "slow_down" => Outage::RateLimited.into(),
        "interaction_required" | "mfa_required" | "unmet_authentication_requirements" => {
            Refusal::MfaRequired.into()
        }
        "access_denied" | "consent_required" | "account_selection_required" | "login_required" => {
            Refusal::Policy.into()
        }
        _ => Refusal::BadCredentials.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use proptest::prelude::*;

    fn answer(status: u16, body: &[u8]) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.to_vec().into(),
        }
    }

    #[test]
    fn only_a_4xx_says_something_of_a_code() {
        let error = br#"{"error":"invalid_grant"}"#;
        let refused = read(&answer(400, error)).unwrap_err();
        assert_eq!(refused, Refusal::BadCredentials.into());
        for status in [201, 204, 302, 307] {
            let failed = read(&answer(status, error)).unwrap_err();
            assert_eq!(failed, Outage::Malformed.into(), "{status}");
        }
    }

    proptest! {
        /// Bytes that are no JSON object judge nobody, whatever the status.
        #[test]
        fn garbage_is_never_a_judgement(status in 200_u16..500, body in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assume!(serde_json::from_slice::<Map<String, Value>>(&body).is_err());
            prop_assert_eq!(read(&answer(status, &body)).unwrap_err(), Outage::Malformed.into());
        }

        /// Without 200 there are no tokens.
        #[test]
        fn an_error_hands_out_nothing(status in 201_u16..500, error in ".{0,30}") {
            let body = serde_json::json!({ "error": error, "id_token": "a.b.c" }).to_string();
            prop_assert!(read(&answer(status, body.as_bytes())).is_err());
        }
    }
}
