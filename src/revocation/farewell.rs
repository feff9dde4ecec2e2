//! Sessions that somebody has ended, and what is erased of them.

use std::time::Duration;

use tracing::debug;

use crate::clock::UnixTime;
use crate::identity::Mark;
use crate::revocation::list::Asked;
use crate::revocation::list::ListError;
use crate::revocation::list::Revocations;
use crate::revocation::logins::Login;
use crate::revocation::record::Source;
use crate::revocation::record::Target;
use crate::revocation::record::hex;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

/// Sessions of old systems of whose end those are told, by [`crate::session::OldSession::digest`].
const TOLD: &str = "old_told";

/// An old system is told of the end of its session for 90 minutes at most; this is longer.
const UNTIL_HEARD: Duration = Duration::from_hours(2);

impl Revocations {
    /// Ends a session whose row the store could not remove, and the one that it was given for. Nothing is asked of the store
    /// before they are over here.
    ///
    /// # Errors
    ///
    /// With [`ListError::Store`] they are over in this process, and everywhere when the store takes it.
    pub(crate) async fn end_both(
        &self,
        row: &[u8; 32],
        before: Option<&[u8; 32]>,
    ) -> Result<(), ListError> {
        let asked = Asked {
            target: Target::Session { session: hex(row) },
            source: Source::Logout,
            actor: String::new(),
            reason: String::new(),
            keep: None,
            provider: None,
        };
        let rows = [Some(row), before].into_iter().flatten();
        let marks = rows.map(Mark::session).collect();
        self.revoke_marks(asked, marks).await.map(drop)
    }

    /// Ends what was given for a session that is gone.
    ///
    /// # Errors
    ///
    /// As [`Self::end_both`].
    pub(crate) async fn end_what_follows(&self, row: &[u8; 32]) -> Result<(), ListError> {
        let asked = Asked {
            target: Target::Session { session: hex(row) },
            source: Source::Logout,
            actor: String::new(),
            reason: String::new(),
            keep: None,
            provider: None,
        };
        // Its rows end by themselves: nothing was issued to it that would have to be given back.
        self.revoke_only(asked).await.map(drop)
    }

    /// Ends one session of an old system, by [`crate::session::OldSession::digest`]: its cookie counts nowhere any more,
    /// whatever was said of it a moment ago, for as long as its system may not have heard of it.
    ///
    /// # Errors
    ///
    /// As [`Self::end_both`].
    pub(crate) async fn end_old_session(&self, digest: &[u8; 32]) -> Result<(), ListError> {
        let asked = Asked {
            target: Target::Session {
                session: hex(digest),
            },
            source: Source::Logout,
            actor: String::new(),
            reason: String::new(),
            keep: Some(UNTIL_HEARD),
            provider: None,
        };
        // It has no row here that would have to be found.
        self.revoke_only(asked).await.map(drop)
    }

    /// Whether it is on whoever asks to tell an old system that one of its sessions is over; `false`: another instance does, or
    /// has. One that nobody knows of is told all the same: once more does no harm.
    pub(crate) async fn is_first_to_tell(&self, digest: &[u8; 32], now: UnixTime) -> bool {
        let key = Key {
            table: TOLD,
            key: digest,
        };
        let until = now + UNTIL_HEARD;
        let noted = self
            .store
            .compare_and_swap(key, Expect::Absent, b"", until, now);
        noted.await.unwrap_or_else(|error| {
            debug!(%error, "Another instance may tell an old system the same.");
            true
        })
    }

    /// Erases what is known of a session of a person, and the session if it runs.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn erase(&self, login: &Login) -> Result<(), StoreError> {
        match login.row() {
            Some(row) => self.sessions.erase(&row).await,
            None => Ok(()),
        }
    }
}
