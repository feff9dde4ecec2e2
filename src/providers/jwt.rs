//! An issuer of signed tokens that is known by its keys only.

use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::KeyPrint;
use crate::identity::ProviderId;
use crate::providers::Authenticated;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::Owns;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::bearer::SignedTokens;
use crate::providers::client::Client;
use crate::token::Unverified;

/// A provider that is nothing but an issuer and its keys.
#[derive(Debug)]
pub(super) struct JwtProvider {
    /// Its name.
    pub(super) id: ProviderId,
    /// Which credentials are its own.
    pub(super) owns: Owns,
    /// What its verdicts rest on.
    pub(super) epoch: Epoch,
    /// How its tokens are judged.
    pub(super) tokens: SignedTokens,
    /// How its keys are fetched, where they are.
    pub(super) http: Option<Arc<Client>>,
    /// For the age of its keys.
    pub(super) clock: Arc<dyn Clock>,
}

#[async_trait]
impl Provider for JwtProvider {
    fn id(&self) -> &ProviderId {
        &self.id
    }

    fn owns(&self) -> &Owns {
        &self.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    fn has_refused(&self, issuer: &str, token: &str, now: UnixTime) -> bool {
        self.tokens.has_refused(issuer, token, now)
    }

    fn judge_read(
        &self,
        token: Unverified<'_>,
        now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        self.tokens.judge_read(token, now)
    }

    fn judge_locally(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        self.tokens.judge_locally(credential, now)
    }

    fn look_for_keys(&self) {
        self.tokens.look_for_keys();
    }

    fn has_key(&self, key: &KeyPrint, now: UnixTime) -> Option<Result<UnixTime, ProviderError>> {
        self.tokens.has_key(key, now)
    }

    async fn look_for_key(&self, key: &KeyPrint, now: UnixTime) -> Result<UnixTime, ProviderError> {
        self.tokens.look_for_key(key, now).await
    }

    async fn authenticate(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        self.tokens.judge(credential, now).await
    }

    fn health(&self) -> Health {
        let now = self.clock.now();
        Health {
            usable: self.tokens.usable(now),
            down_since: self.http.as_ref().and_then(|http| http.down_since()),
            problem: self.tokens.problem(now),
        }
    }

    fn file_is_good(&self) -> Option<bool> {
        self.tokens.file_is_good()
    }
}
