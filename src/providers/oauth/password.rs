//! A password that was presented to us, judged by the provider's token endpoint (RFC 6749 §4.3).
//!
//! RFC 9700 §2.4 forbids the grant to clients that people would otherwise not show their password to. Here the password is on
//! every request anyway, because old clients know no other way, and it goes to the provider that is its only judge.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::Passwords;
use crate::providers::ProviderError;
use crate::providers::client::Endpoint;
use crate::providers::oauth::form::Form;
use crate::providers::oauth::login::OidcLogin;
use crate::providers::oauth::login::granted;
use crate::providers::oauth::renewal::revoked;
use crate::secret::Secret;
use crate::telemetry::metrics::Operation;

/// How long a good answer is kept: as long as any judge of passwords keeps one, where nothing is said.
const KEPT: Duration = Duration::from_secs(30);
/// A longer password is none that we pass on.
const MAX_PASSWORD: usize = 1_024;

#[async_trait]
impl Passwords for OidcLogin {
    async fn check(
        &self,
        username: &str,
        password: &Secret<String>,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        if password.expose().is_empty() || MAX_PASSWORD < password.expose().len() {
            return Err(Refusal::BadCredentials.into());
        }
        let metadata = self.discovery.metadata().await?;
        let endpoint = metadata.token_endpoint.as_ref().ok_or(Outage::Malformed)?;
        let form = Form::default()
            .with("grant_type", "password")
            .with("username", username)
            .with("password", password.expose())
            .with("scope", &self.scope);
        let issuer = self.tokens.issuer().as_str();
        let entropy = &*self.deps.entropy;
        // Made once: a wrong password that is sent twice may lock its account.
        let call = self
            .client
            .post(Operation::Token, endpoint, form, issuer, now, entropy)?;
        let tokens = self.http.call(&call, |answer| granted(&answer)).await?;
        // Whatever else was given with it.
        if let (Some(token), Some(endpoint)) =
            (&tokens.refresh_token, &metadata.revocation_endpoint)
        {
            self.end(token, endpoint, now)?;
        }
        let id_token = tokens.id_token.ok_or(Outage::Malformed)?;
        let client = self.client.id();
        let judged = self
            .tokens
            .judge_renewed_id_token(id_token.expose(), client, now);
        let judged = judged.await?;
        // A password has no end of its own; the token that says it is good is not the credential.
        let expires = judged.expires().min(now + KEPT);
        Ok(Authenticated::new((**judged.identity()).clone(), expires))
    }
}

impl OidcLogin {
    /// Ends the session that the provider has begun for one question. Nobody waits for it, and where it fails the session ends
    /// by itself.
    fn end(
        &self,
        token: &Secret<String>,
        endpoint: &Endpoint,
        now: UnixTime,
    ) -> Result<(), ProviderError> {
        let form = Form::default()
            .with("token", token.expose())
            .with("token_type_hint", "refresh_token");
        let (issuer, entropy) = (self.tokens.issuer().as_str(), &*self.deps.entropy);
        let call = self
            .client
            .post(Operation::Revoke, endpoint, form, issuer, now, entropy)?;
        let http = Arc::clone(&self.http);
        self.deps.background.spawn(async move {
            drop(http.call(&call, |answer| revoked(&answer)).await);
        });
        Ok(())
    }
}
