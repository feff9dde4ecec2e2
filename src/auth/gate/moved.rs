//! A session that came to the new side by an exchange: what it follows ends with its first use, and its owner is asked for it
//! again in the same way.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tracing::debug;

use crate::auth::extract::Presented;
use crate::auth::gate::Deps;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::clock::UnixTime;
use crate::exchange::Exchange;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::Identity;
use crate::identity::Refusal;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Refreshed;
use crate::revocation::Notice;
use crate::revocation::Spent;
use crate::session::AskAgain;
use crate::session::CameBy;
use crate::session::Restored;

/// A browser with several tabs has requests on their way with the cookie of the old session when it gets the new one: they are
/// answered as before. An answer that forgets the cookie would forget the new one, which has its name.
const ON_THEIR_WAY: Duration = Duration::from_secs(5);

/// Sessions that wait for it, in this process: 4 096.
static WAITING: Semaphore = Semaphore::const_new(4_096);

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

    /// The browser has the session of the new side: that of the old one is over, here and there, once the requests are answered
    /// that were on their way with it.
    pub(super) fn has_arrived(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
        restored: &Restored,
    ) {
        let Some(follows) = restored.first_use().map(CameBy::follows) else {
            return;
        };
        // An application that lives by the cookie of the old system keeps that session.
        let theirs = presented
            .without_ours()
            .filter(|_| !asked.policy.forwards_credentials());
        let theirs = theirs.and_then(|theirs| {
            let owner = Arc::clone(theirs.owner().ok()?.owner);
            Some((owner, theirs.credential()?))
        });
        let earlier = Earlier {
            follows: *follows,
            theirs: theirs.filter(|(owner, _)| owner.ends_sessions()),
            new: restored.clone(),
            now: asked.now,
            deps: self.deps.clone(),
        };
        // Where too many wait, this one does not.
        let room = WAITING.try_acquire().ok();
        self.deps.background.spawn(async move {
            if room.is_some() {
                tokio::time::sleep(ON_THEIR_WAY).await;
            }
            drop(room);
            earlier.end().await;
        });
    }
}

/// A session that was exchanged for another, which has been used.
struct Earlier {
    follows: [u8; 32],
    /// The session of the old system that came along with the first use of the new one.
    theirs: Option<(Arc<dyn Provider>, Credential)>,
    new: Restored,
    now: UnixTime,
    deps: Deps,
}

impl Earlier {
    async fn end(self) {
        let (deps, now) = (&self.deps, self.now + ON_THEIR_WAY);
        let farewell = match deps.sessions.end_known(&self.follows, now).await {
            Ok(Some(farewell)) => farewell,
            // Another instance was first, or a sign-out; what that ended, the new one is told by its marks.
            Ok(None) => return,
            Err(error) => {
                debug!(%error, "A session of the old side that was exchanged ends with the next use of the new one.");
                self.new.was_not_used();
                return;
            }
        };
        let Some(provider) = deps.providers.named(&farewell.provider) else {
            return;
        };
        let token = farewell.refresh_token;
        let token = token.map(|token| Spent::Token(Arc::clone(provider), token));
        let theirs = self
            .theirs
            .filter(|(owner, _)| owner.id() == provider.id())
            .map(|(owner, credential)| Spent::Session(owner, credential));
        for spent in token.into_iter().chain(theirs) {
            let notice = Notice::new(provider.id(), spent, &deps.reports.metrics, now);
            deps.notices.send(notice, &deps.background);
        }
    }
}
