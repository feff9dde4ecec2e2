//! Refresh tokens that a client of a provider holds: used once (RFC 6749 §6), and given back (RFC 7009).

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::oauth::form::Form;
use crate::providers::oauth::token_client::Issued;
use crate::providers::oauth::token_client::TokenClient;
use crate::providers::oauth::token_client::read;
use crate::providers::oauth::token_client::with_resource;
use crate::secret::Secret;
use crate::telemetry::metrics::Operation;
use crate::token;

impl TokenClient {
    /// Uses a refresh token. Nothing of the answer is judged yet: the gate judges what it gets.
    ///
    /// # Errors
    ///
    /// [`Refusal::BadCredentials`]: it is over. [`Refusal::ExchangeRefused`]: more was asked for than it holds. An outage
    /// says nothing of it.
    pub(crate) async fn refresh(
        &self,
        refresh_token: &Secret<String>,
        (scopes, resource): (&[Box<str>], Option<&str>),
        now: UnixTime,
    ) -> Result<Issued, ProviderError> {
        let metadata = self.discovery.metadata().await?;
        let endpoint = metadata.token_endpoint.as_ref().ok_or(Outage::Malformed)?;
        let form = Form::default()
            .with("grant_type", "refresh_token")
            .with("refresh_token", refresh_token.expose());
        let form = if scopes.is_empty() {
            form
        } else {
            form.with("scope", &scopes.join(" "))
        };
        let form = with_resource(form, resource);
        let call = self.post(Operation::Token, endpoint, form, now)?;
        // Made once: a rotated token that comes a second time looks like theft (RFC 9700 §4.14.2).
        self.http
            .call(&call, |answer| {
                let error = error(&answer.body);
                read(&answer, false, now).map_err(|why| match (error.as_deref(), why) {
                    (Some("invalid_scope" | "invalid_target"), _)
                        if answer.status.is_client_error() =>
                    {
                        Refusal::ExchangeRefused.into()
                    }
                    (_, ProviderError::Rejected(_)) => Refusal::BadCredentials.into(),
                    (_, outage @ ProviderError::Unavailable { .. }) => outage,
                })
            })
            .await
    }

    /// Has a token revoked; `kind` is the `token_type_hint`. One that is none counts as revoked.
    ///
    /// # Errors
    ///
    /// An outage means that it still counts there; [`Refusal::Unsupported`]: nobody can be told.
    pub(crate) async fn revoke(
        &self,
        token: &Secret<String>,
        kind: &str,
        now: UnixTime,
    ) -> Result<(), ProviderError> {
        if !self.revokes {
            return Err(Refusal::Unsupported.into());
        }
        let metadata = self.discovery.metadata().await?;
        let endpoint = metadata.revocation_endpoint.as_ref();
        let endpoint = endpoint.ok_or(Refusal::Unsupported)?;
        let form = Form::default()
            .with("token", token.expose())
            .with("token_type_hint", kind);
        let call = self.post(Operation::Revoke, endpoint, form, now)?;
        self.http.call(&call, |answer| revoked(&answer)).await
    }

    /// Whether the provider takes us for this client: asked by a refresh token that nobody was given, so nothing comes of it.
    ///
    /// # Errors
    ///
    /// [`Refusal::BadCredentials`]: it does not. An outage: it did not say.
    pub(crate) async fn is_known(&self, now: UnixTime) -> Result<(), ProviderError> {
        let metadata = self.discovery.metadata().await?;
        let endpoint = metadata.token_endpoint.as_ref().ok_or(Outage::Malformed)?;
        let form = Form::default()
            .with("grant_type", "refresh_token")
            .with("refresh_token", &self.deps.entropy.token());
        let call = self.post(Operation::Token, endpoint, form, now)?;
        self.http
            .call(&call, |answer| match error(&answer.body).as_deref() {
                // It was known before its token was looked at (RFC 6749 §5.2). Some say `unauthorized_client` to whoever they
                // do not know, so nothing else is a yes.
                Some("invalid_grant") if answer.status == StatusCode::BAD_REQUEST => Ok(()),
                Some(_) if answer.status.is_client_error() => Err(Refusal::BadCredentials.into()),
                Some(_) | None => Err(Outage::Malformed.into()),
            })
            .await
    }

    /// Whether an access token of the provider is for this audience. One that we cannot read is for whomever the provider
    /// means; the gate asks who may read it.
    pub(crate) async fn is_for(
        &self,
        token: &Secret<String>,
        audience: &str,
        now: UnixTime,
    ) -> bool {
        let text = token.expose().as_str();
        if token::peek(text).is_err() {
            return true;
        }
        let audiences = [Box::from(audience)];
        self.tokens
            .judge_issued(text, &audiences, now)
            .await
            .is_ok()
    }
}

/// `error` (RFC 6749 §5.2).
pub(super) fn error(body: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(body).ok()?;
    Some(document.get("error")?.as_str()?.to_owned())
}

/// RFC 7009 §2.2: 200, also for a token that was none. An error that says so is final; what says nothing is an outage.
pub(in crate::providers) fn revoked(answer: &Answer) -> Result<(), ProviderError> {
    if answer.status.is_success() {
        return Ok(());
    }
    let document: Map<String, Value> =
        serde_json::from_slice(&answer.body).or(Err(Outage::Malformed))?;
    match document.get("error").and_then(Value::as_str) {
        Some("unsupported_token_type" | "invalid_request") if answer.status.is_client_error() => {
            Err(Refusal::Policy.into())
        }
        Some(_) | None => Err(Outage::Malformed.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn answer(status: u16, body: &[u8]) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.to_vec().into(),
        }
    }

    #[test]
    fn a_token_that_was_revoked_or_unknown_is_over_and_nothing_else_says_so() {
        let over = |status, body: &str| revoked(&answer(status, body.as_bytes()));
        assert_eq!(over(200, ""), Ok(()));
        let unsupported = r#"{"error":"unsupported_token_type"}"#;
        assert_eq!(over(400, unsupported), Err(Refusal::Policy.into()));
        for (status, body) in [
            (302, ""),
            (400, "no"),
            (401, r#"{"error":"invalid_client"}"#),
            (500, unsupported),
            (503, ""),
        ] {
            assert_eq!(
                over(status, body),
                Err(Outage::Malformed.into()),
                "{status}"
            );
        }
    }
}
