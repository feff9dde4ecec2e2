//! A session that takes the place of another without a sign-in, while somebody may be signing out of that other: the sign-out has
//! its way, whichever of the two comes first and at whichever instance.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::session::sessions::Sessions;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

/// The new session, or nothing where somebody has signed out; by the row of the session before, or the digest of one of an old
/// system.
const TABLE: &str = "handover";

/// A request that was on its way with the session before comes within this time.
const KEPT: Duration = Duration::from_mins(2);

/// How often it is tried to be the first.
const TRIES: u8 = 4;

impl Sessions {
    /// Notes that a session takes the place of another one; `false`: somebody has just signed out of that, or another took its
    /// place.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn takes_place(
        &self,
        before: &[u8; 32],
        new: &[u8; 32],
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let (key, until) = (key(before), now + KEPT);
        let noted = self
            .store
            .compare_and_swap(key, Expect::Absent, new, until, now);
        noted.await
    }

    /// The session that has just taken the place of another one.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn took_place(
        &self,
        before: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<[u8; 32]>, StoreError> {
        let found = self.store.get(key(before), now).await?;
        Ok(found.and_then(|found| (&*found.value).try_into().ok()))
    }

    /// Notes that somebody signs out of a session, so that no other takes its place; the one that had taken it already.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn has_left(
        &self,
        before: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<[u8; 32]>, StoreError> {
        for _ in 0..TRIES {
            let (key, until) = (key(before), now + KEPT);
            let noted = self
                .store
                .compare_and_swap(key, Expect::Absent, b"", until, now);
            if noted.await? {
                return Ok(None);
            }
            if let Some(found) = self.store.get(key, now).await? {
                return Ok((&*found.value).try_into().ok());
            }
        }
        Err(StoreError::Timeout)
    }
}

const fn key(before: &[u8; 32]) -> Key<'_> {
    Key {
        table: TABLE,
        key: before,
    }
}
