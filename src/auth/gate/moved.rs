//! Sessions that came to the new side without a sign-in: what they follow ends a moment later, what is open with that goes on with
//! them, and whoever gave one for an exchange is asked for it again in the same way.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;

use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::gate::Deps;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::clock::UnixTime;
use crate::exchange::Exchange;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::Refusal;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Refreshed;
use crate::revocation::Notice;
use crate::revocation::Spent;
use crate::secret::Secret;
use crate::session::AskAgain;
use crate::session::CameBy;
use crate::session::Restored;
use crate::store::StoreError;

/// A browser with several tabs has requests on their way with the cookie of the old session when it gets the new one: they are
/// answered as before. An answer that forgets the cookie would forget the new one, which has its name.
const ON_THEIR_WAY: Duration = Duration::from_secs(5);

/// How often it is looked meanwhile whether the new one is over: nobody is to be let in by the old one then.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is tried to end a session; after that the store knows that it is owed (`revocation/owed`).
const TRIES: usize = 12;

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

    /// The cookie of the session that has taken the place of the presented one, which is over; `None`: none has. Whether that one
    /// counts, and is the same person's, is still to be asked.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn moved_to(
        &self,
        presented: &Presented<'_>,
        now: UnixTime,
    ) -> Result<Option<Secret<String>>, AuthError> {
        let Some(id) = presented.session() else {
            return Ok(None);
        };
        let found = self.deps.sessions.successor(id, now).await;
        found.map_err(|error| AuthError::store(&error, CredentialClass::Session))
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
        let theirs = presented.without_ours().and_then(|theirs| {
            let owner = Arc::clone(theirs.owner().ok()?.owner);
            Some((owner, theirs.credential()?))
        });
        let theirs = theirs.filter(|_| !Self::is_lived_by(asked));
        let earlier = Earlier {
            row: *follows,
            theirs: theirs.filter(|(owner, _)| owner.ends_sessions()),
            new: *restored.row(),
            exchanged: Some(restored.clone()),
            now: asked.now,
            deps: self.deps.clone(),
        };
        earlier.ends_soon();
    }

    /// Whether an application lives by the cookie of the old system, as long as it is there: the upstream of this one or of another
    /// gets it, or another one does not move. In one that moves as well its person is moved, too.
    fn is_lived_by(asked: &Asked<'_>) -> bool {
        asked.policy.forwards_credentials() || asked.policy.others().any(|plan| plan.is_none())
    }
}

/// A session whose place another one has taken.
pub(in crate::auth) struct Earlier {
    row: [u8; 32],
    /// The session of the old system that came along with the first use of the new one.
    theirs: Option<(Arc<dyn Provider>, Credential)>,
    /// The row of the new one,
    new: [u8; 32],
    /// and itself, where its next use may try again what failed.
    exchanged: Option<Restored>,
    now: UnixTime,
    deps: Deps,
}

impl Earlier {
    /// Of a browser that has got the new session by coming back from the new provider.
    pub(in crate::auth) fn of(deps: &Deps, row: [u8; 32], new: [u8; 32], now: UnixTime) -> Self {
        Self {
            row,
            theirs: None,
            new,
            exchanged: None,
            now,
            deps: deps.clone(),
        }
    }

    /// Ends it once the requests are answered that were on their way with it; with the new one, if that is over sooner.
    pub(in crate::auth) fn ends_soon(self) {
        // Where too many wait, this one does not.
        let room = WAITING.try_acquire().ok();
        let background = self.deps.background.clone();
        background.spawn(async move {
            let began = Instant::now();
            // Whoever came back from the provider has had it noted before they were given the new one.
            if self.exchanged.is_some() {
                let owed = self.deps.sessions.owes_end(&self.row, &self.new, self.now);
                if let Err(error) = owed.await {
                    debug!(%error, "A session of the old side that was exchanged ends unless this process ends first.");
                }
            }
            while room.is_some() && began.elapsed() < ON_THEIR_WAY {
                tokio::time::sleep(LOOK).await;
                let known = self.deps.sessions.known(&self.new, self.now + began.elapsed());
                if matches!(known.await, Ok(None)) {
                    break;
                }
            }
            drop(room);
            for _ in 0..TRIES {
                match self.end(self.now + began.elapsed()).await {
                    Ok(()) => return,
                    Err(error) if self.exchanged.is_some() => {
                        debug!(%error, "A session of the old side that was exchanged ends with the next use of the new one.");
                        break;
                    }
                    Err(error) => {
                        debug!(%error, "A session whose place another one has taken could not be ended yet.");
                        tokio::time::sleep(ON_THEIR_WAY).await;
                    }
                }
            }
            if let Some(exchanged) = &self.exchanged {
                exchanged.was_not_used();
            }
        });
    }

    async fn end(&self, now: UnixTime) -> Result<(), StoreError> {
        self.ends_row(now).await?;
        self.deps.sessions.owes_nothing(&self.row).await
    }

    async fn ends_row(&self, now: UnixTime) -> Result<(), StoreError> {
        let deps = &self.deps;
        // Another instance was first, or a sign-out; what that ended, the new one is told by its marks.
        let Some(farewell) = deps.sessions.end_replaced(&self.row, now).await? else {
            return Ok(());
        };
        // What was made of it for the last requests.
        let made = deps.revocations.takes_over(&self.row, &self.new, now);
        if let Err(error) = made.await {
            debug!(%error, "What was made of a session in its last moment ends by itself.");
        }
        let Some(provider) = deps.providers.named(&farewell.provider) else {
            return Ok(());
        };
        let token = farewell.refresh_token;
        let token = token.map(|token| Spent::Token(Arc::clone(provider), token));
        let theirs = self.theirs.clone();
        let theirs = theirs
            .filter(|(owner, _)| owner.id() == provider.id())
            .map(|(owner, credential)| Spent::Session(owner, credential));
        for spent in token.into_iter().chain(theirs) {
            let notice = Notice::new(provider.id(), spent, &deps.reports.metrics, now);
            deps.notices.send(notice, &deps.background);
        }
        Ok(())
    }
}
