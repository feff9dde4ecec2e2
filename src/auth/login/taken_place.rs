//! A session that was made without a sign-in and the one whose place it takes: whoever signs out meanwhile stays signed out, and
//! what is on its way with the one before is answered.

use tracing::debug;
use tracing::warn;

use crate::auth::gate::moved::Earlier;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::session::Created;
use crate::session::Restored;
use crate::session::SessionId;
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
            // Whatever becomes of this process, or of the store in a moment.
            if let Err(error) = sessions.owes_end(&row, &new.row, ask.now).await {
                // It stays, and may have been written down for all that.
                if let Err(error) = sessions.owes_nothing(&row).await {
                    warn!(%error, "A session stays, but that it is to end may be written down: its person may have to sign in again within minutes.");
                }
                return Err(error);
            }
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

    /// Ends the session that a browser had when its person, or another, has signed in anew; what is open with it goes on with the new
    /// one of the same person.
    pub(super) async fn ends_the_one_before(
        &self,
        ask: &Ask<'_>,
        earlier: SessionId<'_>,
        (canonical, created): (&CanonicalSubject, &Created),
    ) {
        let held = self.session(ask).await;
        let theirs = |held: &Restored| *held.canonical() == *canonical;
        let same = held.as_ref().is_some_and(theirs);
        if same {
            self.leads_on(ask, earlier, created).await;
        }
        let followed = held.as_ref().and_then(Restored::came_by);
        let followed = followed.map(|came_by| *came_by.follows());
        match self.deps.sessions.end(earlier, ask.now).await {
            Ok(Some(mut farewell)) => {
                self.revoke_at_provider(ask, &mut farewell);
                let (row, before) = (farewell.row, farewell.follows.or(followed));
                if !self.ends_exchanged(ask, row, before).await {
                    warn!(
                        "What an earlier session of a browser was given for could not be ended: it is revoked."
                    );
                    self.is_over_here(row, before).await;
                }
                for before in [Some(farewell.row), followed].into_iter().flatten() {
                    let made = (&before, &created.row);
                    self.hands_on_what_was_made(made, same, ask.now).await;
                }
            }
            Ok(None) => {}
            Err(error) => {
                // What was to go on with the new one ends with it: better than that anybody goes on with the one before.
                warn!(%error, "An earlier session of a browser could not be ended: it is revoked.");
                self.is_over_here(earlier.row(), followed).await;
            }
        }
    }

    /// What is open with the session of before goes on with the new one of the same person.
    async fn leads_on(&self, ask: &Ask<'_>, earlier: SessionId<'_>, new: &Created) {
        let sessions = &self.deps.sessions;
        match sessions.leads_on(earlier, new, ask.now).await {
            Ok(()) => sessions.is_replaced(&earlier.row()),
            Err(error) => debug!(%error, "What is open with a session ends with it."),
        }
    }

    /// What upstreams got for the session that a sign-in has ended goes on with the new one, if that is the same person's, and is
    /// over otherwise.
    async fn hands_on_what_was_made(
        &self,
        (before, new): (&[u8; 32], &[u8; 32]),
        same: bool,
        now: UnixTime,
    ) {
        if same {
            match self.deps.revocations.takes_over(before, new, now).await {
                Ok(()) => return,
                Err(error) => {
                    warn!(%error, "What upstreams got for an earlier session ends with it.");
                }
            }
        }
        self.ends_what_was_made(before, now).await;
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
