//! A session that was made without a sign-in and the one whose place it takes: whoever signs out meanwhile stays signed out, and
//! what is on its way with the one before is answered.

use tracing::debug;

use crate::auth::gate::moved::Earlier;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::identity::CanonicalSubject;
use crate::session::Created;
use crate::session::Restored;
use crate::store::StoreError;

impl Logins {
    /// Whether a session that was made without a sign-in takes the place of the one that its person still holds, which ends as
    /// soon as the requests are answered that are on their way with it. Nobody who signs out meanwhile, here or at another
    /// instance, is signed in by it: `false`, and nobody may get its cookie.
    pub(super) async fn takes_place(
        &self,
        ask: &Ask<'_>,
        person: &CanonicalSubject,
        new: &Created,
    ) -> Result<bool, StoreError> {
        let sessions = &self.deps.sessions;
        let Some(earlier) = self.session_id(ask) else {
            // Of the old system itself.
            return match self.theirs_at_from(ask, person).await {
                Some(old) => sessions.takes_place(&old, &new.row, ask.now).await,
                None => Ok(false),
            };
        };
        let (row, held) = (earlier.row(), self.session(ask).await);
        if !sessions.takes_place(&row, &new.row, ask.now).await? {
            return Ok(false);
        }
        let revocations = &self.deps.revocations;
        let followed = held.as_ref().and_then(Restored::came_by);
        let followed = followed.map(|came_by| *came_by.follows());
        for before in [Some(row), followed].into_iter().flatten() {
            revocations.takes_over(&before, &new.row, ask.now).await?;
        }
        let led = sessions.leads_on(earlier, new, ask.now).await;
        // What was revoked a moment ago ends its row behind us, and says nothing of the one that is new.
        let holds = held.is_some_and(|held| self.holds(ask, &held));
        // Whoever signs out from here on finds the new one.
        let known = sessions.known(&row, ask.now).await?;
        if let (Ok(()), true, Some(known)) = (&led, holds, &known)
            && !known.rested
        {
            Earlier::of(&self.deps, row, new.row, ask.now).ends_soon();
            return Ok(true);
        }
        if let Err(error) = &led {
            debug!(%error, "What is open with a session ends with it.");
        }
        // Nobody would find it behind the new one, or it does not count: it ends now.
        let farewell = sessions.end(earlier, ask.now).await?;
        if let Err(error) = revocations.takes_over(&row, &new.row, ask.now).await {
            debug!(%error, "What was made of a session in its last moment ends by itself.");
        }
        Ok(farewell.is_some_and(|mut farewell| {
            self.revoke_at_provider(ask, &mut farewell);
            holds && !farewell.rested
        }))
    }

    /// Whether a session that was made without a sign-in has taken the place of the one that the browser sent: what was on its way
    /// with that is answered, and moves nothing.
    pub(super) async fn has_been_replaced(&self, ask: &Ask<'_>) -> bool {
        let Some(earlier) = self.session_id(ask) else {
            return false;
        };
        let successor = self.deps.sessions.took_place(&earlier.row(), ask.now).await;
        !matches!(successor, Ok(None))
    }

    /// Whether another session than `own` has just taken the place of what the browser holds.
    pub(super) async fn has_another_successor(
        &self,
        ask: &Ask<'_>,
        own: &[u8; 32],
    ) -> Result<bool, StoreError> {
        let before: Vec<[u8; 32]> = match self.session_id(ask) {
            Some(earlier) => vec![earlier.row()],
            None => self.old_digests(ask),
        };
        for before in before {
            let successor = self.deps.sessions.took_place(&before, ask.now).await?;
            if successor.is_some_and(|successor| successor != *own) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
