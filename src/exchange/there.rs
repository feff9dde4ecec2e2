//! What an exchange had from a provider, once somebody has it: what it says, and that it is over.

use crate::clock::UnixTime;
use crate::exchange::Exchange;
use crate::exchange::way::Way;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::ProviderError;
use crate::providers::TokenClient;
use crate::secret::Secret;

impl Exchange {
    /// The provider that is asked for results, and what we are called there; `None`: we mint them.
    pub(crate) fn registration(&self) -> Option<(&ProviderId, &str)> {
        let (provider, _issuer, id) = self.way.registration()?;
        Some((provider, id))
    }

    /// What a token says that is for one of `audiences`, judged like one that was presented.
    ///
    /// # Errors
    ///
    /// When it is none of the provider's for them, or nobody can tell.
    pub(crate) async fn known(
        &self,
        token: &Secret<String>,
        audiences: &[Box<str>],
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        self.there()?.known(token, audiences, now).await
    }

    /// Has the provider end a token that it gave for one: as [`TokenClient::revoke`].
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) async fn gives_back(
        &self,
        token: &Secret<String>,
        kind: &str,
        now: UnixTime,
    ) -> Result<(), ProviderError> {
        self.there()?.revoke(token, kind, now).await
    }

    fn there(&self) -> Result<&TokenClient, Refusal> {
        match &self.way {
            Way::TokenExchange(remote) | Way::Assertion(remote, ..) => Ok(&remote.client),
            Way::Mint(_) => Err(Refusal::Unsupported),
        }
    }
}
