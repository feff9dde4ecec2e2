//! What an owner gave out for a session is written into its row: it cannot be had again. Where somebody has ended the session
//! meanwhile, it is handed on, to be given back.

use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;
use tracing::warn;

use crate::providers::Refreshed;
use crate::secret::Secret;
use crate::session::renew::AskAgain;
use crate::session::renew::LOOK;
use crate::session::renew::Renewed;
use crate::session::renew::Round;
use crate::session::rows;
use crate::store::StoreError;

/// A store that does not take it for another reason than that it is away is offered it for 10 s.
const OFFER: Duration = Duration::from_secs(10);
/// From then on one that is away is offered it each 200 to 400 ms, for as long as the session may live.
const SELDOM: Duration = Duration::from_millis(200);

impl Round<'_> {
    /// Writes what the owner gave out. While the store is away it is kept here: who shows the owner what it has taken already
    /// loses the session, and with some owners whatever was issued with it.
    pub(super) async fn keep(&self, refreshed: &Refreshed) -> Result<Renewed, StoreError> {
        let (offered, mut told) = (Instant::now(), false);
        loop {
            let late = OFFER < offered.elapsed();
            match self.keep_once(refreshed).await {
                Ok(Some(renewed)) => return Ok(renewed),
                Ok(None) => {}
                Err(error) if self.content.ends <= self.at() => return Err(error),
                Err(error) if late && !error.is_of_the_link() => {
                    warn!(%error, "A renewed session could not be written; it may end.");
                    return Err(error);
                }
                Err(error) if late && !std::mem::replace(&mut told, true) => {
                    warn!(%error, "A renewed session waits for the store to come back; it ends if this instance does before.");
                }
                Err(error) => debug!(%error, "A renewed session is written again."),
            }
            let wait = if late { SELDOM } else { LOOK };
            tokio::time::sleep(self.sessions.jittered(wait, wait)).await;
        }
    }

    /// `None`: a use was written meanwhile; once more.
    async fn keep_once(&self, refreshed: &Refreshed) -> Result<Option<Renewed>, StoreError> {
        let Some(mut opened) = self.read().await? else {
            let left = self.left(refreshed).await?;
            self.live.has_gone();
            return Ok(Some(Renewed::Ended { left }));
        };
        // Somebody else has renewed it, and goes on with what they were given: with some owners that ends with what we were.
        if self.content.revision < opened.body.revision {
            return self.settle(&opened).map(Some);
        }
        if !opened.body.renew(&opened.handle, refreshed, self.at()) {
            warn!("A refresh spoke of somebody else; the session ends.");
            let row = &self.live.row;
            let farewell = self.sessions.end_row(&self.active, row, self.at()).await?;
            let own = farewell.and_then(|farewell| farewell.refresh_token);
            let left = given(refreshed).or(own);
            return Ok(Some(Renewed::Ended { left }));
        }
        if let Some(stands_for) = self.again.and_then(AskAgain::stands_for) {
            opened.body.stands_for = Some(stands_for);
        }
        if let Some(token) = &refreshed.refresh_token {
            opened.handle.refresh_token = Some(token.expose().clone());
        }
        let written = self.write(&opened).await?;
        if written {
            self.settle(&opened).map(Some)
        } else {
            Ok(None)
        }
    }

    /// What nobody uses, where the session was ended meanwhile: whoever ended it has given back what it had until then, which
    /// is spent. Where it has come to its own end nobody has signed out, and with some owners more would end than is ours.
    async fn left(&self, refreshed: &Refreshed) -> Result<Option<Secret<String>>, StoreError> {
        let Some(token) = given(refreshed) else {
            return Ok(None);
        };
        let (row, now) = (&self.live.row, self.at());
        let found = self.sessions.store.get(rows::key(row), now).await?;
        let ended = match found {
            None => Some(now),
            // What is sealed under a key that we do not have may run elsewhere.
            Some(found) => rows::open_handle(&self.active.ring, row, &found.value)
                .and_then(|handle| handle.over()),
        };
        let by_somebody = ended.is_some_and(|ended| !self.live.has_run_out(ended));
        Ok(by_somebody.then_some(token))
    }
}

fn given(refreshed: &Refreshed) -> Option<Secret<String>> {
    let token = refreshed.refresh_token.as_ref()?;
    Some(Secret::new(token.expose().clone()))
}
