//! Tokens for somebody who has been vouched for already: RFC 8693, and the assertion grant of RFC 7523 §2.1.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use tracing::warn;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::Deps;
use crate::providers::ProviderError;
use crate::providers::bearer::SignedTokens;
use crate::providers::client::Answer;
use crate::providers::client::Call;
use crate::providers::client::Client;
use crate::providers::client::Endpoint;
use crate::providers::oauth::client_auth::ClientAuthenticator;
use crate::providers::oauth::discovery::Discovery;
use crate::providers::oauth::form::Form;
use crate::providers::oauth::renewal::error;
use crate::secret::Secret;
use crate::telemetry::metrics::Operation;
use crate::token;

/// The types of tokens (RFC 8693 §3) that we ask for and take.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The longest token that is handed on, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// The longest life that an answer may claim.
pub(super) const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// One registration of ours at the token endpoint of one provider.
pub(crate) struct TokenClient {
    pub(in crate::providers) client: ClientAuthenticator,
    pub(in crate::providers) discovery: Arc<Discovery>,
    pub(in crate::providers) tokens: Arc<SignedTokens>,
    pub(in crate::providers) http: Arc<Client>,
    pub(in crate::providers) deps: Deps,
    /// Whether tokens are given back there.
    pub(in crate::providers) revokes: bool,
}

/// By what right a token is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Grant<'a> {
    /// RFC 8693 §2.1, with the access token that was presented to us.
    TokenExchange(&'a Secret<String>),
    /// RFC 7523 §2.1, with an assertion of ours.
    JwtBearer(&'a Secret<String>),
    /// RFC 6749 §4.4: for the client itself.
    ClientCredentials,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// `audience` (RFC 8693 §2.1); the result is for one of them, or for one of `resources`.
    pub(crate) audiences: &'a [Box<str>],
    /// `resource` (RFC 8707).
    pub(crate) resources: &'a [Box<str>],
    /// `scope`; empty: left to the provider.
    pub(crate) scopes: &'a [Box<str>],
}

/// A token that was issued to us for somebody.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The token.
    pub(crate) token: Secret<String>,
    /// When it ends; `None`: nobody says.
    pub(crate) ends: Option<UnixTime>,
    /// Its scopes, where they differ from those asked for (RFC 6749 §5.1).
    pub(crate) scopes: Option<Box<[Box<str>]>>,
    /// What it says, judged like a presented one; `None`: we cannot read it.
    pub(crate) proof: Option<Authenticated>,
    /// What a fresh one can be had with. An exchange drops it: nobody asked for one.
    pub(crate) refresh_token: Option<Secret<String>>,
}

impl TokenClient {
    /// Our `client_id` there.
    pub(crate) fn id(&self) -> &str {
        self.client.id()
    }

    /// The provider's issuer identifier: the audience of an assertion (RFC 7523 §3).
    pub(crate) fn issuer(&self) -> &str {
        self.tokens.issuer().as_str()
    }

    /// A form for one of the provider's endpoints, with proof of who we are.
    pub(super) fn post(
        &self,
        operation: Operation,
        endpoint: &Endpoint,
        form: Form,
        now: UnixTime,
    ) -> Result<Call, ProviderError> {
        let entropy = &*self.deps.entropy;
        self.client
            .post(operation, endpoint, form, self.issuer(), now, entropy)
    }

    /// Asks for a token.
    ///
    /// # Errors
    ///
    /// A refusal when the provider does not give one for this subject; an outage when it gave no judgement, or something
    /// that is not what was asked for.
    pub(crate) async fn ask(
        &self,
        grant: Grant<'_>,
        wanted: Wanted<'_>,
        now: UnixTime,
    ) -> Result<Issued, ProviderError> {
        let issued = self.issued(grant, wanted, now).await?;
        self.judge(issued, wanted, now).await
    }

    /// What the provider gives, which nobody has looked at.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub(crate) async fn issued(
        &self,
        grant: Grant<'_>,
        wanted: Wanted<'_>,
        now: UnixTime,
    ) -> Result<Issued, ProviderError> {
        let metadata = self.discovery.metadata().await?;
        let endpoint = metadata.token_endpoint.as_ref().ok_or(Outage::Malformed)?;
        let exchange = matches!(grant, Grant::TokenExchange(_));
        let for_itself = matches!(grant, Grant::ClientCredentials);
        let call = self.post(Operation::Token, endpoint, form(grant, wanted), now)?;
        self.http
            .call(&call, |answer| {
                // Whoever asks for itself named the scopes: it is an answer to that.
                let refused = for_itself && answer.status.is_client_error();
                match error(&answer.body).as_deref() {
                    Some("invalid_scope") if refused => Err(Refusal::Policy.into()),
                    Some(_) | None => read(&answer, exchange, now),
                }
            })
            .await
    }

    /// Asks for a token by which the provider itself knows us (RFC 6749 §4.4). It is sent nowhere else, so nobody needs to
    /// judge it.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub(in crate::providers) async fn for_ourselves(
        &self,
        now: UnixTime,
    ) -> Result<(Secret<String>, Option<UnixTime>), ProviderError> {
        let metadata = self.discovery.metadata().await?;
        let endpoint = metadata.token_endpoint.as_ref().ok_or(Outage::Malformed)?;
        let wanted = Wanted {
            audiences: &[],
            resources: &[],
            scopes: &[],
        };
        let form = form(Grant::ClientCredentials, wanted);
        let call = self.post(Operation::Token, endpoint, form, now)?;
        let answer = self
            .http
            .call(&call, |answer| read(&answer, false, now))
            .await;
        match answer {
            Ok(issued) => Ok((issued.token, issued.ends)),
            // What is said of us is no judgement of anybody.
            Err(ProviderError::Rejected(_)) => Err(Outage::Malformed.into()),
            Err(outage @ ProviderError::Unavailable { .. }) => Err(outage),
        }
    }

    /// What a token says that was issued for one of `audiences`, judged like one that was presented.
    ///
    /// # Errors
    ///
    /// When it is none of this provider's for them, or nobody can tell.
    pub(crate) async fn known(
        &self,
        token: &Secret<String>,
        audiences: &[Box<str>],
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let text = token.expose().as_str();
        self.tokens.judge_issued(text, audiences, now).await
    }

    /// What we can read must be what we asked for at `now`: of this issuer, for the audience, an access token that is good.
    ///
    /// # Errors
    ///
    /// When it is not, or nobody can tell.
    pub(crate) async fn judge(
        &self,
        mut issued: Issued,
        wanted: Wanted<'_>,
        now: UnixTime,
    ) -> Result<Issued, ProviderError> {
        let text = issued.token.expose().as_str();
        if token::peek(text).is_err() {
            return Ok(issued);
        }
        let audiences = [wanted.audiences, wanted.resources].concat();
        match self.tokens.judge_issued(text, &audiences, now).await {
            // A token that is bound to a key cannot be used by an application that has the token alone.
            Ok(proof) if proof.confirmation().is_some() => Err(Outage::Malformed.into()),
            Ok(proof) => {
                issued.ends = Some(
                    issued
                        .ends
                        .unwrap_or(proof.life_ends())
                        .min(proof.life_ends()),
                );
                issued.proof = Some(proof.asked_for_at(now));
                Ok(issued)
            }
            // The provider issued something that it would not be taken for: an answer that is none.
            Err(ProviderError::Rejected(refusal)) => {
                warn!(
                    client = self.id(),
                    reason = refusal.as_str(),
                    "An exchanged token is not what was asked for; it is not used."
                );
                Err(Outage::Malformed.into())
            }
            Err(outage @ ProviderError::Unavailable { .. }) => Err(outage),
        }
    }
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClient")
            .field("client", &self.client.id())
            .finish_non_exhaustive()
    }
}

/// RFC 8707 §2.
pub(super) fn with_resource(form: Form, resource: Option<&str>) -> Form {
    match resource {
        Some(resource) => form.with("resource", resource),
        None => form,
    }
}

fn form(grant: Grant<'_>, wanted: Wanted<'_>) -> Form {
    let form = match grant {
        Grant::TokenExchange(subject) => Form::default()
            .with(
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            )
            .with("subject_token", subject.expose())
            .with("subject_token_type", ACCESS_TOKEN)
            .with("requested_token_type", ACCESS_TOKEN),
        Grant::JwtBearer(assertion) => Form::default()
            .with("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            .with("assertion", assertion.expose()),
        Grant::ClientCredentials => Form::default().with("grant_type", "client_credentials"),
    };
    let form = match grant {
        Grant::TokenExchange(_) | Grant::ClientCredentials => wanted
            .audiences
            .iter()
            .fold(form, |form, audience| form.with("audience", audience)),
        // RFC 7523 has no such parameter; who issues is told by `scope` and `resource`.
        Grant::JwtBearer(_) => form,
    };
    let form = wanted
        .resources
        .iter()
        .fold(form, |form, resource| form.with("resource", resource));
    if wanted.scopes.is_empty() {
        form
    } else {
        form.with("scope", &wanted.scopes.join(" "))
    }
}

/// RFC 6749 §5.1, RFC 8693 §2.2.1.
pub(super) fn read(
    answer: &Answer,
    exchange: bool,
    now: UnixTime,
) -> Result<Issued, ProviderError> {
    let document: Map<String, Value> =
        serde_json::from_slice(&answer.body).or(Err(Outage::Malformed))?;
    if answer.status != StatusCode::OK {
        let error = document.get("error").and_then(Value::as_str);
        let error = error.filter(|_| answer.status.is_client_error());
        return Err(error.map_or_else(|| Outage::Malformed.into(), judge_error));
    }
    let text = |name: &str| match document.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Outage::Malformed),
    };
    let token = text("access_token")?
        .filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN)
        .filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or(Outage::Malformed)?;
    // A token that is bound to a key cannot be used by an application that has the token alone.
    if !text("token_type")?.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(Outage::Malformed.into());
    }
    let refresh_token = text("refresh_token")?
        .filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN)
        .map(|token| Secret::new(token.to_owned()));
    let issued_type = text("issued_token_type")?;
    if exchange && !issued_type.is_some_and(|kind| [ACCESS_TOKEN, JWT].contains(&kind)) {
        return Err(Outage::Malformed.into());
    }
    let ends = match document.get("expires_in") {
        None | Some(Value::Null) => None,
        // Some servers write numbers as texts.
        Some(value) => {
            let seconds = value
                .as_u64()
                .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
                .ok_or(Outage::Malformed)?;
            Some(now + Duration::from_secs(seconds).min(MAX_LIFE))
        }
    };
    let scopes = text("scope")?.map(|scope| {
        let scopes = scope.split(' ').filter(|scope| !scope.is_empty());
        scopes.map(Box::from).collect()
    });
    Ok(Issued {
        token: Secret::new(token.to_owned()),
        ends,
        scopes,
        proof: None,
        refresh_token,
    })
}

/// RFC 6749 §5.2, RFC 8693 §2.2.2: what is said of the subject is final; what is said of us (a wrong secret, a grant that
/// is switched off) is no judgement of anybody.
fn judge_error(error: &str) -> ProviderError {
    match error {
        "invalid_client" | "unauthorized_client" | "unsupported_grant_type" | "invalid_scope" => {
            Outage::Malformed.into()
        }
        "server_error" | "temporarily_unavailable" => Outage::Http5xx.into(),
        "slow_down" => Outage::RateLimited.into(),
        _ => Refusal::ExchangeRefused.into(),
    }
}
