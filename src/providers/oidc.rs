//! An OpenID provider: its access tokens as bearer credentials, and browser logins.

use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::ProviderId;
use crate::providers::Authenticated;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::Login;
use crate::providers::Owns;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::bearer::SignedTokens;
use crate::providers::client::Client;
use crate::providers::health::Watch;
use crate::providers::oauth::Discovery;
use crate::providers::oauth::OidcLogin;

/// An OpenID provider.
#[derive(Debug)]
pub(super) struct OidcProvider {
    /// Its name.
    pub(super) id: ProviderId,
    /// Which credentials are its own.
    pub(super) owns: Owns,
    /// What its verdicts rest on.
    pub(super) epoch: Epoch,
    /// How its tokens are judged.
    pub(super) tokens: Arc<SignedTokens>,
    /// Where its endpoints are.
    pub(super) discovery: Arc<Discovery>,
    /// Browser login, where we are registered there.
    pub(super) login: Option<OidcLogin>,
    /// How it is asked.
    pub(super) http: Arc<Client>,
    /// Looks after it while the breaker is open.
    pub(super) _watch: Watch,
    /// For the age of its keys.
    pub(super) clock: Arc<dyn Clock>,
}

#[async_trait]
impl Provider for OidcProvider {
    fn id(&self) -> &ProviderId {
        &self.id
    }

    fn owns(&self) -> &Owns {
        &self.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    fn judge_locally(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        self.tokens.judge_locally(credential, now)
    }

    async fn authenticate(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        self.tokens.judge(credential, now).await
    }

    fn login(&self) -> Option<&dyn Login> {
        self.login.as_ref().map(|login| login as &dyn Login)
    }

    fn health(&self) -> Health {
        let keys = self.tokens.problem(self.clock.now());
        let problem = self.discovery.problem().or(keys);
        Health {
            usable: problem.is_none(),
            down_since: self.http.down_since(),
            problem,
        }
    }
}
