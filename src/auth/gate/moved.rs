//! A session that came to the new side by an exchange: what it follows ends with its first use, and its owner is asked for it
//! again in the same way.

use std::sync::Arc;

use async_trait::async_trait;
use tracing::debug;

use crate::auth::extract::Presented;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::clock::UnixTime;
use crate::exchange::Exchange;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::providers::Refreshed;
use crate::revocation::Notice;
use crate::revocation::Spent;
use crate::session::AskAgain;
use crate::session::CameBy;
use crate::session::Restored;

/// Asks the new provider as it was asked the first time.
struct OnceMore {
    /// `None`: the configuration has no such exchange any more.
    exchange: Option<Arc<Exchange>>,
    identity: Option<Arc<Identity>>,
    canonical: CanonicalSubject,
    ends: UnixTime,
}

#[async_trait]
impl AskAgain for OnceMore {
    async fn ask(&self, now: UnixTime) -> Result<Refreshed, ProviderError> {
        let way = self.exchange.as_ref().zip(self.identity.as_ref());
        // Nobody can say any more whether the account may still be used.
        let (exchange, identity) = way.ok_or(Refusal::NotAccepted)?;
        let who = (Arc::clone(identity), self.canonical.clone());
        let (proof, lasts) = exchange.vouched(who, self.ends, now).await?;
        Ok(Refreshed {
            authenticated: Some(proof),
            id_token: None,
            refresh_token: None,
            lasts,
        })
    }
}

impl Gate {
    /// How the owner of a session is asked for it again, where that is not by a refresh token.
    pub(super) fn once_more(
        &self,
        asked: &Asked<'_>,
        restored: &Restored,
    ) -> Option<Arc<dyn AskAgain>> {
        let came_by = restored.came_by()?;
        let exchange = asked.policy.session_exchange();
        let exchange = exchange.filter(|exchange| exchange.name() == came_by.exchange);
        Some(Arc::new(OnceMore {
            exchange: exchange.map(Arc::clone),
            identity: came_by.identity(),
            canonical: restored.canonical().clone(),
            ends: restored.ends(),
        }))
    }

    /// The browser has the session of the new side: that of the old one is over, here and there.
    pub(super) async fn has_arrived(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
        restored: &Restored,
    ) {
        let Some(follows) = restored.first_use().map(CameBy::follows) else {
            return;
        };
        let farewell = match self.deps.sessions.end_known(follows, asked.now).await {
            Ok(Some(farewell)) => farewell,
            // Another instance was first.
            Ok(None) => return,
            Err(error) => {
                debug!(%error, "A session of the old side that was exchanged ends by itself.");
                return;
            }
        };
        let forgotten = self
            .deps
            .revocations
            .forget(restored.canonical(), follows)
            .await;
        if let Err(error) = forgotten {
            debug!(%error, "The note of a session that has ended stays until it ends by itself.");
        }
        let Some(provider) = self.deps.providers.named(&farewell.provider) else {
            return;
        };
        let token = farewell.refresh_token;
        let token = token.map(|token| Spent::Token(Arc::clone(provider), token));
        // An application that lives by the cookie of the old system keeps that session.
        let theirs = presented
            .without_ours()
            .filter(|_| provider.ends_sessions() && !asked.policy.forwards_credentials());
        let owned = |owner: &str| owner == provider.id().as_str();
        let session = theirs.and_then(|theirs| {
            let owner = theirs.owner().ok()?.owner;
            let credential = theirs.credential()?;
            owned(owner.id().as_str()).then(|| Spent::Session(Arc::clone(provider), credential))
        });
        for spent in token.into_iter().chain(session) {
            let metrics = &self.deps.reports.metrics;
            let notice = Notice::new(provider.id(), spent, metrics, asked.now);
            self.deps.notices.send(notice, &self.deps.background);
        }
    }
}
