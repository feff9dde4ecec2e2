//! What a provider is told when a family is over: that its refresh token is. Nobody waits for it.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::providers::TokenClient;
use crate::revocation::Notice;
use crate::revocation::Notices;
use crate::revocation::Spent;
use crate::secret::Secret;
use crate::telemetry::Metrics;

/// Who tells them, with room of its own: what clients give back keeps no sign-out of a person from being told.
#[derive(Clone)]
pub(in crate::issuer) struct Farewells {
    notices: Arc<Notices>,
    background: Handle,
    metrics: Arc<Metrics>,
}

impl Farewells {
    pub(super) fn new(background: Handle, metrics: Arc<Metrics>) -> Self {
        Self {
            notices: Arc::default(),
            background,
            metrics,
        }
    }

    /// Has a provider revoke a refresh token of a client.
    pub(in crate::issuer) fn tell(
        &self,
        provider: &ProviderId,
        at: &Arc<TokenClient>,
        token: Secret<String>,
        now: UnixTime,
    ) {
        let notice = self.notice(provider, at, token, now);
        self.notices.send(notice, &self.background);
    }

    /// The same of one that may be presented again and again.
    pub(super) fn tell_once(
        &self,
        provider: &ProviderId,
        at: &Arc<TokenClient>,
        token: Secret<String>,
        now: UnixTime,
    ) {
        let notice = self.notice(provider, at, token, now);
        self.notices.send_once(notice, &self.background);
    }

    fn notice(
        &self,
        provider: &ProviderId,
        at: &Arc<TokenClient>,
        token: Secret<String>,
        now: UnixTime,
    ) -> Notice {
        let spent = Spent::Client(Arc::clone(at), token);
        Notice::new(provider, spent, &self.metrics, now)
    }
}
