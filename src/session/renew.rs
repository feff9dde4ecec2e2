//! Renewal: a session is confirmed at its owner by its refresh token, once for all requests and all instances.
//!
//! Whoever holds the lease asks; the others wait and take what it wrote. A refusal ends the session, unless somebody else has
//! renewed it meanwhile; an outage leaves it as it is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;
use tracing::info;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Refreshed;
use crate::secret::Secret;
use crate::session::body::Content;
use crate::session::live::Live;
use crate::session::restored::Restored;
use crate::session::rows::Opened;
use crate::session::sessions::Active;
use crate::session::sessions::Sessions;
use crate::store::StoreError;

/// A lease that is not renewed ends after 10 s: the instance that held it is gone.
const LEASE: Duration = Duration::from_secs(10);
/// It is renewed each 3 s for as long as the owner takes.
const KEEP: Duration = Duration::from_secs(3);
/// Whoever waits for another instance waits for at most 20 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// And looks each 40 to 80 ms.
pub(super) const LOOK: Duration = Duration::from_millis(40);
/// After an outage the owner is asked again 2 s later, or when it says, at most 5 min later.
const AGAIN: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// How the owner of a session is asked for it again, where that is not by the refresh token of a login.
#[async_trait]
pub(crate) trait AskAgain: Send + Sync {
    /// Asks. The caller compares whom it is about.
    ///
    /// # Errors
    ///
    /// A refusal ends the session; an outage says nothing of it.
    async fn ask(&self, now: UnixTime) -> Result<Refreshed, ProviderError>;

    /// The digest of the cookie by which it asks: the session stands for that one from then on.
    fn stands_for(&self) -> Option<[u8; 32]> {
        None
    }
}

/// What became of a renewal.
#[derive(Debug)]
pub(crate) enum Renewed {
    /// The session, as it is now.
    Session(Restored),
    /// It is over.
    Ended {
        /// What the owner has given out for it meanwhile, and nobody uses: to be revoked there (RFC 7009).
        left: Option<Secret<String>>,
    },
    /// No answer.
    Away {
        /// What kind of outage.
        outage: Outage,
        /// When to ask again.
        retry_after: Option<Duration>,
    },
}

/// A lease that is renewed until this is dropped.
struct Held<'a> {
    sessions: &'a Sessions,
    name: String,
    holder: String,
    keeper: JoinHandle<()>,
}

impl Held<'_> {
    async fn release(self) {
        self.keeper.abort();
        if let Err(error) = self.sessions.store.release(&self.name, &self.holder).await {
            debug!(%error, "A lease ends by itself.");
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// A renewal under way: everything that its steps need.
pub(super) struct Round<'a> {
    pub(super) sessions: &'a Sessions,
    pub(super) active: Arc<Active>,
    pub(super) live: &'a Live,
    pub(super) content: &'a Content,
    pub(super) again: Option<&'a dyn AskAgain>,
    now: UnixTime,
    began: Instant,
}

impl Sessions {
    /// A span and up to `more` on top.
    pub(super) fn jittered(&self, span: Duration, more: Duration) -> Duration {
        let mut byte = [0];
        self.entropy.fill(&mut byte);
        let [byte] = byte;
        span + more * u32::from(byte) / 255
    }

    /// Renews a session at its owner, or takes what another request or instance has renewed. Called on the background
    /// runtime, and carried to its end: a rotated token must not get lost with a client that goes away.
    ///
    /// # Errors
    ///
    /// An outage of the store.
    pub(crate) async fn renew(
        &self,
        restored: &Restored,
        (owner, again): (&Arc<dyn Provider>, Option<&dyn AskAgain>),
        now: UnixTime,
    ) -> Result<Renewed, StoreError> {
        let round = Round {
            sessions: self,
            active: self.active.load_full(),
            live: &restored.live,
            content: &restored.content,
            again,
            now,
            began: Instant::now(),
        };
        let only = tokio::time::timeout(PATIENCE, restored.live.renewing.lock());
        let Ok(_only) = only.await else {
            // What was given out for it is offered to a store that is away.
            return Ok(away(Outage::Shed, None));
        };
        let current = self.registry.find(&restored.live.row);
        if let Some(live) = current
            && let Some(content) = live.content().map(Arc::clone)
            && round.content.revision < content.revision
            && live.count_use(round.at())
        {
            return Ok(Renewed::Session(Restored { live, content }));
        }
        round.run(restored, owner).await
    }
}

impl Round<'_> {
    pub(super) fn at(&self) -> UnixTime {
        self.now + self.began.elapsed()
    }

    pub(super) async fn read(&self) -> Result<Option<Opened>, StoreError> {
        let bytes = self.content.id.expose();
        self.sessions
            .read(&self.active, bytes, &self.live.row, self.at())
            .await
    }

    async fn run(
        &self,
        restored: &Restored,
        owner: &Arc<dyn Provider>,
    ) -> Result<Renewed, StoreError> {
        if self.again.is_none() && owner.login().is_none() {
            return Ok(Renewed::Session(restored.clone()));
        }
        let held = loop {
            let Some(opened) = self.read().await? else {
                return Ok(self.over());
            };
            if let Some(known) = self.known(&opened)? {
                return Ok(known);
            }
            if let Some(held) = self.lease().await? {
                break held;
            }
            if PATIENCE < self.began.elapsed() {
                // Somebody else was to ask: nobody knows anything of the provider.
                return Ok(away(Outage::Shed, None));
            }
            tokio::time::sleep(self.sessions.jittered(LOOK, LOOK)).await;
        };
        // Whoever held the lease before may have been done between the look and the lease.
        let outcome = match self.read().await {
            Ok(Some(opened)) => match self.known(&opened)? {
                Some(known) => Ok(known),
                None => match self.ask(owner, &opened).await {
                    Some(answer) => self.take(answer).await,
                    None => Ok(Renewed::Session(restored.clone())),
                },
            },
            Ok(None) => Ok(self.over()),
            Err(error) => Err(error),
        };
        held.release().await;
        outcome
    }

    /// Asks the owner; `None`: there is nothing to ask with.
    async fn ask(
        &self,
        owner: &Arc<dyn Provider>,
        opened: &Opened,
    ) -> Option<Result<Refreshed, ProviderError>> {
        if let Some(again) = self.again {
            return Some(again.ask(self.at()).await);
        }
        let token = Secret::new(opened.handle.refresh_token.clone()?);
        Some(owner.login()?.refresh(&token, self.at()).await)
    }

    /// What is known without asking: somebody has renewed it, or the owner asked not to be asked yet.
    fn known(&self, opened: &Opened) -> Result<Option<Renewed>, StoreError> {
        if self.content.revision < opened.body.revision {
            return self.settle(opened).map(Some);
        }
        let retry = UnixTime::from_millis(opened.body.retry);
        let time = self.at();
        if time < retry {
            self.live.wait(retry);
            return Ok(Some(away(Outage::RateLimited, Some(retry.since(time)))));
        }
        Ok(None)
    }

    async fn lease(&self) -> Result<Option<Held<'_>>, StoreError> {
        let name = format!("renew:{}", URL_SAFE_NO_PAD.encode(self.live.row));
        let holder = self.sessions.entropy.token();
        let store = &self.sessions.store;
        if !store.lease(&name, &holder, LEASE, self.at()).await? {
            return Ok(None);
        }
        let keeper = tokio::spawn({
            let (store, name, holder) = (Arc::clone(store), name.clone(), holder.clone());
            let (now, began) = (self.now, self.began);
            async move {
                loop {
                    tokio::time::sleep(KEEP).await;
                    let renewed = store
                        .lease(&name, &holder, LEASE, now + began.elapsed())
                        .await;
                    if let Err(error) = renewed {
                        debug!(%error, "A lease could not be renewed.");
                    }
                }
            }
        });
        Ok(Some(Held {
            sessions: self.sessions,
            name,
            holder,
            keeper,
        }))
    }

    /// What the owner said.
    async fn take(&self, answer: Result<Refreshed, ProviderError>) -> Result<Renewed, StoreError> {
        match answer {
            Ok(refreshed) => self.keep(&refreshed).await,
            Err(ProviderError::Rejected(refusal)) => {
                // Somebody without the lease may have used the token: what is in the row now decides.
                let Some(opened) = self.read().await? else {
                    return Ok(self.over());
                };
                if self.content.revision < opened.body.revision {
                    return self.settle(&opened);
                }
                info!(reason = %refusal, "The owner of a session refused to renew it; it ends.");
                let row = &self.live.row;
                self.sessions.end_row(&self.active, row, self.at()).await?;
                Ok(OVER)
            }
            Err(ProviderError::Unavailable {
                outage,
                retry_after,
            }) => {
                let wait = retry_after.unwrap_or(AGAIN).min(LONGEST_WAIT);
                let wait = self.sessions.jittered(wait, wait / 10);
                self.postpone(self.at() + wait).await;
                Ok(away(outage, Some(wait)))
            }
        }
    }

    pub(super) async fn write(&self, opened: &Opened) -> Result<bool, StoreError> {
        let (bytes, row) = (self.content.id.expose(), &self.live.row);
        self.sessions
            .write_again(&self.active, bytes, row, opened, self.at())
            .await
    }

    /// Nobody asks before `until`, in whatever instance.
    async fn postpone(&self, until: UnixTime) {
        self.live.wait(until);
        let written = async {
            if let Some(mut opened) = self.read().await? {
                opened.body.retry = opened.body.retry.max(until.as_millis());
                self.write(&opened).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = written.await {
            debug!(%error, "Other instances do not know that an owner is away.");
        }
    }

    /// The session that a row describes, in the place of the one that was in use.
    pub(super) fn settle(&self, opened: &Opened) -> Result<Renewed, StoreError> {
        let (bytes, row) = (self.content.id.expose(), &self.live.row);
        loop {
            let read = self.at();
            let live = self
                .sessions
                .take_in(&self.active, bytes, row, opened, read)?;
            let content = live.content().map(Arc::clone);
            if let Some(content) = content
                && live.count_use(self.at())
            {
                return Ok(Renewed::Session(Restored { live, content }));
            }
            if !live.is_superseded() {
                return Ok(OVER);
            }
            // It was renewed once more this moment, which is not its end.
        }
    }

    pub(super) fn over(&self) -> Renewed {
        self.live.has_gone();
        OVER
    }
}

/// It is over, and nothing is left of it.
const OVER: Renewed = Renewed::Ended { left: None };

const fn away(outage: Outage, retry_after: Option<Duration>) -> Renewed {
    Renewed::Away {
        outage,
        retry_after,
    }
}
